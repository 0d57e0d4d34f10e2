"""A step that does not fit into the GPU's memory is computed again in parts."""

import logging
from typing import Any

import torch
from torch import Tensor

from rexnet.errors import ConfigError

log = logging.getLogger(__name__)

SMALLEST_PART = 2  # images; BatchNorm cannot train on one


class PartedStep:
    """Computes a batch in parts, one after the other, and begins a step anew in smaller ones when memory runs out.

    The step stays one of the same images with the same mean loss. What changes is what BatchNorm sees, parts instead
    of batches, and which units dropout drops: as with a larger `trainer.accumulate`. Since a failed backward pass
    leaves gradients half added, the whole step is repeated, batches that came before in it included; they are functions
    of their number.

    Only for runs of one process: a process of several cannot repeat a step alone.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.parts = 1

    def repeat(self, images: Tensor, targets: Tensor, batch_idx: int) -> Tensor:
        """Computes the optimiser step up to this batch once more, in half as large parts, and gives the batch's loss.

        Raises:
            ConfigError: the parts cannot get smaller, or other processes train too.
        """
        module, trainer = self.module, self.module.trainer
        while True:
            self._halve(images.shape[0], trainer)
            module.optimizers(use_pl_optimizer=False).zero_grad()
            module.guard.restore()
            try:
                for number in range(batch_idx - batch_idx % trainer.accumulate_grad_batches, batch_idx):
                    module.on_train_batch_start(None, number)
                    self.accumulate(*self._rebuild(number))
                module.on_train_batch_start(None, batch_idx)
                return self.accumulate(images, targets)
            except torch.OutOfMemoryError:
                pass  # not repeated here, where the error still holds the memory of its frames

    def accumulate(self, images: Tensor, targets: Tensor) -> Tensor:
        """Adds the gradient of one batch, part by part, and gives its mean loss."""
        module, trainer = self.module, self.module.trainer
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        total = torch.zeros((), device=images.device)
        for part, labels in zip(images.tensor_split(self.parts), targets.tensor_split(self.parts), strict=True):
            with trainer.precision_plugin.train_step_context():
                loss = module.compute_loss(part, labels) * (part.shape[0] / images.shape[0])
            total += loss.detach()
            loss = loss / trainer.accumulate_grad_batches
            with torch.autocast(images.device.type, enabled=False):
                (loss if scaler is None else scaler.scale(loss)).backward()
        return total

    def _halve(self, images: int, trainer: Any) -> None:
        """Halves the size of the parts, and says so."""
        if trainer.world_size > 1:
            raise ConfigError(
                f"out of memory with {images} images at once on process {trainer.global_rank}; go on from the last "
                f"checkpoint with --resume, trainer.accumulate={2 * trainer.accumulate_grad_batches} and "
                f"--allow-change trainer.accumulate"
            )
        self.parts *= 2
        if images // self.parts < SMALLEST_PART:
            raise ConfigError(
                f"out of memory even with {2 * images // self.parts} images at once; lower data.image_size or take a "
                f"smaller network"
            )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning(
            f"out of memory at step {trainer.global_step + 1}: it is repeated, and all others follow, in {self.parts} "
            f"parts of {images // self.parts} images; BatchNorm's statistics are now those of such parts. To have that "
            f"from the beginning: trainer.accumulate={self.parts * trainer.accumulate_grad_batches}"
        )

    def _rebuild(self, number: int) -> tuple[Tensor, Tensor]:
        """A batch of this epoch once more, on the device and augmented."""
        module, data = self.module, self.module.trainer.datamodule
        batch = data.batch_at(module.current_epoch, number)
        batch = batch._replace(images=batch.images.to(module.device), labels=batch.labels.to(module.device))
        images, targets = data.on_after_batch_transfer(batch, 0)
        return images, targets
