"""The predictions that a run keeps and a report is about."""

from pathlib import Path
from typing import NamedTuple

from rexnet.errors import CheckpointError, DataError
from rexnet.evaluation.predictions import Predictions, load_predictions
from rexnet.runs.checkpoints import find_checkpoint

KINDS = ("greedy-soup", "soup", "ema", "raw")


class Measured(NamedTuple):
    """Predictions of one checkpoint or export, and which."""

    checkpoint: str
    """Stem of its file."""
    weights: str
    images: str
    """Split, and what else `rexnet evaluate` was asked for, such as another folder or several views."""
    predictions: Predictions
    is_best: bool = False
    """Whether they are of the run's best checkpoint on the validation images."""


def find_measured(run: Path) -> list[Measured]:
    """What `RUN/evaluation` holds, the averaged weights of the best checkpoint on the validation images first.

    Raises:
        DataError: a file of predictions is damaged.
    """
    try:
        best = find_checkpoint(run).stem
    except CheckpointError:  # none any more, so that nothing better can be measured
        best = ""
    found = [_read(path, best) for path in sorted((run / "evaluation").glob("*.npz"))]
    return sorted(found, key=lambda one: (not one.is_best, one.images != "val", one.weights != "ema"))


def _read(path: Path, best: str) -> Measured:
    """Predictions with what the name of their file says."""
    kinds = [kind for kind in KINDS if f"-{kind}-" in path.stem]
    if not kinds:
        raise DataError(f"{path}: is not named CHECKPOINT-WEIGHTS-SPLIT.npz, as `rexnet evaluate` names predictions")
    weights = min(kinds, key=lambda kind: path.stem.index(f"-{kind}-"))  # a data set's name may hold another one
    checkpoint, _, images = path.stem.partition(f"-{weights}-")
    is_best = images == "val" and best in (checkpoint, "")
    return Measured(checkpoint, weights, images, load_predictions(path), is_best)
