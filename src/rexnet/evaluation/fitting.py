"""Fits a temperature or a threshold on a random half of the images, and reports the other half."""

import math

from rexnet.checkpoints.temperature import save_temperature, save_threshold
from rexnet.data.datasets.index import Split
from rexnet.errors import DataError
from rexnet.evaluation.inference import InferenceResult
from rexnet.evaluation.inference_model import InferenceModel
from rexnet.metrics.selective import choose_threshold
from rexnet.metrics.statistics import (
    TEMPERATURES,
    fit_temperature,
    is_among_top,
    probabilities_of,
    split_in_halves,
    wilson_interval,
)

FEW_TO_FIT = 100  # images for a temperature


def calibrate(
    model: InferenceModel, inference: InferenceResult, split: Split, is_stored: bool
) -> tuple[InferenceResult, float, str]:
    """Fits a temperature; returns the results of the other half, the temperature, and a remark on it.

    If `is_stored`, it is saved next to the checkpoint, if the model is one.

    Raises:
        DataError: the images do not determine a temperature.
    """
    predictions = inference.predictions
    first, second = split_in_halves(len(predictions.labels))
    fitting = predictions.select(first)
    fitted_on = f"{len(first)} of the {len(predictions.labels)} images of {split}, a random half"
    remark = f"temperature fitted on {fitted_on}; all results are of the other {len(second)}"
    if len(first) < FEW_TO_FIT:
        remark += f"; {len(first)} images are few, so it is uncertain: {2 * FEW_TO_FIT} in all would be right"
    temperature = fit_temperature(fitting.logits, fitting.labels) if len(first) else TEMPERATURES[0]
    if min(abs(temperature / limit - 1) for limit in TEMPERATURES) < 0.01:  # as if all answers are right
        raise DataError(f"--calibrate: the answers to {fitted_on}, determine no temperature; use more with --data")
    if is_stored and model.checkpoint is not None:
        saved = save_temperature(model.checkpoint, model.weights, temperature, fitted_on, len(first))
        remark += f"; saved in {saved}"
    return inference._replace(predictions=predictions.select(second), metrics={}), temperature, remark


def limit_risk(
    model: InferenceModel, inference: InferenceResult, split: Split, risk: float, is_stored: bool
) -> tuple[InferenceResult, str]:
    """Chooses the threshold below which answers are `unknown`; returns the results of the other half, and a remark.

    It uses the half that `calibrate` does not fit on, so that the temperature does not depend on it. If `is_stored`,
    the threshold is saved next to the checkpoint, if the model is one.

    Raises:
        DataError: no threshold keeps the share of wrong answers below `risk` (0..1).
    """
    confidence = probabilities_of(inference.predictions.logits, model.temperature or 1.0).max(1)
    is_right = is_among_top(inference.predictions, 1)
    reported, chosen = split_in_halves(len(is_right))
    chosen_on = f"{len(chosen)} of the {len(is_right)} images of {split}, a random half"
    aim = f"an error of at most {100 * risk:.4g} %"
    threshold, answers, wrong = choose_threshold(confidence[chosen], is_right[chosen], risk)
    if math.isinf(threshold):
        why = f"{wrong} of the {answers} most confident answers are wrong" if answers else "they are too few"
        raise DataError(
            f"--coverage-at-error: no threshold shows {aim} on {chosen_on}: {why}; allow a "
            f"larger error, or use more images with --data ({math.ceil(math.log(0.05, 1 - risk))} without a mistake)"
        )
    accepted = confidence[reported] >= threshold
    n, wrong = int(accepted.sum()), int((accepted & ~is_right[reported]).sum())
    low, high = wilson_interval(wrong, n) if n else (0.0, 100.0)
    remark = (
        f"answers below a probability of {threshold:.4f} are unknown, chosen on {chosen_on}, for {aim} "
        f"with 95 % confidence; of the other {len(reported)}, {100 * accepted.mean():.1f} % are answered, "
        f"{100 * wrong / max(1, n):.2f} % [{low:.1f}, {high:.1f}] of these wrongly"
    )
    if is_stored and model.checkpoint is not None:
        save_threshold(model.checkpoint, model.weights, threshold, remark)
    return inference._replace(predictions=inference.predictions.select(reported), metrics={}), remark
