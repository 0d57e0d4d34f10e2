"""Runs all checks, in the order in which a run would meet the problems."""

from collections.abc import Iterator
from statistics import median

import torch

from rexnet.config import Config
from rexnet.data.datamodule import ImageData
from rexnet.doctor.checks import check_cache, check_classes, check_disk, check_precision
from rexnet.doctor.dry_run import (
    STEPS,
    check_losses,
    check_memory,
    checkpoint_bytes,
    dry_run_config,
    load_batch,
    run_steps,
)
from rexnet.doctor.estimate import compare_speeds, estimate_time, mean_pixels, measure_loading
from rexnet.doctor.finding import Finding, attempt
from rexnet.errors import ConfigError, RexnetError, user_message
from rexnet.models.factory import adopt_preprocessing
from rexnet.system.device import resolve_device, resolve_devices
from rexnet.system.launcher import started_by_launcher
from rexnet.system.resources import available_memory
from rexnet.training.accumulation import settle_accumulation
from rexnet.training.classification import build_classifier, settle_batch_size
from rexnet.training.loggers import require_loggers


def examine(config: Config) -> Iterator[Finding]:
    """Checks a run before it starts, in about a minute; an error ends the checks that depend on it.

    The dry run uses this process and one device, with that device's part of each batch.

    Raises:
        ConfigError: this process is one of several that a launcher started.
    """
    if started_by_launcher():
        raise ConfigError("rexnet doctor: checks a run in a single process; call it without torchrun or srun")
    try:
        config = adopt_preprocessing(config)
        require_loggers(config.trainer.loggers)
        accelerator = resolve_device(config.trainer).accelerator
        world_size = resolve_devices(config.trainer) * config.trainer.num_nodes
        if config.data.batch_size == "auto":
            config = settle_batch_size(config, world_size, resolve_device(config.trainer).torch_device)
        data = ImageData(config, world_size)
    except RexnetError as error:
        yield Finding("error", "config", user_message(error))
        return
    yield Finding("ok", "config", f"{config.name}: {config.model.name} on {world_size} x {accelerator}")
    yield from check_classes(data)
    yield check_precision(config.trainer)
    yield from attempt("cache", check_cache(data))
    yield from attempt("training", check_training(data))


def check_training(data: ImageData) -> Iterator[Finding]:
    """Makes a dry run and estimates the time of the run."""
    config, images, counts = data.config, data.device_batch, data.train_index.class_counts().tolist()
    device = resolve_device(config.trainer)
    module = build_classifier(dry_run_config(config), data.class_names, counts, steps_per_epoch=STEPS - 1)
    yield check_disk(config.trainer, checkpoint_bytes(module))
    free = torch.cuda.mem_get_info()[0] if device.accelerator == "gpu" else available_memory()
    if config.trainer.accumulate == "auto":
        images //= settle_accumulation(module, images, device.torch_device)
    steps = run_steps(module, load_batch(data, images))
    yield check_memory(steps.peak_bytes, images, free)
    yield check_losses(steps.losses, config.optimizer.lr)
    devices = 1 if device.accelerator == "cpu" else data.loader_settings.devices  # processes on a CPU share its cores
    size = max(config.training_sizes)  # of the dry run, whose first step is slower than all others
    model = devices * images / median(steps.seconds[1:]) * size**2 / mean_pixels(config.training_sizes)
    loader = measure_loading(data)
    yield compare_speeds(data, loader, model)
    yield estimate_time(data, loader, model)
