"""Stops a run on a signal: a handler sets a flag, the processes agree at the end of a step, save, and end."""

import logging
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import distributed

from rexnet.runs.checkpoint_files import LAST, checkpoint_folder
from rexnet.system.lightning_internals import mark_validation_as_pending
from rexnet.training.signals import Stopped

log = logging.getLogger(__name__)

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # SLURM is asked to send the last one before its limit
SECONDS_BETWEEN_PRESSES = 1.0  # a terminal and torchrun both pass on one Ctrl-C, which is not two


class GracefulStop(Callback):
    """Ends a run at the end of the next step after SIGTERM, SIGINT or SIGUSR1 to any of its processes.

    A second Ctrl-C ends it at once. A validation is not finished: the checkpoint holds the state before it, and the
    resumed run validates from the start.
    """

    def __init__(self, run_folder: Path) -> None:
        self.path = checkpoint_folder(run_folder) / LAST
        self.received = 0
        self._received_at = 0.0
        self._before: dict[signal.Signals, Any] = {}
        self._group: Any = None
        self._common_batches = 0
        self._in_validation = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Installs the handlers; before there is a step to save, signals act as usual."""
        if trainer.world_size > 1:
            self._group = distributed.new_group(backend="gloo")  # NCCL would make each step wait for the device
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in HANDLED}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        # A checkpoint between micro-batches would lose gradients, and one at the last batch of an epoch would lose the
        # epoch's row in the table; the validation that may follow looks for signals itself.
        ends_epoch = batch_idx + 1 == trainer.num_training_batches
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and not ends_epoch:
            self._stop_if_agreed(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        batches = torch.tensor(sum(trainer.num_val_batches))
        if self._group is not None:  # one process may have one batch more than another
            distributed.all_reduce(batches, distributed.ReduceOp.MIN, self._group)
        self._common_batches = int(batches)
        self._in_validation = True

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx < self._common_batches:
            self._stop_if_agreed(trainer)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._in_validation = False

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self._in_validation:
            mark_validation_as_pending(checkpoint)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal, by nothing but a flag."""
        now = time.monotonic()
        if number == signal.SIGINT and self.received == number and now - self._received_at > SECONDS_BETWEEN_PRESSES:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)  # files are replaced atomically, so any moment is safe
        if not self.received:
            self.received, self._received_at = number, now

    def _stop_if_agreed(self, trainer: pl.Trainer) -> None:
        """Saves and ends in all processes if one of them got a signal.

        Raises:
            Stopped: the checkpoint is on disk.
        """
        number = self.received
        if self._group is not None:
            largest = torch.tensor(number)
            distributed.all_reduce(largest, distributed.ReduceOp.MAX, self._group)
            number = int(largest)
        if not number:
            return
        trainer.save_checkpoint(self.path, weights_only=False)
        log.info(
            f"Stopped by {signal.Signals(number).name} after step {trainer.global_step}; saved as {self.path}\n"
            f"Resume with  rexnet train --resume {self.path.parent.parent}"
        )
        raise Stopped(number)
