"""The predictions that a run keeps and a report is about."""

import logging
from pathlib import Path
from typing import NamedTuple

from rexnet.data.datasets.index import Index
from rexnet.errors import CheckpointError, DataError, RexnetError
from rexnet.metrics.predictions import Predictions, load_predictions
from rexnet.report.record import Fault, RunRecord
from rexnet.runs.checkpoint_files import find_checkpoint

log = logging.getLogger(__name__)

LEFT_OUT = "What needs single answers (confusion, classes, calibration) is left out: {why}."
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


def find_measured(run: Path) -> tuple[list[Measured], list[Fault]]:
    """What `RUN/evaluation` holds, the averaged weights of the best checkpoint on the validation images first.

    Beside it what of that cannot be read.
    """
    try:
        best = find_checkpoint(run).stem
    except CheckpointError:  # none any more, so that nothing better can be measured
        best = ""
    found, faults = [], []
    for path in sorted((run / "evaluation").glob("*.npz")):
        try:
            found.append(_read(path, best))
        except DataError as error:
            faults.append(Fault("results", str(error).replace(f"{run}/", "")))
    if found and not best:
        faults.append(
            Fault("results", "checkpoints: none is here any more; the figures are of what was measured before")
        )
    return sorted(found, key=lambda one: (not one.is_best, one.images != "val", one.weights != "ema")), faults


def find_or_measure(record: RunRecord, val: Index | None) -> tuple[list[Measured], list[str], list[Fault]]:
    """The same, with what has to be said of missing ones; the best checkpoint is measured now where that is not kept.

    Args:
        record: the run.
        val: its validation images; None: they are not here.
    """
    measured, faults = find_measured(record.folder)
    if measured and measured[0].is_best:
        return measured, [], faults
    if val is None:
        why = f"{record.config.data.root} is not on this machine"
    else:
        from rexnet.report.measuring import measure_best  # imports Lightning, which kept predictions do without

        for fault in faults:
            log.warning(f"{record.folder}/{fault.sentence}")
        try:
            has_best = measure_best(record.folder, val)
        except RexnetError as error:
            return measured, [f"Not measured: {error}"], faults
        if has_best:
            measured, faults = find_measured(record.folder)  # what was damaged may be replaced
            return measured, [], faults
        why = "there is no checkpoint yet"
    if measured:
        return measured, [f"The best checkpoint was not measured on the validation images: {why}."], faults
    return [], [LEFT_OUT.format(why=why)], faults


def _read(path: Path, best: str) -> Measured:
    """Predictions with what the name of their file says."""
    kinds = [kind for kind in KINDS if f"-{kind}-" in path.stem]
    if not kinds:
        raise DataError(f"{path}: is not named CHECKPOINT-WEIGHTS-SPLIT.npz, as `rexnet evaluate` names predictions")
    weights = min(kinds, key=lambda kind: path.stem.index(f"-{kind}-"))  # a data set's name may hold another one
    checkpoint, _, images = path.stem.partition(f"-{weights}-")
    is_best = images == "val" and best in (checkpoint, "")
    return Measured(checkpoint, weights, images, load_predictions(path), is_best)
