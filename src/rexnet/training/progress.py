"""What a person sees while a run goes on."""

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from rexnet.system.terminal import MARGIN, Bar, logging_above_bar, progress_bar
from rexnet.training.step_log import StepLog

SHOWN = {"val/top1": "top-1", "val_ema/top1": "averaged"}
WIDE = f"{{desc}} {{percentage:3.0f}}%|{{bar:-{MARGIN}}}| step {{n}}/{{total}} [{{elapsed}}, {{remaining}} left]"
NARROW = "{desc} {percentage:.0f}% {n}/{total} {remaining} left"


class Progress(Callback):
    """A bar over the whole run, and one line an epoch.

    The bar has epoch, step, remaining time of the run, loss, best top-1 so far (of the averaged weights where there are
    any), images/s, the share of waiting for data, and the most memory used. It vanishes when the run ends.

    Where the output is no terminal there are only the lines.
    """

    def __init__(self, steps: StepLog) -> None:
        self.steps = steps
        self.bar: Any = None
        self.validated = False
        self.trained = False
        self._above = contextlib.ExitStack()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.bar = progress_bar(
                int(trainer.estimated_stepping_batches),
                " steps",
                initial=trainer.global_step,
                leave=False,
                smoothing=0,  # the remaining time is that of the pace so far, validations included
                bar_format=WIDE,
            )
            self._above.enter_context(logging_above_bar(self.bar))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.trained = True
        if self._describe(trainer):
            self.bar.update(trainer.global_step - self.bar.n)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._describe(trainer, ", validating"):
            self.bar.refresh()

    def _describe(self, trainer: pl.Trainer, doing: str = "") -> bool:
        """Says around the bar what goes on, if it is seen."""
        if self.bar is None or self.bar.disable:
            return False
        self.bar.set_description_str(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{doing}", refresh=False)
        self.bar.bar_format = choose_format(self.bar.format_dict, self._parts(trainer))
        return True

    def _parts(self, trainer: pl.Trainer) -> list[str]:
        """What stands behind the bar, as far as it is known, the first things first."""
        latest, best = self.steps.latest, getattr(trainer.checkpoint_callback, "best_model_score", None)
        parts = [f"loss {latest['train/loss']:.3f}"] if latest else []
        if best is not None:
            parts.append(f"best {float(best):.2f}")
        if latest:
            parts.append(f"{latest['train/images_per_s']:.0f} img/s")
            parts.append(f"wait {latest['train/data_wait_share']:.0%}")
            parts.append(f"{latest['system/memory_gb']:.1f} GB")
        return parts

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar is None or not (self.trained or self.validated):
            return  # Lightning ends the epoch once more that a resumed run had finished
        parts = [f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}", f"loss {self.steps.epoch_loss:.3f}"]
        if self.validated:
            shown = {label: trainer.callback_metrics.get(name) for name, label in SHOWN.items()}
            parts += [f"{label} {float(value):5.2f}" for label, value in shown.items() if value is not None]
        parts.append(f"{self.steps.latest['train/images_per_s']:.0f} img/s")
        parts.append(f"wait {self.steps.latest['train/data_wait_share']:.0%}")
        self.bar.write("  ".join(parts), file=sys.stderr)
        self.validated = self.trained = False

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()
            self._above.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)


def choose_format(state: dict[str, Any], parts: Sequence[str]) -> str:
    """The richest format of a bar that fits into the terminal: with a drawn bar, without, and without the last parts.

    Args:
        state: the bar's, from tqdm.
        parts: what stands behind it.
    """
    forms = [", ".join([WIDE, *parts]), *(" ".join([NARROW, *parts[:end]]) for end in range(len(parts), 0, -1))]
    unlimited = {**state, "ncols": None}  # a drawn bar then has ten columns
    room = (state["ncols"] or sys.maxsize) - MARGIN
    fitting = (form for form in forms if len(Bar.format_meter(**{**unlimited, "bar_format": form})) <= room)
    return next(fitting, NARROW)
