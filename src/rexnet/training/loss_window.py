"""The mean training loss since the last log entry and over the epoch."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed


class LossWindow:
    """Adds up losses on the device, so that the host waits for it only at log entries.

    Losses that are not finite are left out, since their steps are skipped. The sums are part of checkpoints, so that a
    resumed run logs the same numbers.
    """

    def __init__(self) -> None:
        self.sums = torch.zeros(2)
        """Finite losses of this process since the last `pop`: their sum, their number, and the sums of their parts."""
        self.parts: dict[str, float] = {}
        """Means of the parts of the loss over all processes at the last `pop`."""
        self.epoch_mean = 0.0
        """Mean over all processes and the epoch up to the last `pop`."""
        self._epoch_sum, self._epoch_number = 0.0, 0.0

    def start_epoch(self) -> None:
        """Starts the mean of a new epoch at the next `pop`."""
        self._epoch_sum, self._epoch_number = 0.0, 0.0

    def add(self, loss: Tensor, parts: Mapping[str, Tensor] | None = None) -> None:
        """Adds the loss of one batch, and what it is the sum of."""
        parts, loss = parts or {}, loss.detach()
        finite = torch.isfinite(loss)
        kept = self.sums[: 2 + len(parts)]
        if self.parts.keys() != parts.keys() or len(kept) < len(self.sums):  # the first batch, resumed or not
            self.parts = dict.fromkeys(parts, math.nan)
            self.sums = torch.cat([kept, kept.new_zeros(2 + len(parts) - len(kept))])
        values = [torch.where(finite, value, 0.0) for value in (loss, *(part.detach() for part in parts.values()))]
        self.sums += torch.stack([values[0], finite, *values[1:]]).float()

    def pop(self) -> float:
        """Returns the mean over all processes since the last call, or NaN without any finite loss."""
        if distributed.is_initialized():
            distributed.all_reduce(self.sums)
        total, number, *parts = self.sums.tolist()
        self.sums.zero_()
        self.parts = {name: part / number if number else math.nan for name, part in zip(self.parts, parts, strict=True)}
        if not number:
            return math.nan
        self._epoch_sum += total
        self._epoch_number += number
        self.epoch_mean = self._epoch_sum / self._epoch_number
        return float(total / number)

    def state_dict(self) -> dict[str, Any]:
        """Returns plain values, among them the sums of every process."""
        parts = [self.sums]
        if distributed.is_initialized():
            parts = [torch.zeros_like(self.sums) for _ in range(distributed.get_world_size())]
            distributed.all_gather(parts, self.sums)
        epoch = [self._epoch_sum, self._epoch_number, self.epoch_mean]
        return {"sums": [part.tolist() for part in parts], "epoch": epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the sums of this process; with another number of processes the first takes them all."""
        shared = distributed.is_initialized()
        rank, world_size = (distributed.get_rank(), distributed.get_world_size()) if shared else (0, 1)
        sums = torch.tensor(state["sums"])
        if len(sums) != world_size:
            sums = torch.cat([sums.sum(0, keepdim=True), sums.new_zeros(world_size - 1, sums.shape[1])])
        self.sums = sums[rank].to(self.sums.device)
        self._epoch_sum, self._epoch_number, self.epoch_mean = state["epoch"]
