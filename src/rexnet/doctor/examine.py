"""All checks, in the order in which a run would meet what they look at."""

from collections.abc import Iterator

import torch

from rexnet.config import Config
from rexnet.data.datamodule import ImageData
from rexnet.doctor.finding import Finding, attempt
from rexnet.doctor.forecast import forecast
from rexnet.doctor.images import check_augmentation, check_cache, check_classes, check_manifest
from rexnet.doctor.machine import (
    check_arithmetic,
    check_disk,
    check_load,
    check_open_files,
    check_shared_memory,
)
from rexnet.doctor.rehearsal import (
    STEPS,
    checkpoint_bytes,
    fixed_batch,
    foresee_memory,
    judge_losses,
    judge_memory,
    rehearse,
    rehearsed,
)
from rexnet.errors import ConfigError, RexnetError, user_message
from rexnet.models.factory import adopt_preprocessing
from rexnet.system.device import free_memory, resolve_accelerator, resolve_devices, set_up_arithmetic
from rexnet.system.launcher import started_by_launcher
from rexnet.training.accumulation import settle_accumulation
from rexnet.training.classification import build_classifier


def examine(config: Config) -> Iterator[Finding]:
    """Looks at a run before it begins, in about a minute; what cannot be looked at after a fault is left out.

    Everything is measured in this process and on one device, with the share that a device has of each batch.

    Raises:
        ConfigError: this process is one of several that a launcher started.
    """
    if started_by_launcher():
        raise ConfigError("rexnet doctor: looks at a run from a single process; call it without torchrun or srun")
    try:
        config = adopt_preprocessing(config)
        accelerator = resolve_accelerator(config.trainer)
        set_up_arithmetic(config.trainer, accelerator)
        world_size = resolve_devices(config.trainer, accelerator) * config.trainer.num_nodes
        data = ImageData(config, world_size)
    except RexnetError as error:
        yield Finding("error", "config", user_message(error))
        return
    yield Finding("ok", "config", f"{config.name}: {config.model.name} on {world_size} x {accelerator}")
    yield from check_load()
    yield from check_classes(data)
    yield from attempt("leak", lambda: check_manifest(config, data))
    yield from attempt("precision", lambda: check_arithmetic(config))
    limits = [
        *attempt("shared memory", lambda: check_shared_memory(config, world_size)),
        *attempt("open files", lambda: check_open_files(config)),
    ]
    yield from limits
    if any(finding.level == "error" for finding in limits):  # loader processes would only die
        config = config.model_copy(update={"data": config.data.model_copy(update={"num_workers": 0})})
    else:
        yield from attempt("augmentation", lambda: check_augmentation(config, data))
    yield from attempt("cache", lambda: check_cache(config, data))
    yield from attempt("training", lambda: _rehearse(config, data))


def _rehearse(config: Config, data: ImageData) -> Iterator[Finding]:
    """The checks that need the network."""
    small, counts = rehearsed(config, data.device_batch), data.train_index.class_counts().tolist()
    module = build_classifier(small, data.class_names, counts, steps_per_epoch=STEPS - 1)  # ends at the peak rate
    size = checkpoint_bytes(config, module)
    yield from check_disk(config, size)
    accelerator = resolve_accelerator(config.trainer)
    free, images = free_memory(accelerator), data.device_batch
    if config.trainer.accumulate == "auto" and accelerator == "gpu":
        images //= settle_accumulation(config, module, images, torch.device("cuda")).trainer.micro_batches
        small = rehearsed(config, images)
    refusal = foresee_memory(small, module, free)
    if refusal is not None:
        yield refusal
        return
    seen = rehearse(small, module, fixed_batch(small, data))
    yield judge_memory(seen, images, free)
    yield judge_losses(seen.losses, config.optimizer.lr)
    yield from forecast(config, data, seen, size)
