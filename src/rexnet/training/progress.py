"""What a person sees while a run goes on."""

import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from tqdm import tqdm

from rexnet.training.step_log import StepLog

SHOWN = {"val/top1": "top-1", "val_ema/top1": "averaged top-1"}


class Progress(Callback):
    """A bar over the whole run, and one line an epoch.

    The bar has epoch, step, remaining time of the run, loss, best top-1 so far (of the averaged weights where there are
    any), images/s, the share of waiting for data, and the most memory used.

    Where the output is no terminal there are only the lines.
    """

    def __init__(self, steps: StepLog) -> None:
        self.steps = steps
        self.bar: Any = None
        self.validated = False
        self.trained = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.bar = tqdm(
                total=int(trainer.estimated_stepping_batches),
                initial=trainer.global_step,
                disable=not sys.stderr.isatty(),
                dynamic_ncols=True,
                bar_format="{desc} {percentage:3.0f}%|{bar}| step {n}/{total} [{elapsed}, {remaining} left]{postfix}",
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.bar is None:
            return
        self.trained = True
        self.bar.set_description_str(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", refresh=False)
        self.bar.set_postfix_str(", ".join(self._parts(trainer)), refresh=False)
        self.bar.update(trainer.global_step - self.bar.n)

    def _parts(self, trainer: pl.Trainer) -> list[str]:
        """What stands behind the bar, as far as it is known."""
        latest, best = self.steps.latest, getattr(trainer.checkpoint_callback, "best_model_score", None)
        parts = [f"loss {latest['train/loss']:.3f}"] if latest else []
        if best is not None:
            parts.append(f"best {float(best):.2f} %")
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
        parts.append(f"data wait {self.steps.latest['train/data_wait_share']:.0%}")
        tqdm.write("  ".join(parts), file=sys.stderr)
        self.validated = self.trained = False

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)
