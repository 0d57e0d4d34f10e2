"""Ends the processes of a run together, whatever ends one of them."""

import ctypes
import signal
import subprocess
import sys
import time
from typing import Any

import pytorch_lightning as pl

from rexnet.system.lightning_internals import release_child_processes

PR_SET_PDEATHSIG = 1  # of Linux's prctl
GRACE_SECONDS = 5.0


class Stopped(SystemExit):
    """A signal ended the run after a checkpoint was saved; the exit code is the shell's, 128 + the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


def end_with_parent(trainer: pl.Trainer, together: bool = True) -> None:
    """Makes the kernel end a process that Lightning started when process 0 ends; `together=False` undoes it."""
    environment: Any = getattr(trainer.strategy, "cluster_environment", None)
    launched = environment is not None and not environment.creates_processes_externally and trainer.local_rank > 0
    if launched and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL if together else 0)


def end_other_processes(trainer: pl.Trainer, error: BaseException) -> None:
    """Ends the processes that Lightning started for this run; after a signal they get time to stop by themselves."""
    deadline = time.monotonic() + (GRACE_SECONDS if isinstance(error, Stopped) else 0.0)
    for process in release_child_processes(trainer):
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
