from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rexnet.config import load_config
from rexnet.runs.run import Run
from rexnet.training.classification import train

METRICS = ("top1", "top5", "loss", "mean_class_top1")
SCALARS = {
    *(f"train/{name}" for name in ("loss", "grad_norm", "lr", "images_per_s", "data_wait_share")),
    *(f"{prefix}/{name}" for prefix in ("val", "val_ema") for name in METRICS),
    *(f"final/{prefix}/{name}" for prefix in ("val", "val_ema") for name in METRICS),
    "system/memory_gb",
    "final/best_top1",
}
MORE = ("trainer.loggers=[csv]", "trainer.pictures_every_epochs=20", "schedule.epochs=3")


@pytest.fixture
def board(small_run: list[str]) -> tuple[Path, Any]:
    """A run with everything that TensorBoard can have, and its events."""
    config = load_config("finetune/folder.yaml", [*small_run, *MORE])
    run = train(config).run
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    return run, events


def test_tensorboard_has_what_the_table_has_under_stable_names(board: tuple[Path, Any]) -> None:
    run, events = board
    tags = events.Tags()
    assert set(tags["scalars"]) == SCALARS
    table = Run(run).rows
    at_last_step = [name for name in table[0] if name.startswith("train/") and name != "train/loss"]
    for name in (*at_last_step, *(tag for tag in SCALARS if tag.startswith(("val/", "val_ema/")))):
        logged = {event.step: event.value for event in events.Scalars(name)}
        for row in table:
            assert logged[int(row["step"])] == pytest.approx(float(row[name]), rel=1e-5), name
        if not name.startswith("train/"):
            assert len(events.Scalars(name)) == len(table)
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    assert list(losses) == [2, 3, 4, 6, 8, 9]  # every second step, and each epoch's last
    for row, steps in zip(table, [(2, 2, 3), (4, 6, 6), (8, 8, 9)], strict=True):  # where each step's loss went
        assert np.mean([losses[step] for step in steps]) == pytest.approx(float(row["train/loss"]), rel=1e-5)
    assert events.Scalars("final/val_ema/top1")[0].value == pytest.approx(float(table[-1]["val_ema/top1"]), rel=1e-5)

    assert {"train/augmented", "val_ema/confusion"} <= set(tags["images"])
    assert [event.step for event in events.Images("val_ema/confusion")] == [9]  # the last epoch alone
    assert set(events.PluginTagToContent("hparams")) == {"_hparams_/session_start_info", "_hparams_/session_end_info"}
    assert "recipe/text_summary" in tags["tensors"]

    (csv,) = (run / "csv").rglob("metrics.csv")
    assert "val_ema/top1" in csv.read_text().splitlines()[0]
