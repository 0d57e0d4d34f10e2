"""Whether a classifier is as sure as it is right."""

from pathlib import Path
from typing import Any

import numpy as np

from rexnet.checkpoints.temperature import fitted_where, load_temperature
from rexnet.errors import CheckpointError
from rexnet.figures.svg_plots import draw_reliability
from rexnet.metrics.predictions import Predictions
from rexnet.metrics.statistics import calibration_error, probabilities_of, reliability_bins, summarise
from rexnet.report.record import Fault

LEAST_GAP = 0.05  # percent; smaller ones do not show


def describe_calibration(
    predictions: Predictions, checkpoint: Path, weights: str
) -> tuple[dict[str, Any], list[Fault]]:
    """The reliability diagram and what it says in words, also of the temperature that is kept beside a checkpoint.

    Beside it what is to be said of a temperature that cannot be read.
    """
    bins = reliability_bins(probabilities_of(predictions.logits), predictions.labels)
    filled = bins.images > 0
    share = bins.images[filled] / bins.images.sum()
    confidence = float((bins.confidence[filled] * share).sum())
    accuracy = float((bins.accuracy[filled] * share).sum())
    verdict = "too sure" if confidence > accuracy else "not sure enough"
    if abs(confidence - accuracy) < LEAST_GAP:
        verdict = "as sure as right"
    sentence = (
        f"On average the network is {confidence:.1f} % sure of its answer and right in {accuracy:.1f} % "
        f"({verdict}); the expected calibration error is "
        f"{calibration_error(bins):.1f} % ({len(bins.images)} bins)."
    )
    shares = [np.nan_to_num(values / 100) for values in (bins.confidence, bins.accuracy)]
    rows = zip(bins.confidence[filled], bins.accuracy[filled], bins.images[filled], strict=True)
    words = "; ".join(f"{sure:.0f} % sure: {right:.0f} % right, {images:,} images" for sure, right, images in rows)
    svg = draw_reliability(shares[0], shares[1], bins.images, f"Reliability diagram. {words}")
    faults = []
    try:
        sentence += _describe_temperature(predictions, checkpoint, weights)
    except CheckpointError as error:
        faults.append(Fault("calibration", str(error).replace(f"{checkpoint.parent}/", f"{checkpoint.parent.name}/")))
    return {"sentence": sentence, "svg": svg}, faults


def _describe_temperature(predictions: Predictions, checkpoint: Path, weights: str) -> str:
    temperature = load_temperature(checkpoint, weights) if checkpoint.is_file() else None
    if temperature is None:
        return ""
    error = summarise(predictions, temperature).ece
    where = fitted_where(checkpoint, weights)
    return f" Divided by its temperature, as predictions and exports are, it would be {error:.1f} % ({where})."
