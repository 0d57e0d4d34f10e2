"""Reports skipped steps, and stops a run that makes no others."""

import json
import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from rexnet.system.lightning_internals import grad_scaler
from rexnet.training.training_module import TrainingModule

log = logging.getLogger(__name__)

SMALLEST_SCALE = 2.0**-14  # of fp16's loss; in a sound run it stays above 1
NAMED_IMAGES = 3  # in a message; the file lists all


class SkippedSteps:
    """Lists the images of skipped steps in `skipped_steps.jsonl`."""

    def __init__(self, run_folder: Path) -> None:
        self.path = run_folder / "skipped_steps.jsonl"

    def report(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        """Reports the bad steps since the previous call.

        Raises:
            DivergenceError: there were too many in a row, or fp16's loss scale has collapsed.
        """
        streaks = module.guard.pop()
        for step, streak in enumerate(streaks, trainer.global_step - len(streaks) + 1):
            if streak:
                images = self._record(trainer, step, module.steps_per_epoch)
                if streak >= module.config.trainer.max_bad_steps:
                    some, more = ", ".join(images[:NAMED_IMAGES]), len(images) - NAMED_IMAGES
                    raise module.diverged(
                        f"loss or gradient was NaN or infinite in {streak} steps in a row, lastly in step {step} with "
                        f"{some}{f' and {more} more' if more > 0 else ''} (all in {self.path}); look at the images"
                    )
        scaler = grad_scaler(trainer)
        if scaler is not None and scaler.get_scale() < SMALLEST_SCALE:
            raise module.diverged(f"fp16's loss scale fell to {scaler.get_scale():.3g} at step {trainer.global_step}")

    def _record(self, trainer: pl.Trainer, step: int, steps_per_epoch: int) -> list[str]:
        epoch, place = divmod(step - 1, steps_per_epoch)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        images: list[str] = data.paths_of_step(epoch, (place + 1) * trainer.accumulate_grad_batches - 1)
        if trainer.is_global_zero:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "epoch": epoch + 1, "images": images}) + "\n")
            log.warning(
                f"step {step} was skipped: its loss or gradient is NaN or infinite; its images are in {self.path}"
            )
        return images
