"""Which images a process sees, and in which order, as a pure function of (seed, epoch, rank)."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch

from rexnet.data.keys import mix

ORDER, BATCH, MODEL = range(3)  # purposes of a key, so that no two share a stream


class SampleKey(NamedTuple):
    """What an image and its augmentation depend on, beside the seed."""

    epoch: int
    position: int
    """Place of the image in its `Index`."""


class TrainBatchSampler:
    """Batches of keys for one process: a fresh permutation each epoch, shared out without overlap.

    Batch b of all processes together is the same `batch_size` images for any number of processes; process `rank` takes
    every `world_size`-th of them, in `accumulate` parts.

    Args:
        num_samples: images in the split.
        batch_size: images in an optimiser step over all processes; divisible by `world_size * accumulate`.
        last_batch: `drop` the incomplete batch at the end, or `pad` it from the permutation's start.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        last_batch: Literal["drop", "pad"] = "drop",
    ) -> None:
        assert batch_size % (world_size * accumulate) == 0
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.rank, self.world_size, self.accumulate = rank, world_size, accumulate
        self.steps = -(-num_samples // batch_size) if last_batch == "pad" else num_samples // batch_size
        self.epoch = 0
        self.start_epoch, self.start = 0, 0
        self.sampler = self  # Lightning calls `set_epoch` on a loader's `batch_sampler.sampler`

    def __len__(self) -> int:
        """Loader batches of a whole epoch, wherever the iteration starts."""
        return self.steps * self.accumulate

    def set_epoch(self, epoch: int) -> None:
        """Makes the next iteration that of `epoch`."""
        self.epoch = epoch

    def start_at(self, epoch: int, batch: int) -> None:
        """Makes `epoch` begin at `batch`: how a resumed run goes on."""
        self.epoch = self.start_epoch = epoch
        self.start = batch

    def __iter__(self) -> Iterator[list[SampleKey]]:
        # Not a generator: workers fetch ahead, so epoch and start must be taken now, not at the first batch.
        # And the start belongs to its epoch, not to the first call: a loader with processes calls this twice at once.
        epoch, start = self.epoch, self.start if self.epoch == self.start_epoch else 0
        order = self._order(epoch)
        return (self._batch(order, epoch, number) for number in range(start, len(self)))

    def batch_at(self, epoch: int, number: int) -> list[SampleKey]:
        """The batch of that number in that epoch, wherever an iteration stands."""
        return self._batch(self._order(epoch), epoch, number)

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(mix(self.seed, epoch, ORDER) >> 1)
        return torch.randperm(self.num_samples, generator=generator).tolist()

    def _batch(self, order: list[int], epoch: int, number: int) -> list[SampleKey]:
        step, part = divmod(number, self.accumulate)
        places = range(step * self.batch_size + self.rank, (step + 1) * self.batch_size, self.world_size)
        size = len(places) // self.accumulate
        share = places[part * size : (part + 1) * size]
        return [SampleKey(epoch, order[place % self.num_samples]) for place in share]


class EvalBatchSampler:
    """Batches of keys that cover every image exactly once over all processes, in the order of the index.

    A process that gets none has one empty batch, since it must take part in adding up the counts.
    """

    def __init__(self, num_samples: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.places = range(rank, num_samples, world_size)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return max(1, -(-len(self.places) // self.batch_size))

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for start in range(0, max(1, len(self.places)), self.batch_size):
            yield [SampleKey(0, index) for index in self.places[start : start + self.batch_size]]
