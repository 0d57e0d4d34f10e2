"""The mean training loss since the last log entry and over the epoch."""

import math
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
        """Finite losses of this process since the last `pop`: their sum and their number."""
        self.epoch_mean = 0.0
        """Mean over all processes and the epoch up to the last `pop`."""
        self._epoch_sum, self._epoch_number = 0.0, 0.0

    def start_epoch(self) -> None:
        """Starts the mean of a new epoch at the next `pop`."""
        self._epoch_sum, self._epoch_number = 0.0, 0.0

    def add(self, loss: Tensor) -> None:
        """Adds the loss of one batch."""
        loss = loss.detach()
        finite = torch.isfinite(loss)
        self.sums += torch.stack([torch.where(finite, loss, 0.0), finite]).float()

    def pop(self) -> float:
        """Returns the mean over all processes since the last call, or NaN without any finite loss."""
        if distributed.is_initialized():
            distributed.all_reduce(self.sums)
        total, number = self.sums.tolist()
        self.sums.zero_()
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
            sums = torch.cat([sums.sum(0, keepdim=True), torch.zeros(world_size - 1, 2)])
        self.sums = sums[rank].to(self.sums.device)
        self._epoch_sum, self._epoch_number, self.epoch_mean = state["epoch"]
