"""Whether a classifier is as sure as it is right."""

from typing import Any

import numpy as np

from rexnet.evaluation.predictions import Predictions
from rexnet.evaluation.statistics import calibration_error, probabilities_of, reliability_bins
from rexnet.report.plots import draw_reliability


def describe_calibration(predictions: Predictions) -> dict[str, Any]:
    """The reliability diagram and what it says in a sentence."""
    bins = reliability_bins(probabilities_of(predictions.logits), predictions.labels)
    filled = bins.images > 0
    weights = bins.images[filled] / bins.images.sum()
    confidence = float((bins.confidence[filled] * weights).sum())
    accuracy = float((bins.accuracy[filled] * weights).sum())
    sentence = (
        f"On average the network is {confidence:.1f} % sure of its answer and right in {accuracy:.1f} % "
        f"({'too sure' if confidence > accuracy else 'not sure enough'}); the expected calibration error is "
        f"{calibration_error(bins):.1f} % ({len(bins.images)} bins)."
    )
    shares = [np.nan_to_num(values / 100) for values in (bins.confidence, bins.accuracy)]
    svg = draw_reliability(shares[0], shares[1], bins.images, f"Reliability diagram. {sentence}")
    return {"sentence": sentence, "svg": svg}
