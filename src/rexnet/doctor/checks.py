"""Checks that need no training step: classes, precision, and space for caches and checkpoints."""

import os
import shutil
from collections.abc import Iterator

import torch

from rexnet.config.schema import TrainerConfig
from rexnet.data.datamodule import ImageData
from rexnet.data.datasets.remarks import describe_splits
from rexnet.data.sources.image_files import size_text
from rexnet.dataset_tools.check_report import UNEVEN_CLASSES
from rexnet.doctor.finding import Finding
from rexnet.system.atomic_files import require_writable
from rexnet.system.device import has_fast_bf16, resolve_device

BUSY = 0.7  # load average, to which this process has added up to 0.2


def check_classes(data: ImageData) -> Iterator[Finding]:
    """Counts images and classes of both splits."""
    train, val = data.train_index, data.val_index
    counts = train.class_counts()
    least, most = int(counts.argmin()), int(counts.argmax())
    text = (
        f"{len(train):,} training and {len(val):,} validation images of {len(train.class_names):,} classes, "
        f"{counts[least]:,} to {counts[most]:,} per class; {data.steps_per_epoch:,} steps per epoch"
        f"{describe_splits(data.config.data)}"
    )
    yield Finding("ok", "data", text)
    if counts[most] > UNEVEN_CLASSES * counts[least]:
        names = f"{train.class_names[least]} has {counts[least]:,} images, {train.class_names[most]} {counts[most]:,}"
        yield Finding("warning", "classes", f"{names}; data.sampling=balanced shows all classes equally often")
    for remark in data.remarks:
        yield Finding("warning", "data", remark)


def check_precision(trainer: TrainerConfig) -> Finding:
    """Names the device and its precision, and warns of a slow choice."""
    device = resolve_device(trainer)
    name = f"CPU ({torch.get_num_threads()} threads)" if device.accelerator == "cpu" else torch.cuda.get_device_name()
    if device.precision == "bf16-mixed" and not has_fast_bf16(device.accelerator):
        text = f"{name}: bf16 is emulated here, up to ten times slower than fp32; use trainer.precision=auto"
        return Finding("warning", "precision", text)
    if device.accelerator == "cpu" and torch.cuda.is_available():
        return Finding("warning", "precision", f"{name}, although there is a GPU; use trainer.accelerator=auto")
    if device.accelerator == "cpu" and (load := os.getloadavg()[0]) > BUSY:
        text = f"{name} with a load of {load:.1f}: other programs slow training; stop them or set OMP_NUM_THREADS"
        return Finding("warning", "precision", text)
    return Finding("ok", "precision", f"{device.precision} on {name}")


def check_cache(data: ImageData) -> Iterator[Finding]:
    """Checks that the cache of decoded images is filled or has space."""
    if data.config.data.cache is None:
        return
    needed, free = data.cache.require_space()
    text = f"needs about {size_text(needed)}, {size_text(free)} are free" if needed else "is filled"
    yield Finding("ok", "cache", text)


def check_disk(trainer: TrainerConfig, checkpoint_bytes: int) -> Finding:
    """Checks that the folder of runs is writable and has space for all checkpoints."""
    folder, files = trainer.runs_dir, trainer.keep_best + 2  # last.ckpt and previous.ckpt
    require_writable(folder / "checkpoints")
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = (files + 1) * checkpoint_bytes, shutil.disk_usage(folder).free
    text = (
        f"{files} checkpoints of {size_text(checkpoint_bytes)} and a temporary one need {size_text(needed)}; "
        f"{size_text(free)} are free in {folder}"
    )
    if free < needed:
        return Finding("error", "disk", f"{text}; lower trainer.keep_best or set trainer.runs_dir to a larger disk")
    return Finding("ok", "disk", text)
