from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rexnet.training.callbacks.epoch_table import EpochTable


def start(folder: Path, step: int) -> tuple[EpochTable, Any, Any]:
    """A table at the start of a run, or of one that resumes at `step`, with trainer and module."""
    steps: Any = SimpleNamespace(latest={"train/lr": 0.1, "train/grad_norm": 3.0}, describe_speed=lambda _: "70 img/s")
    (folder / "config.yaml").touch()
    table = EpochTable(folder, steps)
    module = SimpleNamespace(
        metric_names=("top1", "top5", "loss"), steps_per_epoch=3, window=SimpleNamespace(epoch_mean=0.5)
    )
    trainer = SimpleNamespace(
        global_step=step, current_epoch=step // 3, max_epochs=3, is_global_zero=True, callback_metrics={}
    )
    table.on_train_start(trainer, module)  # type: ignore[arg-type]
    return table, trainer, module


def end_epoch(table: EpochTable, trainer: Any, module: Any, top1: float | None = None) -> None:
    trainer.global_step = 3 * (trainer.current_epoch + 1)
    if top1 is not None:
        trainer.callback_metrics = {"val/top1": top1}
        table.on_validation_end(trainer, module)
    table.on_train_epoch_end(trainer, module)
    trainer.current_epoch += 1


def rows(folder: Path) -> list[list[str]]:
    """Epoch, step, loss and top-1 of each row."""
    head, *lines = (folder / "metrics.csv").read_text().splitlines()
    places = [head.split(",").index(name) for name in ("epoch", "step", "train/loss", "val/top1")]
    return [[line.split(",")[place] for place in places] for line in lines]


def test_each_epoch_is_a_row_with_the_metrics_of_its_own_validation(tmp_path: Path) -> None:
    table, trainer, module = start(tmp_path, step=0)
    end_epoch(table, trainer, module, top1=81.25)
    end_epoch(table, trainer, module)
    assert rows(tmp_path) == [["1", "3", "0.5", "81.25"], ["2", "6", "0.5", ""]]


def test_a_resumed_run_drops_the_rows_that_it_writes_again(tmp_path: Path) -> None:
    table, trainer, module = start(tmp_path, step=0)
    for top1 in (10.0, 20.0, 30.0):
        end_epoch(table, trainer, module, top1)
    table, trainer, module = start(tmp_path, step=4)  # within the second epoch
    assert rows(tmp_path) == [["1", "3", "0.5", "10"]]
    end_epoch(table, trainer, module, top1=25.0)
    assert rows(tmp_path)[1:] == [["2", "6", "0.5", "25"]]


def test_an_epoch_that_lightning_ends_again_has_one_row(tmp_path: Path) -> None:
    table, trainer, module = start(tmp_path, step=0)
    end_epoch(table, trainer, module, top1=10.0)
    table, trainer, module = start(tmp_path, step=3)
    trainer.current_epoch = 0
    end_epoch(table, trainer, module)
    assert rows(tmp_path) == [["1", "3", "0.5", "10"]]


def test_metrics_of_a_run_killed_before_its_row_are_written_by_the_resumed_one(tmp_path: Path) -> None:
    table, trainer, module = start(tmp_path, step=0)
    trainer.callback_metrics = {"val/top1": 42.0}
    table.on_validation_end(trainer, module)
    resumed, trainer, module = start(tmp_path, step=0)
    resumed.load_state_dict(table.state_dict())
    end_epoch(resumed, trainer, module)
    assert rows(tmp_path) == [["1", "3", "0.5", "42"]]
