"""Every place where this program reaches into Lightning behind its public interface.

Each function says why the public interface does not suffice. `tests/system/test_lightning_internals.py` fails when a
new version of Lightning changes what they rely on.
"""

import subprocess
import threading
from typing import Any

import pytorch_lightning as pl


def disable_signal_handlers(trainer: pl.Trainer) -> None:
    """Keeps Lightning from handling signals and from broadcasting them before each step.

    Its handlers broadcast inside the handler, which hangs with several processes, and save at whatever line the signal
    arrives. The broadcast makes each step wait for the device.
    """
    internals: Any = trainer
    internals._signal_connector.register_signal_handlers = lambda: None
    internals.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None


def resume_position(trainer: pl.Trainer) -> tuple[int, int]:
    """Returns the epoch at which training starts, and how many of its batches are already done.

    A loader must start at that place, and Lightning has restored it before it asks for the loader.
    """
    loop: Any = trainer.fit_loop
    batch = loop.epoch_loop.batch_progress.current.ready if loop.restarting else 0
    return loop.epoch_progress.current.processed, batch


def mark_validation_as_pending(checkpoint: dict[str, Any]) -> None:
    """Makes a run that resumes from this checkpoint start the current validation again.

    Otherwise Lightning would continue in the middle of the validation, without the counts of its first part.
    """
    counts = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
    progress.update(total=counts, current=counts, is_last_batch=False)


def grad_scaler(trainer: pl.Trainer) -> Any | None:
    """Returns the scaler of fp16's loss, or None in other precisions."""
    return getattr(trainer.precision_plugin, "scaler", None)


def release_child_processes(trainer: pl.Trainer) -> list[subprocess.Popen[bytes]]:
    """Returns the processes that Lightning started for this run, which it no longer watches afterwards.

    Its observer would kill this process once it sees their exit codes, before the error is reported.
    """
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._child_processes = []  # type: ignore[attr-defined]
    launcher: Any = trainer.strategy.launcher
    return list(getattr(launcher, "procs", None) or [])
