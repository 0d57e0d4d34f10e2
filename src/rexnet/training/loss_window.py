"""The mean training loss since the last log entry and over the epoch."""

import math
from typing import Any

import torch
from torch import Tensor, distributed


class LossWindow:
    """Adds up losses on the device, so that the host waits for it only at log entries.

    Losses that are not finite are left out: their steps are skipped. The sums are part of checkpoints, so that a
    resumed run logs the same numbers.
    """

    def __init__(self) -> None:
        self.sums = torch.zeros(2)  # of this process since the last `pop`: finite losses, and their number
        self.epoch_mean = 0.0
        """Mean loss of the epoch up to the last `pop`."""
        self._batches = 0
        self._epoch_sum, self._epoch_batches = 0.0, 0

    def to(self, device: torch.device) -> None:
        """Moves the sums to a device."""
        self.sums = self.sums.to(device)

    def start_epoch(self) -> None:
        """Starts the mean of a new epoch; the old one stays readable until the next `pop`."""
        self._batches, self._epoch_sum, self._epoch_batches = 0, 0.0, 0

    def add(self, loss: Tensor) -> None:
        """Adds the mean loss of one batch."""
        loss = loss.detach()
        finite = torch.isfinite(loss)
        self.sums += torch.stack([torch.where(finite, loss, 0.0), finite]).float()
        self._batches += 1

    def pop(self) -> float:
        """Returns the mean loss of all processes since the last call, NaN without any finite one, and starts again."""
        if _is_shared():
            distributed.all_reduce(self.sums)
        total, number = self.sums.tolist()
        self.sums.zero_()
        mean = total / number if number else math.nan
        if math.isfinite(mean):
            self._epoch_sum += mean * self._batches
            self._epoch_batches += self._batches
            self.epoch_mean = self._epoch_sum / self._epoch_batches
        self._batches = 0
        return mean

    def state_dict(self) -> dict[str, Any]:
        """Returns plain values, among them the sums of every process."""
        epoch = [self._epoch_sum, self._epoch_batches, self.epoch_mean]
        return {"sums": _gather(self.sums), "batches": self._batches, "epoch": epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the sums of this process; with another number of processes the first takes them all."""
        rank, world_size = (distributed.get_rank(), distributed.get_world_size()) if _is_shared() else (0, 1)
        sums = torch.tensor(state["sums"])
        if len(sums) != world_size:
            sums = torch.cat([sums.sum(0, keepdim=True), torch.zeros(world_size - 1, 2)])
        self.sums = sums[rank].to(self.sums.device)
        self._batches = state["batches"]
        self._epoch_sum, self._epoch_batches, self.epoch_mean = state["epoch"]


def _is_shared() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _gather(values: Tensor) -> list[list[float]]:
    """Returns the values (n,) of each process."""
    if not _is_shared():
        return [values.tolist()]
    parts = [torch.zeros_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, values)
    return [part.tolist() for part in parts]
