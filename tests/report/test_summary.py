import shutil
from pathlib import Path

import numpy as np
import pytest

from rexnet.metrics.predictions import Predictions
from rexnet.report.summary import (
    describe_result,
    describe_state,
    describe_tiles,
    network_cost,
)
from rexnet.runs.run import KeptPredictions, Run
from rexnet.runs.state import RunLock

LOGITS = np.float32([[2, 0], [2, 0], [0, 2], [2, 0]])
PREDICTIONS = Predictions(LOGITS, np.array([0, 0, 1, 1]), ("a", "b", "c", "d"), ("x", "y"))  # 3 of 4 are right


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def test_a_state_names_progress_and_no_place(run: Path) -> None:
    assert describe_state(Run(run))[0] == "finished"
    lock = RunLock(run)
    assert describe_state(Run(run))[0] == "running"
    lock.fail(OSError("no space on /secret"))
    state, progress = describe_state(Run(run))
    assert state == "failed"
    assert progress.startswith("2 of 2 epochs in ")
    assert "secret" not in progress


@pytest.mark.parametrize(("classes", "top5"), [(2, "\N{EN DASH}"), (5, "\N{EN DASH}"), (6, "100.00 [51.0 to 100.0]")])
def test_results_come_with_intervals_and_top5_where_it_says_something(classes: int, top5: str) -> None:
    logits = np.pad(PREDICTIONS.logits, ((0, 0), (0, classes - 2)), constant_values=-99)
    predictions = PREDICTIONS._replace(logits=logits, class_names=tuple("xyzabc"[:classes]))
    row = describe_result(KeptPredictions("epoch001", "ema", "val", predictions, True))
    assert (row["weights"], row["split"]) == ("EMA", "val")
    assert row["cells"][:4] == ["4", "75.00 [30.1 to 95.4]", top5, "75.00"]
    assert row["cells"][4] == "0.6269"  # log(1 + e^-2) three times, log(1 + e^2) once


def test_tiles_prefer_evaluated_accuracy_to_the_logged_one(run: Path) -> None:
    tiles = describe_tiles(Run(run), KeptPredictions("last", "raw", "test", PREDICTIONS), ("x", "y"))
    assert tiles[0] == ("Top-1", "75.00", "%", "30.1 to 95.4; raw weights, 4 images (last, test)")
    assert [tile.label for tile in tiles[2:]] == ["Parameters", "Multiply-adds", "Speed"]
    best = Run(run).best_top1
    assert best is not None
    assert describe_tiles(Run(run), None, ())[0].note == f"epoch {best[0]}, as logged"
    parameters, macs = network_cost(Run(run), ("x", "y"))
    assert f"{parameters / 1e6:.2f}" == tiles[2].value
    assert macs > parameters
