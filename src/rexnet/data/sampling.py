"""Which images a process sees, and in which order, as a pure function of (seed, epoch, rank)."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch

from rexnet.data.keys import mix

ORDER, BATCH, MODEL = range(3)  # purposes of a key, so that no two share a stream


class SampleKey(NamedTuple):
    """What an image and its augmentation depend on, beside the seed."""

    epoch: int
    position: int
    """Place of the image in its `Index`."""
    view: int = 0
    """How many times the image came before in this epoch."""


class TrainBatchSampler:
    """Batches of keys for one process: a fresh permutation each epoch, shared out without overlap.

    Batch b of all processes together is the same `batch_size` images for any number of processes; process `rank` takes
    every `world_size`-th of them, in `accumulate` parts.

    Args:
        num_samples: images in the split.
        batch_size: images in an optimiser step over all processes; divisible by `world_size * accumulate`.
        last_batch: `drop` the incomplete batch at the end, or `pad` it from the permutation's start.
        repeats: views of an image that follow each other (repeated augmentation, arXiv 1901.09335, in the form of
            DeiT: an epoch keeps its length), so that they fall into one batch and different processes.
        balance: class of each image (n,), where all classes shall come equally often; None: each image comes once.
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
        repeats: int = 1,
        balance: np.ndarray | None = None,
    ) -> None:
        assert batch_size % (world_size * accumulate) == 0
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.rank, self.world_size, self.accumulate = rank, world_size, accumulate
        self.device_batch = batch_size // (world_size * accumulate)
        """Images in a batch of this process's loader."""
        self.steps = -(-num_samples // batch_size) if last_batch == "pad" else num_samples // batch_size
        self.repeats, self.balance = repeats, balance
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
        order, views = self._plan(epoch)
        return (self._batch(order, views, epoch, number) for number in range(start, len(self)))

    def batch_at(self, epoch: int, number: int) -> list[SampleKey]:
        """The batch of that number in that epoch, wherever an iteration stands."""
        return self._batch(*self._plan(epoch), epoch, number)

    def _plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the images of an epoch, padded as asked for, and how many times each came before in it."""
        order = self._order(epoch)
        if self.steps * self.batch_size > self.num_samples:
            order = np.resize(order, self.steps * self.batch_size)  # goes on from the start
        if self.repeats > 1 or self.balance is not None:
            return order, count_earlier(order)
        return order, np.arange(len(order)) // self.num_samples

    def _order(self, epoch: int) -> np.ndarray:
        """Positions of the images of an epoch, (num_samples,)."""
        generator = torch.Generator().manual_seed(mix(self.seed, epoch, ORDER) >> 1)
        order = torch.randperm(self.num_samples, generator=generator).numpy()
        if self.balance is not None:
            places = balanced_places(self.balance[order])
            order = order[places][torch.randperm(self.num_samples, generator=generator).numpy()]
        return np.repeat(order, self.repeats)[: self.num_samples]

    def _batch(self, order: np.ndarray, views: np.ndarray, epoch: int, number: int) -> list[SampleKey]:
        step, part = divmod(number, self.accumulate)
        places = range(step * self.batch_size + self.rank, (step + 1) * self.batch_size, self.world_size)
        size = len(places) // self.accumulate
        share = places[part * size : (part + 1) * size]
        chosen = np.array(share)
        return [SampleKey(epoch, *key) for key in zip(order[chosen].tolist(), views[chosen].tolist(), strict=True)]


def balanced_places(classes: np.ndarray) -> np.ndarray:
    """Places in a shuffled list of classes (n,) at which one finds n images with the classes in turn.

    Each class comes n / classes times, give or take one; of a class, each image comes as often as any other, give or
    take one. The order of the list decides which, so another shuffling gives others.
    """
    names, first = np.unique(classes, return_index=True)
    members = [np.flatnonzero(classes == name) for name in names[np.argsort(first)]]
    rounds, number = np.divmod(np.arange(len(classes)), len(members))
    places = np.empty(len(classes), dtype=np.int64)
    for class_number, images in enumerate(members):
        mine = number == class_number
        places[mine] = images[rounds[mine] % len(images)]
    return places


def count_earlier(values: np.ndarray) -> np.ndarray:
    """For each of `values` (n,), how many equal ones stand before it."""
    by_value = np.argsort(values, kind="stable")
    ordered = values[by_value]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ranks = np.arange(len(values)) - np.repeat(starts, np.diff(np.r_[starts, len(values)]))
    counts = np.empty(len(values), dtype=np.int64)
    counts[by_value] = ranks
    return counts


class EvalBatchSampler:
    """Batches of keys that cover every image exactly once over all processes, in the order of the index.

    Batches are dealt out whole, one to each process in turn, so that they are the same images for any number of
    processes: what a network computes of an image can depend, in the last bit, on the size of its batch. A process that
    gets none has one empty batch, since it must take part in adding up the counts.
    """

    def __init__(self, num_samples: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.num_samples = num_samples
        self.batch_size = self.device_batch = batch_size
        self.world_size = world_size
        self.starts = range(rank * batch_size, max(num_samples, rank * batch_size + 1), world_size * batch_size)

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for start in self.starts:
            yield [SampleKey(0, index) for index in range(start, min(start + self.batch_size, self.num_samples))]
