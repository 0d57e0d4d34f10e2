"""Shows the progress of a run on a terminal."""

import contextlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from rexnet.system.terminal import MARGIN, Bar, logging_above_bar, progress_bar
from rexnet.training.callbacks.step_log import StepLog

log = logging.getLogger(__name__)

SHOWN = {"val/top1": "top-1", "val_ema/top1": "EMA"}
WIDE = f"{{desc}} {{percentage:3.0f}}%|{{bar:-{MARGIN}}}| step {{n}}/{{total}} [{{elapsed}}, {{remaining}} left]"
NARROW = "{desc} {percentage:.0f}% {n}/{total} {remaining} left"


class Progress(Callback):
    """A bar over the whole run, and one line an epoch.

    The bar shows epoch, step, remaining time of the run, loss, best top-1 so far (of the EMA where there is one),
    images/s, the share of time spent waiting for data, and peak memory. It vanishes when the run ends.

    If the output is not a terminal, there are only the lines.
    """

    def __init__(self, steps: StepLog) -> None:
        self.steps = steps
        self.bar: Any = None
        self.validated = False
        self.trained = False
        self._above = contextlib.ExitStack()

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            self.bar = progress_bar(
                int(trainer.estimated_stepping_batches),
                " steps",
                initial=trainer.global_step,
                leave=False,
                smoothing=0,  # so that the remaining time includes validations
                bar_format=WIDE,
            )
            self._above.enter_context(logging_above_bar(self.bar))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.trained = True
        if self.bar is not None and not self.bar.disable:
            self._describe(trainer)
            self.bar.update(trainer.global_step - self.bar.n)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.bar is not None and not self.bar.disable:
            self._describe(trainer, ", validating")
            self.bar.refresh()

    def _describe(self, trainer: pl.Trainer, activity: str = "") -> None:
        """Updates the text around the bar; behind it are the known values, the most important first."""
        self.bar.set_description_str(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{activity}", refresh=False)
        latest, best = self.steps.latest, getattr(trainer.checkpoint_callback, "best_model_score", None)
        parts = [f"loss {latest['train/loss']:.3f}"] if latest else []
        if best is not None:
            parts.append(f"best {float(best):.2f}")
        if latest:
            parts += [*self._speed(), f"{latest['system/memory_gb']:.1f} GB"]
        self.bar.bar_format = choose_format(self.bar.format_dict, parts)

    def _speed(self) -> list[str]:
        latest = self.steps.latest
        return [f"{latest['train/images_per_s']:.0f} img/s", f"wait {latest['train/data_wait_share']:.0%}"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.bar is None or not (self.trained or self.validated):
            return  # Lightning ends an epoch again that a resumed run had already finished
        epoch, metrics = f"{trainer.current_epoch + 1:>3}/{trainer.max_epochs}", trainer.callback_metrics
        parts = [f"epoch {epoch}", f"loss {pl_module.window.epoch_mean:.3f}"]
        if self.validated:
            parts += [f"{label} {float(metrics[name]):5.2f}" for name, label in SHOWN.items() if name in metrics]
        log.info("  ".join([*parts, *self._speed()]))
        self.validated = self.trained = False

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.bar is not None:
            self.bar.close()
            self._above.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)


def choose_format(state: dict[str, Any], parts: Sequence[str]) -> str:
    """Returns the richest format that fits into the terminal: with a bar, without it, and with ever fewer parts.

    Args:
        state: tqdm's `format_dict` of the bar.
        parts: values behind the bar, the most important first.
    """
    forms = [", ".join([WIDE, *parts]), *(" ".join([NARROW, *parts[:end]]) for end in range(len(parts), 0, -1))]
    unlimited = {**state, "ncols": None}  # the bar then has ten columns
    room = (state["ncols"] or sys.maxsize) - MARGIN
    fitting = (form for form in forms if len(Bar.format_meter(**{**unlimited, "bar_format": form})) <= room)
    return next(fitting, NARROW)
