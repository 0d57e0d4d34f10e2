"""Steps whose loss or gradient is NaN or infinite: skipped on the device, counted, reported, not endured for ever."""

import json
import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from rexnet.config import Config
from rexnet.errors import DivergenceError

log = logging.getLogger(__name__)

SMALLEST_SCALE = 2.0**-14  # of fp16's loss scale; a sound run stays above 1
NAMED_IMAGES = 3  # in a message; the file holds all


class NonFiniteGuard:
    """Keeps a bad step out of the weights, the optimiser, the averages and BatchNorm's statistics.

    All is done by masks on the device. Asking the device for the verdict before each update would make the host wait
    for it every step (a Python `if` on a GPU tensor); so the host reads the verdicts where it waits anyway, at the next
    log entry. Processes need no agreement: the gradient that they summed is the same on all of them, and a bad loss on
    one has made it NaN on all.
    """

    def __init__(self) -> None:
        self.streak, self.skipped = 0, 0
        self._verdicts: list[Tensor] = []
        self._statistics: list[Tensor] = []

    def start(self, model: nn.Module) -> None:
        """Takes up a network on its device, in a sound state."""
        self._statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        if self._statistics:
            self._good = torch.cat([buffer.reshape(-1) for buffer in self._statistics])
            pieces = torch.split(self._good, [buffer.numel() for buffer in self._statistics])
            self._pieces = [piece.view_as(buffer) for piece, buffer in zip(pieces, self._statistics, strict=True)]

    def judge(self, norm: Tensor, optimizer: Any) -> Tensor:
        """Whether this step is bad, by its gradient's norm; if so, `optimizer` will leave weights and state alone."""
        bad = ~torch.isfinite(norm)
        self._verdicts.append(bad)
        if all(group["fused"] for group in optimizer.param_groups):
            optimizer.found_inf = bad.float()  # what a GradScaler gives to fused kernels; with fp16 it acts itself
        return bad

    def settle(self, bad: Tensor) -> None:
        """After the optimiser's step: gives BatchNorm the statistics of the last good step if this one was bad."""
        if self._statistics:
            now = torch.cat([buffer.reshape(-1) for buffer in self._statistics])
            torch.where(bad, self._good, now, out=self._good)
            self.restore()

    def restore(self) -> None:
        """Gives BatchNorm the statistics that it had after the last good step."""
        if self._statistics:
            torch._foreach_copy_(self._statistics, self._pieces)

    def pop(self) -> list[bool]:
        """Whether each step since the previous call was bad; waits for the device."""
        verdicts = torch.stack(self._verdicts).tolist() if self._verdicts else []
        self._verdicts = []
        return verdicts


def propagate_nonfinite(loss: Tensor) -> Tensor:
    """The same loss, but its gradient is NaN where the loss is not finite; that of an infinite loss can be finite."""
    return loss * (1.0 + 0.0 * loss.detach())


def clear_unset_momentum(optimizer: Any, bad: Tensor) -> None:
    """After a first step that was skipped: PyTorch then leaves SGD's new momentum as uninitialised memory."""
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                value.masked_fill_(bad.to(value.device), 0)


class SkipReport:
    """Tells the user of skipped steps, with their images in `skipped_steps.jsonl`, and ends a run of nothing else."""

    def __init__(self, config: Config, run_folder: Path) -> None:
        self.config = config
        self.path = run_folder / "skipped_steps.jsonl"

    def look(self, trainer: pl.Trainer, guard: NonFiniteGuard, steps_per_epoch: int) -> None:
        """Reads the verdicts since the previous look.

        Raises:
            DivergenceError: too many bad steps in a row, or fp16's loss scale has collapsed.
        """
        verdicts = guard.pop()
        for step, bad in enumerate(verdicts, trainer.global_step - len(verdicts) + 1):
            guard.streak = guard.streak + 1 if bad else 0
            if bad:
                guard.skipped += 1
                images = self._note(trainer, step, steps_per_epoch)
                if guard.streak >= self.config.trainer.max_bad_steps:
                    self._stop(f"loss or gradient was NaN or infinite in {guard.streak} steps in a row", step, images)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and scaler.get_scale() < SMALLEST_SCALE:
            self._stop(f"fp16's loss scale fell to {scaler.get_scale():.3g}", trainer.global_step, [])

    def _note(self, trainer: pl.Trainer, step: int, steps_per_epoch: int) -> list[str]:
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

    def _stop(self, what: str, step: int, images: list[str]) -> None:
        named = f", lastly in step {step} with {', '.join(images[:NAMED_IMAGES])}" if images else f" at step {step}"
        more = f" and {len(images) - NAMED_IMAGES} more (all in {self.path})" if len(images) > NAMED_IMAGES else ""
        raise DivergenceError(
            f"training stopped: {what}{named}{more}. None of these steps touched the weights. Look at the images, or "
            f"lower optimizer.lr ({self.config.optimizer.lr:g}), lengthen schedule.warmup_epochs, set "
            f"optimizer.clip_grad, or use trainer.precision=fp32"
        )
