"""A trace of a few early steps."""

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import profiler

log = logging.getLogger(__name__)

UNSEEN, WARM_UP, SEEN = 2, 2, 4  # batches


class Profile(Callback):
    """Records the fifth to eighth batch of a run in the first process, as `profile/steps.json` of its folder.

    Perfetto (ui.perfetto.dev) shows the file; TensorBoard itself has no view of it any more.
    """

    def __init__(self, run_folder: Path) -> None:
        self.path = run_folder / "profile" / "steps.json"
        self._profiler: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            schedule = profiler.schedule(wait=UNSEEN, warmup=WARM_UP, active=SEEN, repeat=1)
            self._profiler = profiler.profile(
                schedule=schedule,
                on_trace_ready=self._write,
                record_shapes=True,
                acc_events=True,  # changes nothing for a single recording; without it, PyTorch 2.11 warns
            )
            self._profiler.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        recording, self._profiler = self._profiler, None  # one that fails here would crash the process when stopped
        if recording is not None:
            recording.step()
            self._profiler = recording

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)

    def _write(self, recorded: Any) -> None:
        self.path.parent.mkdir(exist_ok=True)
        recorded.export_chrome_trace(str(self.path))
        log.info(f"Profile      {self.path}  (open it at ui.perfetto.dev)")
