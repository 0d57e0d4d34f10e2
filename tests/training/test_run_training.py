from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from rexnet.config import load_config
from rexnet.data.datamodule import ImageData
from rexnet.errors import ConfigError
from rexnet.models.factory import build_model
from rexnet.training.run_training import explained_failures, run_training
from rexnet.training.trainer import build_trainer
from rexnet.training.training_module import TrainingModule


class Regression(TrainingModule):
    """Another task than classification: predicts the label as a number."""

    metric_names = ("score",)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return self.record_loss((self.model(images)[:, 0] - labels).square().mean())

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.log("val/score", -(self.model(images)[:, 0] - labels).abs().mean())


def test_it_trains_another_task_than_classification(small_run: list[str]) -> None:
    config = load_config("finetune/folder.yaml", [*small_run, "ema=null", "trainer.early_stopping_patience=5"])
    trainer = build_trainer(config)
    data = ImageData(config, trainer.world_size)
    module = Regression(config, build_model(config.model, ["value"], pretrained=False), data.steps_per_epoch)
    result = run_training(module, data, trainer)
    assert result.step == 6
    assert result.metrics["best_score"] >= result.metrics["val/score"]
    assert result.best_checkpoint is not None
    assert result.best_checkpoint.parent == result.run / "checkpoints"
    assert {path.name for path in result.run.iterdir()} >= {"config.yaml", "metrics.csv", "state.json", "checkpoints"}
    assert len((result.run / "metrics.csv").read_text().splitlines()) == 3


def test_a_lack_of_memory_names_the_next_number_of_micro_batches() -> None:
    trainer: Any = SimpleNamespace(accumulate_grad_batches=4, global_rank=1, global_step=7)
    message = r"process 1 ran out of GPU memory after step 7 with 4 micro-batches a step; set trainer\.accumulate=8"
    with pytest.raises(ConfigError, match=message), explained_failures(trainer):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_run_that_fails_says_so_in_its_folder(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("finetune/folder.yaml", [*small_run, "ema=null"])
    trainer = build_trainer(config)
    data = ImageData(config)
    module = Regression(config, build_model(config.model, ["value"], pretrained=False), data.steps_per_epoch)
    monkeypatch.setattr(Regression, "training_step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_training(module, data, trainer)
    (run,) = Path(config.trainer.runs_dir).iterdir()
    assert '"failed"' in (run / "state.json").read_text()
    assert "division by zero" in (run / "state.json").read_text()
