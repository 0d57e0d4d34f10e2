"""The order of the images for each process, as a pure function of (seed, epoch, rank)."""

import collections
import itertools
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch

from rexnet.data.keys import mix

ORDER, BATCH, MODEL = range(3)  # purposes of a key, so that no two use the same random numbers


class SampleKey(NamedTuple):
    """Identifies an image and its augmentation, together with the seed."""

    epoch: int
    position: int  # of the image in its `Index`
    view: int = 0  # number of earlier views of the image in this epoch


class AnnouncingBatch(list[SampleKey]):
    """A batch of keys, with the images that the same loader process reads next."""

    upcoming: tuple[int, ...] = ()


class TrainBatchSampler:
    """Batches of keys for one process: a new permutation each epoch, divided without overlap.

    Step s has the same `batch_size` images for any number of processes; process `rank` takes every `world_size`-th of
    them, in `accumulate` micro-batches.

    Args:
        num_samples: images in the split.
        batch_size: images in an optimizer step over all processes; divisible by `world_size * accumulate`.
        seed: origin of the order.
        rank: number of this process among `world_size`.
        world_size: number of processes.
        accumulate: micro-batches in a step.
        last_batch: `drop` the incomplete batch at the end, or `pad` it from the permutation's start.
        repeats: consecutive views of an image (repeated augmentation, arXiv 1901.09335, in the form of DeiT: an epoch
            keeps its length), which fall into one batch and different processes.
        balance: class of each image (n,) to sample all classes equally often; None samples each image once.
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
        self.steps = -(-num_samples // batch_size) if last_batch == "pad" else num_samples // batch_size
        self.repeats, self.balance = repeats, balance
        self.start_at(epoch=0, batch=0)
        self.sampler = self  # Lightning calls `set_epoch` on a loader's `batch_sampler.sampler`

    def __len__(self) -> int:
        """Returns the micro-batches of a whole epoch, wherever the iteration starts."""
        return self.steps * self.accumulate

    def set_epoch(self, epoch: int) -> None:
        """Selects the epoch of the next iteration."""
        self.epoch = epoch

    def start_at(self, epoch: int, batch: int) -> None:
        """Selects the epoch of the next iteration and its first batch, to resume a run."""
        self.epoch, self.start_epoch, self.start = epoch, epoch, batch

    def __iter__(self) -> Iterator[list[SampleKey]]:
        # Not a generator: loaders prefetch, so epoch and start must be read now, not at the first batch. The start
        # belongs to its epoch, not to the first call: a loader with processes calls this twice.
        epoch, start = self.epoch, self.start if self.epoch == self.start_epoch else 0
        order, views = self._plan(epoch)
        return (self._batch(order, views, epoch, number) for number in range(start, len(self)))

    def batch_at(self, epoch: int, number: int) -> list[SampleKey]:
        """Returns a batch of an epoch by its number."""
        return self._batch(*self._plan(epoch), epoch, number)

    def _plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the positions of an epoch, padded if so configured, and the number of earlier views of each."""
        generator = torch.Generator().manual_seed(mix(self.seed, epoch, ORDER) >> 1)
        order = torch.randperm(self.num_samples, generator=generator).numpy()
        if self.balance is not None:
            places = balanced_places(self.balance[order])
            order = order[places][torch.randperm(self.num_samples, generator=generator).numpy()]
        if self.repeats > 1:
            order = np.repeat(order, self.repeats)[: self.num_samples]
        if self.steps * self.batch_size > self.num_samples:
            order = np.resize(order, self.steps * self.batch_size)  # repeats it from the start
        if self.repeats > 1 or self.balance is not None:
            return order, count_earlier(order)
        if len(order) == self.num_samples:
            return order, np.broadcast_to(np.int64(0), order.shape)  # zeros without memory of their own
        return order, np.arange(len(order)) // self.num_samples

    def _batch(self, order: np.ndarray, views: np.ndarray, epoch: int, number: int) -> list[SampleKey]:
        step, part = divmod(number, self.accumulate)
        places = range(step * self.batch_size + self.rank, (step + 1) * self.batch_size, self.world_size)
        chosen = np.array(places[part * self.device_batch : (part + 1) * self.device_batch])
        return [SampleKey(epoch, *key) for key in zip(order[chosen].tolist(), views[chosen].tolist(), strict=True)]


def balanced_places(classes: np.ndarray) -> np.ndarray:
    """Selects n places of a shuffled list of classes (n,), with the classes in turn.

    All classes come equally often up to one, and so do the images of a class. The order of the list decides which
    images come more often, so each shuffling selects others.
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
    """Returns for each of `values` (n,) the number of equal ones before it."""
    by_value = np.argsort(values, kind="stable")
    ordered = values[by_value]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ranks = np.arange(len(values)) - np.repeat(starts, np.diff(np.r_[starts, len(values)]))
    counts = np.empty(len(values), dtype=np.int64)
    counts[by_value] = ranks
    return counts


class EvalBatchSampler:
    """Batches of keys that cover every image exactly once over all processes, in the order of the index.

    The processes take whole batches in turn, so that the batches are the same for any number of processes: the last
    bit of a logit can depend on the size of its batch. A process without a batch gets an empty one, because it must
    take part in summing the counts.
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


class AnnouncingSampler:
    """Yields the batches of another sampler, each with the images that the same loader process reads next.

    A loader process can thus fetch those images while it decodes the current ones. PyTorch gives it one batch at a
    time, and gives batches to the `readers` processes in turn.
    """

    def __init__(self, sampler: TrainBatchSampler | EvalBatchSampler, readers: int) -> None:
        self.sampler, self.readers = sampler, readers  # Lightning calls `sampler.set_epoch`

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[AnnouncingBatch]:
        return self._announce(iter(self.sampler))  # its `__iter__` reads the epoch now

    def _announce(self, batches: Iterator[list[SampleKey]]) -> Iterator[AnnouncingBatch]:
        ahead = collections.deque(itertools.islice(batches, self.readers))
        while ahead:
            ahead.extend(itertools.islice(batches, 1))
            batch = AnnouncingBatch(ahead.popleft())
            if len(ahead) == self.readers:
                batch.upcoming = tuple(key.position for key in ahead[-1])
            yield batch
