"""Whether the loader keeps up with the model, and how long the run will take."""

import math
from collections.abc import Iterator

import torch

from rexnet.config import Config
from rexnet.data.augment.transforms import build_train_transform
from rexnet.data.datamodule import ImageData
from rexnet.data.dataset import ImageDataset
from rexnet.data.loaders import build_train_sampler, resolve_loader
from rexnet.data.workers import explained_faults
from rexnet.dataset_tools.loader_speed import measure_speed
from rexnet.doctor.finding import Finding
from rexnet.doctor.machine import megabytes
from rexnet.doctor.rehearsal import Rehearsal
from rexnet.system.device import resolve_accelerator, resolve_devices
from rexnet.system.resources import count_cores

SECONDS = 4.0  # of loading


def measure_loading(config: Config, data: ImageData) -> float:
    """Images/s that all loader processes of this machine deliver, decoding each."""
    dataset = ImageDataset(data.train_index, build_train_transform(config.data, config.augmentation), config.seed)
    settings = resolve_loader(config.data, config.trainer)
    settings = settings._replace(workers=settings.local_workers(data.world_size), devices=1)
    with explained_faults([dataset], config.data.worker_timeout):
        return measure_speed(dataset, build_train_sampler(config, data.train_index), settings, SECONDS)


def compare_speeds(config: Config, loader: float, model: float, workers: int, cores: int) -> Finding:
    """Which of the two waits for the other, and what to do.

    Args:
        config: the run.
        loader: images/s of all loader processes of this machine.
        model: images/s of all its devices.
        workers: number of these loader processes.
        cores: that they may use.
    """
    text = f"loader {loader:,.0f} img/s with {workers} processes, model {model:,.0f}"
    if config.data.cache is not None:
        text += f"; from data.cache={config.data.cache}, once it is filled, images load faster"
    if loader >= model or config.data.cache is not None:
        return Finding("ok", "loading", text)
    needed = math.ceil(max(1, workers) * model / loader)
    devices = resolve_devices(config.trainer, resolve_accelerator(config.trainer))
    if workers < needed <= cores:
        remedy = f"use data.num_workers={math.ceil(needed / devices)} or data.cache"
    else:
        remedy = f"{cores} cores do not deliver more, so use data.cache=ram, or disk"
    return Finding("warning", "loading", f"{text}: the model waits; {remedy}")


def combine_speeds(loader: float, model: float, workers: int, threads: int, cores: int) -> float:
    """Images/s of a run: those of the slower side or, where the sides share the cores, what their work adds up to.

    Args:
        loader: images/s of the loader processes alone.
        model: images/s of the model alone.
        workers: loader processes.
        threads: with which the model computes on the same cores; 0 on a GPU.
        cores: that they have.
    """
    together = min(loader, model)
    if threads == 0:
        return together
    work = min(workers, cores) / loader + min(threads, cores) / model  # seconds of a core for an image
    return min(together, cores / work)


def forecast(config: Config, data: ImageData, seen: Rehearsal, checkpoint: int) -> Iterator[Finding]:
    """Measures the loader; compares it with the model and says how long a run takes and how large it gets."""
    accelerator, nodes, cores = resolve_accelerator(config.trainer), config.trainer.num_nodes, count_cores()
    workers = resolve_loader(config.data, config.trainer).local_workers(data.world_size)
    on_cpu = accelerator == "cpu"  # where several processes share what one was measured with
    devices, threads = (1, torch.get_num_threads()) if on_cpu else (resolve_devices(config.trainer, accelerator), 0)
    loader = measure_loading(config, data)
    yield compare_speeds(config, loader, devices * seen.images_per_s, workers, cores)
    speeds = (devices * seen.images_per_s, devices * seen.eval_images_per_s)
    training, evaluation = (nodes * combine_speeds(loader, model, max(1, workers), threads, cores) for model in speeds)
    total = config.schedule.total_epochs * data.steps_per_epoch
    steps = min(total, config.trainer.max_steps or total)
    validations = steps // data.steps_per_epoch // config.trainer.val_every_epochs
    seconds = steps * config.data.batch_size / training + validations * len(data.val_index) / evaluation
    text = f"about {duration(seconds)} for {steps:,} steps at {training:,.0f} img/s and {validations} validations"
    yield Finding("ok", "forecast", f"{text}; {megabytes((config.trainer.keep_best + 2) * checkpoint)} of checkpoints")


def duration(seconds: float) -> str:
    """A time for people, in its two largest units."""
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 2:
        return f"{seconds:.0f} s"
    if hours < 2:
        return f"{minutes:.0f} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.1f} days"
