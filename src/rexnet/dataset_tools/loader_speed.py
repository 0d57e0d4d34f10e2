"""How fast a configuration's training images come out of the loader."""

import time
from collections.abc import Iterator, Sequence

from rexnet.config.schema import Config
from rexnet.data.cache.cached_datasets import build_train_dataset
from rexnet.data.cache.filling import CacheStore
from rexnet.data.dataset import ImageDataset
from rexnet.data.datasets import load_index
from rexnet.data.loaders import LoaderSettings, build_loader, build_train_sampler, resolve_loader
from rexnet.data.sampling import TrainBatchSampler
from rexnet.data.workers import PREFETCHED, explained_faults
from rexnet.system.resources import count_cores

CLOSE_ENOUGH = 0.95  # of the fastest; more processes would only take memory
MOST_TRIED = 32


def worker_numbers() -> list[int]:
    """0, the powers of two below the number of cores, and that number."""
    most = min(count_cores(), MOST_TRIED)
    return sorted({0, most} | {1 << bit for bit in range(most.bit_length()) if 1 << bit <= most})


def measure_speeds(config: Config, numbers: Sequence[int], seconds: float) -> Iterator[tuple[int, float]]:
    """Pairs of a number of loader processes and the images/s that they deliver, measured one after the other.

    Raises:
        DataError: the data set is missing or too small, an image is broken, or a loader process died or hung.
    """
    index = load_index(config.data, "train")
    dataset = build_train_dataset(index, config.data, config.augmentation, config.seed)
    settings, sampler = resolve_loader(config.data, config.trainer), build_train_sampler(config, index)
    cache = CacheStore([dataset], config.data, config.trainer)
    cache.fill(settings._replace(workers=max(numbers)))
    cache.open()
    for workers in numbers:
        with explained_faults([dataset], config.data.worker_timeout):
            speed = measure_speed(dataset, sampler, settings._replace(workers=workers), seconds)
        yield workers, speed


def measure_speed(dataset: ImageDataset, sampler: TrainBatchSampler, settings: LoaderSettings, seconds: float) -> float:
    """Returns the images/s over `seconds` of whole batches, once the workers have filled their queues."""
    loader = build_loader(dataset, sampler, settings)
    ahead = 1 + PREFETCHED * settings.workers
    images, began = 0, 0.0
    for epoch in range(1_000_000):
        sampler.set_epoch(epoch)
        for batch in loader:
            ahead -= 1
            if ahead == 0:  # what had been made ahead before the clock runs must not count
                began = time.perf_counter()
            elif ahead < 0:
                images += len(batch.images)
                if time.perf_counter() - began >= seconds:
                    return images / (time.perf_counter() - began)
    raise AssertionError("the time never passed")


def recommend_workers(speeds: dict[int, float]) -> int:
    """The smallest number whose speed is close to the fastest; not 0, which loads between steps instead of beside them,
    unless nothing else was tried.
    """
    beside = {number: speed for number, speed in speeds.items() if number > 0} or speeds
    return min(number for number, speed in beside.items() if speed >= CLOSE_ENOUGH * max(beside.values()))
