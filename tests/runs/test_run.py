import shutil
from pathlib import Path

import numpy as np
import pytest

from rexnet.errors import ConfigError
from rexnet.metrics.predictions import Predictions, save_predictions
from rexnet.runs.run import Run
from rexnet.runs.run_folder import table_columns

COLUMNS = table_columns(("top1", "top5", "loss"))
TWO = Predictions(np.eye(2, dtype=np.float32), np.arange(2), ("a.png", "b.png"), ("a", "b"))


@pytest.fixture
def copied(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "copied"))


def write_table(run: Path, *rows: dict[str, object]) -> None:
    lines = [",".join(str({"step": row["epoch"], **row}.get(name, "")) for name in COLUMNS) for row in rows]
    (run / "metrics.csv").write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")


def test_a_finished_run_is_read_whole(trained_run: Path) -> None:
    run = Run(trained_run)
    assert (run.name, run.config.name, run.epochs, run.total_epochs) == (
        trained_run.name, "small", 2, 2,
    )  # fmt: skip
    assert run.state.state == "finished"
    assert run.best_checkpoint is not None
    assert run.best_top1 is not None
    assert f"{run.best_top1[1]:.2f}" in run.best_checkpoint.name
    assert [epoch for epoch, _ in run.curve("train/loss")] == [2 / 3, 1, 4 / 3, 2]  # logged at steps 2, 3, 4, 6
    assert [epoch for epoch, _ in run.column("train/loss")] == [1, 2]
    assert run.curve("train/nothing") == []
    assert run.environment["packages"].keys() >= {"torch", "timm"}
    assert run.kept_predictions == []
    assert run.damage == []


def test_damaged_files_are_named_and_the_rest_is_read(copied: Path) -> None:
    (copied / "environment.json").write_text("[1]")
    write_table(copied, {"epoch": 1, "val/top1": 50}, {"epoch": 2, "step": "x"})
    (events,) = copied.glob("events.out.tfevents.*")
    events.write_bytes(events.read_bytes()[:100])
    (copied / "evaluation").mkdir()
    (copied / "evaluation" / "last-ema-val.npz").write_bytes(b"")
    run = Run(copied)
    assert (run.epochs, run.best_top1, run.environment, run.kept_predictions) == (1, (1, 50.0), {}, [])
    assert [fault[:50] for fault in run.damage] == [
        "metrics.csv: 1 of its 2 rows cannot be read",
        "environment.json: cannot be read: TypeError: canno",
        "evaluation/last-ema-val.npz: cannot be read as pre",
    ]
    assert run.curve("train/loss") == []
    (copied / "environment.json").unlink()
    run = Run(copied)
    assert (run.environment, run.damage[0][:52]) == ({}, "environment.json: cannot be read: FileNotFoundError:")
    (copied / "metrics.csv").write_text("epoch,step\n1,1\n")
    assert Run(copied).rows == []


def test_only_a_damaged_config_is_an_error(copied: Path) -> None:
    (copied / "config.yaml").write_text("model: 3")
    run = Run(copied)
    assert (run.total_epochs, run.epochs) == (None, 2)
    with pytest.raises(ConfigError, match="model"):
        run.config  # noqa: B018


def test_the_best_entry_is_the_last_of_equal_ones(copied: Path) -> None:
    write_table(copied, *({"epoch": n, "val/top1": top1} for n, top1 in enumerate((60, 70, 70, 65), 1)))
    run = Run(copied)
    assert (run.best("val/top1"), run.best("val_ema/top1"), run.best_top1) == ((3, 70.0), None, (3, 70.0))


def test_predictions_of_the_best_checkpoint_come_first(copied: Path) -> None:
    best = Run(copied).best_checkpoint
    assert best is not None
    for name in (f"{best.stem}-ema-train", "last-ema-val", f"{best.stem}-raw-val", f"{best.stem}-ema-val"):
        save_predictions(copied / "evaluation" / f"{name}.npz", TWO)
    kept = Run(copied).kept_predictions
    assert [(one.checkpoint, one.weights, one.images, one.is_best) for one in kept] == [
        (best.stem, "ema", "val", True),
        (best.stem, "raw", "val", True),
        ("last", "ema", "val", False),
        (best.stem, "ema", "train", False),
    ]
    shutil.rmtree(copied / "checkpoints")
    assert Run(copied).best_checkpoint is None


def test_a_data_set_may_be_named_like_a_kind_of_weights(copied: Path) -> None:
    save_predictions(copied / "evaluation" / "last-raw-val-an-ema-set.npz", TWO)
    (kept,) = Run(copied).kept_predictions
    assert kept[:3] == ("last", "raw", "val-an-ema-set")
