"""What the machine gives: arithmetic, shared memory, files that may be open, room on the disk, memory."""

import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from rexnet.config import Config
from rexnet.data.loaders import batch_bytes, resolve_loader, train_batch_size
from rexnet.data.workers import PREFETCHED, SHARED_MEMORY, require_shared_memory
from rexnet.doctor.finding import Finding, Level
from rexnet.system.device import has_fast_bf16, resolve_accelerator, resolve_precision
from rexnet.system.resources import count_cores

FILES_OF_A_WORKER = 3  # pipes and the process itself
FILES_OF_A_BATCH = 2  # images and labels, each a file in shared memory until it was taken
SPARE_FILES = 32  # checkpoints, logs, libraries


def check_arithmetic(config: Config) -> Iterator[Finding]:
    """Where it is computed, and in which precision."""
    accelerator = resolve_accelerator(config.trainer)
    precision = resolve_precision(config.trainer, accelerator)
    where = torch.cuda.get_device_name() if accelerator == "gpu" else f"CPU (threads: {torch.get_num_threads()})"
    if precision == "bf16-mixed" and not has_fast_bf16(accelerator):
        text = f"{where}: bf16 is emulated here, up to ten times slower than fp32; use trainer.precision=auto"
        yield Finding("warning", "precision", text)
    elif accelerator == "cpu" and torch.cuda.is_available():
        yield Finding("warning", "precision", f"{where}, though there is a GPU; use trainer.accelerator=auto")
    else:
        yield Finding("ok", "precision", f"{precision} on {where}")


def check_load() -> Iterator[Finding]:
    """Whether other programs keep the cores busy, so that all speeds are too low."""
    load, cores = os.getloadavg()[0], count_cores()
    if load > cores:
        text = f"{load:.1f} programs compute on {cores} cores already; speeds and times below are those of now"
        yield Finding("warning", "machine", text)


def check_shared_memory(config: Config, world_size: int) -> Iterator[Finding]:
    """Whether the batches of all loader processes have room in /dev/shm."""
    workers = resolve_loader(config.data, config.trainer).local_workers(world_size)
    images = train_batch_size(config.data.batch_size, world_size, config.trainer.micro_batches)
    size = batch_bytes(images, config.data.image_size)
    require_shared_memory(workers, size)
    if workers == 0 or not SHARED_MEMORY.is_dir():
        yield Finding("ok", "shared memory", "not needed, since no loader process runs beside the training")
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    needed = f"{workers} loader processes keep {PREFETCHED} batches of {size / 1e6:.1f} MB each"
    yield Finding("ok", "shared memory", f"{free / 1e6:,.0f} MB free in {SHARED_MEMORY}; {needed}")


def check_open_files(config: Config) -> Iterator[Finding]:
    """Whether this process may open as many files as its loaders of both splits need."""
    workers = resolve_loader(config.data, config.trainer).workers
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    now = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else SPARE_FILES
    needed = now + SPARE_FILES + 2 * workers * (FILES_OF_A_WORKER + PREFETCHED * FILES_OF_A_BATCH)
    text = f"{limit:,} may be open, about {needed:,} will be"
    if limit >= needed:
        yield Finding("ok", "open files", text)
        return
    level: Level = "error" if limit < needed - SPARE_FILES else "warning"
    raised = "ulimit -n 4096" if most >= 4096 or most < 0 else "a higher hard limit (ulimit -Hn)"
    yield Finding(level, "open files", f"{text}; give the shell {raised}, or lower data.num_workers")


def check_disk(config: Config, checkpoint_bytes: int) -> Iterator[Finding]:
    """Whether the folder of runs can be written to, and has room for the checkpoints to come."""
    folder, files = config.trainer.runs_dir, config.trainer.keep_best + 2
    needed = (files + 1) * checkpoint_bytes  # the one that is being written stands beside those that it replaces
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
        f"{files} checkpoints of {megabytes(checkpoint_bytes)} and one in the making need {megabytes(needed)}, "
        f"{megabytes(free)} are free in {folder}"
    )
    if free < needed:
        yield Finding("error", "disk", f"{text}; lower trainer.keep_best or set trainer.runs_dir to a larger disk")
    elif free < 2 * needed:
        yield Finding("warning", "disk", f"{text}; logs and other runs must not take the rest")
    else:
        yield Finding("ok", "disk", text)


def megabytes(size: float) -> str:
    """A number of bytes for people."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
