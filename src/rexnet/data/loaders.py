"""Data loaders with a deterministic order, sharded over processes; imports no Lightning, which is slow to import."""

import math
from multiprocessing import set_forkserver_preload
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch.utils.data import DataLoader

from rexnet.config.data_schema import LoaderConfig
from rexnet.config.schema import Config, TrainerConfig
from rexnet.data.dataset import KeyedDataset
from rexnet.data.datasets.index import Index
from rexnet.data.sampling import AnnouncingSampler, EvalBatchSampler, TrainBatchSampler
from rexnet.data.sources.source import Source
from rexnet.data.workers import require_shared_memory, start_worker
from rexnet.errors import ConfigError, DataError
from rexnet.system.device import resolve_device, resolve_devices
from rexnet.system.launcher import possible_world_sizes, started_by_launcher
from rexnet.system.resources import count_cores

MAX_WORKERS = 16
MAX_EVAL_BATCH = 128  # 1.3 GB for ReXNet 1.0x at 224 px (measured), which any GPU has


class LoaderSettings(NamedTuple):
    """The mechanics of the `data` section, resolved for this machine."""

    workers: int  # of each loader
    devices: int  # training or evaluation processes on this machine; each has its own loaders
    persistent_workers: bool
    start_method: Literal["fork", "forkserver", "spawn"] | None
    timeout: float  # seconds to wait for a batch
    pin_memory: bool

    def local_workers(self, world_size: int) -> int:
        """Returns the number of workers on this machine if each process of the run has one loader."""
        return self.workers * min(world_size, self.devices)


def resolve_loader(data: LoaderConfig, trainer: TrainerConfig) -> LoaderSettings:
    """Resolves the loader settings for this machine."""
    devices = resolve_devices(trainer)
    default = min(MAX_WORKERS, max(1, count_cores() // devices))
    workers = default if data.num_workers is None else data.num_workers
    pin_memory = resolve_device(trainer).accelerator == "gpu"
    return LoaderSettings(workers, devices, data.persistent_workers, data.start_method, data.worker_timeout, pin_memory)


def build_train_sampler(config: Config, index: Index, rank: int = 0, world_size: int = 1) -> TrainBatchSampler:
    """Returns the order of the training images for one process; a split smaller than one batch is an error."""
    data, accumulate, repeats = config.data, config.trainer.micro_batches, config.augmentation.repeats
    balance = index.labels if data.sampling == "balanced" else None
    sampler = TrainBatchSampler(
        len(index), data.step_images, config.seed, rank, world_size, accumulate, data.last_batch, repeats, balance
    )
    return require_steps(sampler, index.root)


def require_steps(sampler: TrainBatchSampler, root: Path) -> TrainBatchSampler:
    """Returns the sampler of a split at `root`; one that is smaller than one batch is an error."""
    if sampler.steps == 0:
        raise DataError(
            f"{root}: has {sampler.num_samples} images, fewer than one batch of {sampler.batch_size}; lower "
            f"data.batch_size or set data.last_batch=pad"
        )
    return sampler


def build_loader(
    dataset: KeyedDataset, sampler: TrainBatchSampler | EvalBatchSampler, settings: LoaderSettings
) -> DataLoader[Any]:
    """Returns a loader of batches in the order of `sampler`."""
    source = dataset.index.source
    batch_bytes = sampler.device_batch * dataset.sample_bytes
    require_shared_memory(settings.local_workers(sampler.world_size), batch_bytes)
    return DataLoader(
        dataset,
        batch_sampler=sampler if source.fork_safe else AnnouncingSampler(sampler, max(1, settings.workers)),
        collate_fn=dataset.collate,
        num_workers=settings.workers,
        persistent_workers=settings.workers > 0 and settings.persistent_workers,
        multiprocessing_context=share_source(source, settings, sampler.world_size),
        timeout=settings.timeout if settings.workers else 0,
        worker_init_fn=start_worker,
        pin_memory=settings.pin_memory,
    )


def share_source(source: Source, settings: LoaderSettings, processes: int) -> str | None:
    """Tells a source how many processes of this machine will read from it; returns their start method."""
    source.readers = settings.local_workers(processes) or min(processes, settings.devices)
    if source.fork_safe or not settings.workers:
        return settings.start_method if settings.workers else None
    if settings.start_method == "fork":
        raise ConfigError(f"data.start_method: fork would hang on {source.root}; use forkserver, the default, or spawn")
    set_forkserver_preload(["__main__", "rexnet.data.dataset"])  # imported once, not by each loader process
    return settings.start_method or "forkserver"


def build_eval_loader(
    dataset: KeyedDataset, batch_size: int, settings: LoaderSettings, rank: int = 0, world_size: int = 1
) -> DataLoader[Any]:
    """Returns the loader of training's validation and of evaluation: each image once over all processes.

    The batches are the same for any number of processes, because the last bit of a logit can depend on the size of
    its batch; see `eval_batch_size`.
    """
    return build_loader(dataset, EvalBatchSampler(len(dataset), batch_size, rank, world_size), settings)


def eval_batch_size(batch_size: int) -> int:
    """Returns the images per evaluation batch for a training `data.batch_size`.

    It depends neither on the number of processes nor on gradient accumulation, so that the metrics do not either.
    """
    return min(MAX_EVAL_BATCH, batch_size)


def train_batch_size(batch_size: int, world_size: int, micro_batches: int) -> int:
    """Returns the images per training micro-batch of one device: at least 2, for BatchNorm.

    Raises:
        ConfigError: the batch cannot be divided, here or after an elastic launcher has lost or gained nodes.
    """
    sizes = possible_world_sizes() if started_by_launcher() else [world_size]
    unit, least = math.lcm(*sizes) * micro_batches, 2 * sizes[-1] * micro_batches
    if batch_size % unit or batch_size < least:
        fitting = [size for size in (batch_size // unit * unit, (batch_size // unit + 1) * unit) if size >= least]
        raise ConfigError(
            f"data.batch_size: {batch_size} should be a multiple of {unit} "
            f"({' or '.join(map(str, sizes))} processes x trainer.accumulate {micro_batches}) with at least 2 images "
            f"each, such as {' or '.join(map(str, fitting or [-(-least // unit) * unit]))}"
        )
    return batch_size // (world_size * micro_batches)
