"""The predictions that a run keeps and a report is about."""

from pathlib import Path
from typing import NamedTuple

from rexnet.checkpoint import find_checkpoint
from rexnet.errors import CheckpointError
from rexnet.evaluation.predictions import Predictions, load_predictions


class Measured(NamedTuple):
    """Predictions of one checkpoint, and which."""

    checkpoint: str
    weights: str
    split: str
    predictions: Predictions


def find_measured(run: Path) -> list[Measured]:
    """What `RUN/evaluation` holds, that of the best checkpoint first; files that cannot be read are no part of it."""
    try:
        best = find_checkpoint(run).stem
    except CheckpointError:
        best = ""
    found = []
    for path in sorted((run / "evaluation").glob("*.npz")):
        parts = path.stem.rsplit("-", 2)
        if len(parts) == 3:
            found.append(Measured(*parts, load_predictions(path)))
    return sorted(found, key=lambda one: (one.checkpoint != best, one.split != "val", one.weights != "ema"))
