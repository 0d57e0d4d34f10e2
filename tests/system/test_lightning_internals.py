import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import LightningEnvironment
from pytorch_lightning.demos.boring_classes import BoringModel
from pytorch_lightning.plugins.precision import MixedPrecision
from pytorch_lightning.strategies.launchers.subprocess_script import _launch_process_observer, _SubprocessScriptLauncher

from rexnet.system.lightning_internals import (
    disable_signal_handlers,
    grad_scaler,
    mark_validation_as_pending,
    release_child_processes,
    resume_position,
)

CHANGED = "Lightning has changed behind its public interface; adapt rexnet/system/lightning_internals.py"


class Model(BoringModel):
    """Keeps the position at which its loader is asked to start, and the batches that it validates."""

    def __init__(self) -> None:
        super().__init__()
        self.position, self.validated = (-1, -1), []

    def train_dataloader(self) -> Any:
        self.position = resume_position(self.trainer)
        return super().train_dataloader()

    def on_validation_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.validated.append((self.current_epoch, batch_idx))


class Stops(pl.Callback):
    """Saves a checkpoint in the first epoch, and in the middle of the second validation."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 3:
            trainer.save_checkpoint(f"{trainer.default_root_dir}/middle.ckpt")

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.current_epoch == 1:
            trainer.save_checkpoint(f"{trainer.default_root_dir}/stopped.ckpt")

    def on_save_checkpoint(self, trainer: pl.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        if trainer.global_step > 4:
            mark_validation_as_pending(checkpoint)


def build(folder: Any, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=list(callbacks),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_train_batches=4,
        num_sanity_val_steps=0,
        **{"limit_val_batches": 2, **options},
    )


@pytest.mark.filterwarnings("ignore")
def test_the_internals_of_lightning_are_as_expected(tmp_path: Any) -> None:
    try:
        check_signals(tmp_path)
        check_positions(tmp_path)
        check_scaler_and_processes(tmp_path)
    except (AttributeError, KeyError, AssertionError) as error:
        pytest.fail(f"{CHANGED}: {type(error).__name__}: {error}")


def check_signals(folder: Any) -> None:
    trainer: Any = build(folder)
    for owner, name in (
        (trainer._signal_connector, "register_signal_handlers"),
        (trainer.fit_loop.epoch_loop, "_broadcast_sigterm_tensor"),
    ):
        assert callable(getattr(owner, name)), name
    before = signal.getsignal(signal.SIGTERM)
    disable_signal_handlers(trainer)
    trainer._signal_connector.register_signal_handlers()
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor()
    assert signal.getsignal(signal.SIGTERM) == before


def check_positions(folder: Any) -> None:
    model, middle, stopped = Model(), Model(), Model()
    build(folder, Stops(), max_epochs=2).fit(model)
    assert model.position == (0, 0)
    build(folder, max_epochs=2).fit(middle, ckpt_path=folder / "middle.ckpt", weights_only=True)
    assert middle.position == (0, 3)
    build(folder, max_epochs=2).fit(stopped, ckpt_path=folder / "stopped.ckpt", weights_only=True)
    assert stopped.validated == [(1, 0), (1, 1)]  # the whole second validation, and nothing else


def check_scaler_and_processes(folder: Any) -> None:
    trainer: Any = build(folder)
    assert grad_scaler(trainer) is None
    scaler = torch.amp.GradScaler("cpu")
    trainer.strategy.precision_plugin = MixedPrecision("16-mixed", "cpu", scaler)
    assert grad_scaler(trainer) is scaler

    assert release_child_processes(trainer) == []
    process: Any = SimpleNamespace(poll=lambda: None, returncode=None)
    launcher = _SubprocessScriptLauncher(LightningEnvironment(), 1, 1)
    trainer.strategy._launcher, launcher.procs = launcher, [process]
    _launch_process_observer(launcher.procs)
    assert release_child_processes(trainer) == [process]
    process.returncode = 1  # a watching observer would now kill this process
    observers: list[Any] = [thread for thread in threading.enumerate() if thread.name == "child-process-observer"]
    assert [observer._run() for observer in observers] == [True]
