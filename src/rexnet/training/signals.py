"""Stopping a run on a signal: a handler sets a flag, the processes agree at a step's end, save, and end.

Lightning's own handlers broadcast inside the handler, which hangs where several processes train, and save at whatever
line the signal arrives.
"""

import ctypes
import logging
import os
import signal
import subprocess
import sys
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

log = logging.getLogger(__name__)

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # the last is what SLURM is asked to send before its limit
SECONDS_BETWEEN_PRESSES = 1.0  # a terminal and torchrun both pass one Ctrl-C on, which is not twice
PR_SET_PDEATHSIG = 1  # of Linux's prctl
GRACE_SECONDS = 5.0


class Stopped(SystemExit):
    """A signal ended the run after a checkpoint was saved; the exit code is the shell's, 128 + the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class GracefulStop(Callback):
    """Ends a run at the next step's end after SIGTERM, SIGINT or SIGUSR1 to any of its processes.

    A second Ctrl-C ends it at once. In validation there is no step: what is saved is the state before the validation,
    which a resumed run then repeats from its beginning.
    """

    def __init__(self, run_folder: Path) -> None:
        self.path = checkpoint_folder(run_folder) / LAST
        self.received = 0
        self._received_at = 0.0
        self._before: dict[signal.Signals, Any] = {}
        self._group: Any = None
        self._common_batches = 0
        self._in_validation = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on there is something to save; before, a signal ends the process as usual."""
        if trainer.world_size > 1:
            # Beside the one for gradients, which on GPUs would make each step wait for the device.
            self._group = distributed.new_group(backend="gloo")
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in HANDLED}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # A save inside accumulation would lose gradients. One at an epoch's last batch would lose what follows it:
        # the validation, which looks for itself, or the epoch's row in the table.
        ends_epoch = batch_idx + 1 == trainer.num_training_batches
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and not ends_epoch:
            self._stop_if_agreed(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        batches = torch.tensor(sum(trainer.num_val_batches))
        if self._group is not None:  # one process may have one batch more than another
            distributed.all_reduce(batches, distributed.ReduceOp.MIN, self._group)
        self._common_batches = int(batches)
        self._in_validation = True

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx < self._common_batches:
            self._stop_if_agreed(trainer)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._in_validation = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Marks a validation that was interrupted as one that is still to come."""
        if self._in_validation:
            counts = {"ready": 1, "started": 1, "processed": 0, "completed": 0}  # how Lightning knows it by
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            progress.update(total=counts, current=counts, is_last_batch=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """The handler: nothing but a flag."""
        now = time.monotonic()
        if number == signal.SIGINT and self.received == number and now - self._received_at > SECONDS_BETWEEN_PRESSES:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)  # files are replaced atomically, so any moment is as good
        if not self.received:
            self.received, self._received_at = number, now

    def _stop_if_agreed(self, trainer: pl.Trainer) -> None:
        """Saves and ends on all processes if one of them got a signal.

        Raises:
            Stopped: after the checkpoint is on the disk.
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
            f"Go on with  rexnet train --resume {self.path.parent.parent}"
        )
        raise Stopped(number)


def install_signal_handlers(trainer: pl.Trainer) -> None:
    """Keeps Lightning from handling signals, and from asking process 0 about them on the device before each step."""
    internals: Any = trainer
    internals._signal_connector.register_signal_handlers = lambda: None
    internals.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None


def end_with_parent(trainer: pl.Trainer, together: bool = True) -> None:
    """Lets the kernel end a process that Lightning started when process 0 ends, however that happens.

    It would wait for process 0 for ever. With `together=False` the tie is undone.
    """
    environment: Any = getattr(trainer.strategy, "cluster_environment", None)
    launched = environment is not None and not environment.creates_processes_externally and trainer.local_rank > 0
    if launched and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL if together else 0)


def end_other_processes(trainer: pl.Trainer, error: BaseException) -> None:
    """Ends the processes that Lightning started for this run, those that stop by themselves after a moment."""
    launcher: Any = trainer.strategy.launcher
    processes = getattr(launcher, "procs", None) or []
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":  # it would kill this process for the others' exit codes
            thread._child_processes = []  # type: ignore[attr-defined]
    deadline = time.monotonic() + (GRACE_SECONDS if isinstance(error, Stopped) else 0.0)
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
