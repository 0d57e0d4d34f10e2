"""Checks of the machine: precision, shared memory, open files, and disk space."""

import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from rexnet.config.schema import TrainerConfig
from rexnet.data.sources.image_files import size_text
from rexnet.data.workers import PREFETCHED, SHARED_MEMORY, require_shared_memory
from rexnet.doctor.finding import Finding
from rexnet.system.device import has_fast_bf16, resolve_device

FILES_PER_WORKER = 3  # pipes and the process itself
FILES_PER_BATCH = 2  # images and labels in shared memory
SPARE_FILES = 32  # checkpoints, logs, libraries


def check_precision(trainer: TrainerConfig) -> Iterator[Finding]:
    """Names the device and its precision, and warns of a slow choice."""
    device = resolve_device(trainer)
    name = f"CPU ({torch.get_num_threads()} threads)" if device.accelerator == "cpu" else torch.cuda.get_device_name()
    if device.precision == "bf16-mixed" and not has_fast_bf16(device.accelerator):
        text = f"{name}: bf16 is emulated here, up to ten times slower than fp32; use trainer.precision=auto"
        yield Finding("warning", "precision", text)
    elif device.accelerator == "cpu" and torch.cuda.is_available():
        yield Finding("warning", "precision", f"{name}, although there is a GPU; use trainer.accelerator=auto")
    else:
        yield Finding("ok", "precision", f"{device.precision} on {name}")


def check_shared_memory(workers: int, batch_bytes: int) -> Iterator[Finding]:
    """Checks that the batches of all loader workers on this machine fit into /dev/shm."""
    require_shared_memory(workers, batch_bytes)
    if workers == 0 or not SHARED_MEMORY.is_dir():
        yield Finding("ok", "shared memory", "not needed without loader workers")
        return
    free = size_text(shutil.disk_usage(SHARED_MEMORY).free)
    needed = f"{workers} loader workers prefetch {PREFETCHED} batches of {size_text(batch_bytes)} each"
    yield Finding("ok", "shared memory", f"{free} free in {SHARED_MEMORY}; {needed}")


def check_open_files(workers: int) -> Iterator[Finding]:
    """Checks that one process may open the files of its training and validation loaders."""
    limit, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    now = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else SPARE_FILES
    needed = now + SPARE_FILES + 2 * workers * (FILES_PER_WORKER + PREFETCHED * FILES_PER_BATCH)
    text = f"the limit is {limit:,}, about {needed:,} are needed"
    if limit >= needed:
        yield Finding("ok", "open files", text)
    else:
        remedy = "ulimit -n 4096" if hard_limit >= 4096 or hard_limit < 0 else "a higher hard limit (ulimit -Hn)"
        yield Finding("error", "open files", f"{text}; set {remedy} in the shell, or lower data.num_workers")


def check_disk(trainer: TrainerConfig, checkpoint_bytes: int) -> Iterator[Finding]:
    """Checks that the folder of runs is writable and has space for all checkpoints."""
    folder, files = trainer.runs_dir, trainer.keep_best + 2  # last.ckpt and previous.ckpt
    needed = (files + 1) * checkpoint_bytes  # a new file is complete before it replaces an old one
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield Finding("error", "disk", f"trainer.runs_dir: {folder} cannot be written to: {error}")
        return
    text = (
        f"{files} checkpoints of {size_text(checkpoint_bytes)} and a temporary one need {size_text(needed)}; "
        f"{size_text(free)} are free in {folder}"
    )
    if free < needed:
        yield Finding("error", "disk", f"{text}; lower trainer.keep_best or set trainer.runs_dir to a larger disk")
    else:
        yield Finding("ok", "disk", text)
