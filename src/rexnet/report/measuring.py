"""Predictions made now, from a run's best checkpoint."""

from pathlib import Path

from rexnet.checkpoints.checkpoint import load_trained
from rexnet.data.datasets.index import Index
from rexnet.errors import CheckpointError
from rexnet.evaluation.inference import run_inference
from rexnet.evaluation.inference_model import wrap_trained
from rexnet.metrics.predictions import predictions_path, save_predictions
from rexnet.runs.checkpoint_files import find_checkpoint


def measure_best(run: Path, index: Index) -> bool:
    """Keeps predictions of the best checkpoint on the validation images in `RUN/evaluation`; False without one.

    Raises:
        RexnetError: the checkpoint is damaged, has other classes than the images, or an image is broken.
    """
    try:
        best = find_checkpoint(run)
    except CheckpointError:  # none yet
        return False
    trained = load_trained(best)
    if trained.class_names != index.class_names:
        raise CheckpointError(f"{best}: has other classes than {index.root}")
    predictions = run_inference(wrap_trained(trained, run.name), index).predictions
    save_predictions(predictions_path(run, best.stem, trained.weights, "val"), predictions)
    return True
