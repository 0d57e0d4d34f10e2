"""Estimates the time of a run from the speeds of its loader and its network."""

import math
import time
from collections.abc import Sequence
from statistics import fmean

from rexnet.data.cache.cached_datasets import CachedImages
from rexnet.data.datamodule import ImageData
from rexnet.data.loaders import build_loader, build_train_sampler
from rexnet.data.sources.image_files import size_text
from rexnet.data.workers import PREFETCHED, explained_faults
from rexnet.doctor.dry_run import uncached_dataset
from rexnet.doctor.finding import Finding
from rexnet.runs.state import describe_duration
from rexnet.system.device import resolve_device
from rexnet.system.resources import count_cores

SECONDS = 4.0  # of loading
CACHED_IMAGES = 128
FORWARD = 1 / 3  # of the time of a training step


def mean_pixels(sizes: Sequence[int]) -> float:
    """Returns the mean number of pixels of a training image, from its side in each epoch."""
    return fmean(size**2 for size in sizes)


def measure_loading(data: ImageData) -> float:
    """Returns the images/s of all loader workers on this machine, without a cache, once their queues are filled."""
    settings, dataset = data.loader_settings, uncached_dataset(data)
    settings = settings._replace(workers=settings.local_workers(data.world_size), devices=1)
    sampler = build_train_sampler(data.config, data.train_index)
    loader = build_loader(dataset, sampler, settings)
    ahead, images, start, epoch = 1 + PREFETCHED * settings.workers, 0, math.inf, 0
    with explained_faults([dataset], settings.timeout):
        while True:
            sampler.set_epoch(epoch)
            for batch in loader:
                ahead -= 1
                if ahead == 0:  # batches that were prefetched before this moment do not count
                    start = time.perf_counter()
                elif ahead < 0:
                    images += len(batch.images)
                    if time.perf_counter() - start >= SECONDS:
                        return images / (time.perf_counter() - start)
            epoch += 1


def describe_cache(data: ImageData) -> str:
    """Measures how fast the loader would be with a filled cache, where images only need augmentation."""
    plain, config = uncached_dataset(data), data.config.data
    dataset = CachedImages(
        plain.index, plain.transform, plain.seed, round(config.cache_scale * plain.transform.sizes[0])
    )
    images = [dataset.make(position) for position in range(min(CACHED_IMAGES, len(dataset)))]
    start = time.perf_counter()
    for key, image in enumerate(images):
        dataset.transform(image, key)
    speed = len(images) / (time.perf_counter() - start) * max(1, data.loader_settings.local_workers(data.world_size))
    return f"data.cache=disk (about {speed:,.0f} images/s, {size_text(dataset.estimate_bytes())})"


def compare_speeds(data: ImageData, loader: float, model: float) -> Finding:
    """Compares the images/s of all loader workers on this machine with those of all its devices."""
    settings, cache, cores = data.loader_settings, data.config.data.cache, count_cores()
    workers = settings.local_workers(data.world_size)
    text = f"loader {loader:,.0f} images/s with {workers} workers, model {model:,.0f}"
    if cache is not None:
        text += "; data.cache=disk is faster once it is filled"
    if loader >= model or cache is not None:
        return Finding("ok", "loading", text)
    needed = math.ceil(max(1, workers) * model / loader)
    if workers < needed <= cores:
        remedy = f"use data.num_workers={math.ceil(needed / settings.devices)} or {describe_cache(data)}"
    else:
        remedy = f"that needs {needed} cores, and {cores} are here, so use {describe_cache(data)}"
    return Finding("warning", "loading", f"{text}: the model waits for data; {remedy}")


def estimate_time(data: ImageData, loader: float, model: float) -> Finding:
    """Estimates the time of the whole run from the same speeds."""
    config = data.config
    speed = min(loader, model)
    if resolve_device(config.trainer).accelerator == "cpu":  # where both compete for the cores
        speed = 1 / (1 / loader + 1 / model)
    speed *= config.trainer.num_nodes
    total = config.schedule.total_epochs * data.steps_per_epoch
    steps = min(total, config.trainer.max_steps or total)
    validations = steps // data.steps_per_epoch // config.trainer.val_every_epochs
    passes = 1 if config.ema is None else 2
    validated = validations * len(data.val_index) * passes * FORWARD
    validated *= config.data.image_size**2 / mean_pixels(config.training_sizes)
    duration = describe_duration((steps * config.data.step_images + validated) / speed)
    text = f"about {duration} for {steps:,} steps at {speed:,.0f} images/s and {validations} validations"
    return Finding("ok", "estimate", text)
