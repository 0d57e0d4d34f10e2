"""Shows the progress of a run on a terminal."""

import contextlib
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from rexnet.system.terminal import MARGIN, logging_above_bar, progress_bar
from rexnet.training.callbacks.step_log import StepLog

FORMAT = f"{{desc}} {{percentage:.0f}}%|{{bar:-{MARGIN}}}| {{n}}/{{total}} {{remaining}} left{{postfix}}"


class Progress(Callback):
    """A bar over the whole run, which vanishes when the run ends.

    It shows epoch, step, remaining time of the run, loss, best top-1 so far (of the EMA where there is one), images/s,
    and the share of time spent waiting for data.
    """

    def __init__(self, steps: StepLog) -> None:
        self.steps = steps
        self._open = contextlib.ExitStack()
        self._best: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        options: dict[str, Any] = {"initial": trainer.global_step, "leave": False, "bar_format": FORMAT}
        # Without smoothing, the remaining time includes validations.
        bar = progress_bar(int(trainer.estimated_stepping_batches), " steps", smoothing=0, **options)
        self.bar = self._open.enter_context(bar)
        self._open.enter_context(logging_above_bar(bar))
        self.on_train_epoch_start(trainer, pl_module)  # Lightning skips it when a run resumes within an epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Fetches the best score from the device here, so that no step waits for it."""
        best = getattr(trainer.checkpoint_callback, "best_model_score", None)
        self._best = None if best is None else float(best)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.bar.disable:
            self._describe(trainer)
            self.bar.update(trainer.global_step - self.bar.n)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not self.bar.disable:
            self._describe(trainer, ", validating")
            self.bar.refresh()

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._open.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self._open.close()

    def _describe(self, trainer: pl.Trainer, activity: str = "") -> None:
        self.bar.set_description_str(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{activity}", refresh=False)
        latest = self.steps.latest
        parts = [f"loss {latest['train/loss']:.3f}"] if latest else []
        if self._best is not None:
            parts.append(f"best {self._best:.2f}")
        if latest:
            parts.append(self.steps.describe_speed(", "))
        self.bar.set_postfix_str(", ".join(parts), refresh=False)
