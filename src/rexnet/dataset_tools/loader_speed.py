"""Measures how fast the loader delivers training images."""

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

CLOSE_ENOUGH = 0.95  # of the fastest; more processes would only cost memory
MAX_TRIED = 32


def worker_numbers() -> list[int]:
    """Returns 0, the powers of two below the number of cores, and that number."""
    most = min(count_cores(), MAX_TRIED)
    return sorted({0, most} | {1 << bit for bit in range(most.bit_length()) if 1 << bit <= most})


def measure_speeds(config: Config, numbers: Sequence[int], seconds: float) -> Iterator[tuple[int, float]]:
    """Yields each number of loader processes with the images/s that they deliver.

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
        with explained_faults([dataset], settings.timeout):
            speed = measure_speed(dataset, sampler, settings._replace(workers=workers), seconds)
        yield workers, speed


def measure_speed(dataset: ImageDataset, sampler: TrainBatchSampler, settings: LoaderSettings, seconds: float) -> float:
    """Returns the images/s over `seconds` of whole batches, once the workers have filled their queues."""
    loader = build_loader(dataset, sampler, settings)
    ahead = 1 + PREFETCHED * settings.workers
    images, start = 0, 0.0
    for epoch in range(1_000_000):
        sampler.set_epoch(epoch)
        for batch in loader:
            ahead -= 1
            if ahead == 0:  # batches that were prefetched before this moment do not count
                start = time.perf_counter()
            elif ahead < 0:
                images += len(batch.images)
                if time.perf_counter() - start >= seconds:
                    return images / (time.perf_counter() - start)
    raise AssertionError("the clock did not move")


def recommend_workers(speeds: dict[int, float]) -> int:
    """Returns the smallest number of processes whose speed is close to the fastest.

    0 is recommended only if nothing else was tried: it loads between the steps, not during them.
    """
    parallel = {number: speed for number, speed in speeds.items() if number > 0} or speeds
    return min(number for number, speed in parallel.items() if speed >= CLOSE_ENOUGH * max(parallel.values()))
