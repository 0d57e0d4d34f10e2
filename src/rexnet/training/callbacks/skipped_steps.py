"""Reports skipped steps, and stops a run that makes no others."""

import json
import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from rexnet.system.lightning_internals import grad_scaler
from rexnet.training.training_module import TrainingModule

log = logging.getLogger(__name__)

SKIPPED_FILE = "skipped_steps.jsonl"
SMALLEST_SCALE = 2.0**-14  # of fp16's loss; in a sound run it stays above 1
NAMED_IMAGES = 3  # in a message; the file lists all


def report_skipped_steps(trainer: pl.Trainer, module: TrainingModule, path: Path) -> None:
    """Appends the images of the steps skipped since the previous call to the file at `path`.

    Raises:
        DivergenceError: there were too many in a row, or fp16's loss scale has collapsed.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    streaks = module.guard.pop()
    for step, streak in enumerate(streaks, trainer.global_step - len(streaks) + 1):
        if not streak:
            continue
        epoch, place = divmod(step - 1, module.steps_per_epoch)
        images: list[str] = data.paths_of_step(epoch, (place + 1) * trainer.accumulate_grad_batches - 1)
        if trainer.is_global_zero:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "epoch": epoch + 1, "images": images}) + "\n")
            log.warning(f"step {step} was skipped: its loss or gradient is NaN or infinite; its images are in {path}")
        if streak >= module.config.trainer.max_bad_steps:
            some, more = ", ".join(images[:NAMED_IMAGES]), len(images) - NAMED_IMAGES
            raise module.diverged(
                f"loss or gradient was NaN or infinite in {streak} steps in a row, lastly in step {step} with "
                f"{some}{f' and {more} more' if more > 0 else ''} (all in {path}); look at the images"
            )
    scaler = grad_scaler(trainer)
    if scaler is not None and scaler.get_scale() < SMALLEST_SCALE:
        raise module.diverged(f"fp16's loss scale fell to {scaler.get_scale():.3g} at step {trainer.global_step}")
