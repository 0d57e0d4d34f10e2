"""Skips steps with a non-finite loss or gradient."""

from typing import Any

import torch
from torch import Tensor, nn


class NonFiniteGuard:
    """Keeps a bad step out of the weights, the optimizer, the EMA and the statistics of BatchNorm.

    All of it is done by masks on the device: a Python `if` on a GPU tensor would make the host wait in every step. The
    host reads the verdicts where it waits anyway, at the next log entry. Processes need not agree on a verdict: they
    share one gradient, and a bad loss in one process makes it NaN in all.
    """

    def __init__(self) -> None:
        self.bad = torch.zeros((), dtype=torch.bool)
        """True on the device if the current step is bad."""
        self.streak = 0
        """Bad steps in a row, up to the last `pop`."""
        self._verdicts: list[Tensor] = []

    def start(self, model: nn.Module) -> None:
        """Remembers the statistics of a network that is on its device and in a sound state."""
        self._statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        if self._statistics:
            self._good = torch.cat([buffer.reshape(-1) for buffer in self._statistics])
            pieces = torch.split(self._good, [buffer.numel() for buffer in self._statistics])
            self._pieces = [piece.view_as(buffer) for piece, buffer in zip(pieces, self._statistics, strict=True)]

    def check(self, norm: Tensor, optimizer: Any) -> None:
        """Judges a step by its gradient's norm; `optimizer` will leave weights and state alone if it is bad."""
        self.bad = ~torch.isfinite(norm)
        self._verdicts.append(self.bad)
        self._is_first = not optimizer.state
        if "fused" not in optimizer.defaults:
            if self.bad:  # the host waits: only fused optimizers can skip a step on the device
                optimizer.zero_grad(set_to_none=True)
        elif all(group["fused"] for group in optimizer.param_groups):
            optimizer.found_inf = self.bad.float()  # as a GradScaler does; in fp16 the scaler itself skips the step

    def rollback(self, optimizer: Any) -> None:
        """Restores the statistics of the last good step if the step that `optimizer` has just made was bad."""
        if self._is_first:  # PyTorch leaves the new momentum of a skipped first step uninitialized
            for value in (value for state in optimizer.state.values() for value in state.values()):
                if isinstance(value, Tensor):
                    value.masked_fill_(self.bad.to(value.device), 0)
        if self._statistics:
            now = torch.cat([buffer.reshape(-1) for buffer in self._statistics])
            torch.where(self.bad, self._good, now, out=self._good)
            torch._foreach_copy_(self._statistics, self._pieces)

    def pop(self) -> list[int]:
        """Returns the number of bad steps in a row up to each step since the last call; waits for the device."""
        streaks = []
        for bad in torch.stack(self._verdicts).tolist() if self._verdicts else []:
            self.streak = self.streak + 1 if bad else 0
            streaks.append(self.streak)
        self._verdicts = []
        return streaks


def propagate_nonfinite(loss: Tensor) -> Tensor:
    """Returns the same loss with a NaN gradient if it is not finite; that of an infinite loss can be finite."""
    return loss * (1.0 + 0.0 * loss.detach())
