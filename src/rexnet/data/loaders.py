"""Loaders of batches, in a keyed order and shared out over processes; without Lightning, which takes long to import."""

from pathlib import Path

from torch.utils.data import DataLoader

from rexnet.config.schema import Config
from rexnet.data.augment.transforms import build_eval_transform
from rexnet.data.dataset import ImageDataset, Sample, stack
from rexnet.data.datasets import load_index
from rexnet.data.datasets.index import Index, Split
from rexnet.data.sampling import EvalBatchSampler, TrainBatchSampler
from rexnet.data.workers import require_shared_memory, start_worker
from rexnet.errors import ConfigError, DataError
from rexnet.system.device import resolve_accelerator, resolve_devices
from rexnet.system.resources import count_cores

MOST_WORKERS = 16
LARGEST_EVAL_BATCH = 128  # 1.3 GB of ReXNet 1.0x at 224 px, measured; 64 processes may share a batch of 4,096


def build_train_sampler(config: Config, index: Index, rank: int = 0, world_size: int = 1) -> TrainBatchSampler:
    """The order of the training images for one process, as configured.

    Raises:
        DataError: there are fewer images than one batch.
    """
    sampler = TrainBatchSampler(
        len(index),
        config.data.batch_size,
        config.seed,
        rank,
        world_size,
        config.trainer.micro_batches,
        config.data.last_batch,
        repeats=config.augmentation.repeats,
        balance=index.labels if config.data.sampling == "balanced" else None,
    )
    if len(sampler) < config.trainer.micro_batches:
        raise DataError(
            f"{index.root}: has {len(index)} images, fewer than one batch of {config.data.batch_size}; lower "
            f"data.batch_size or set data.last_batch=pad"
        )
    return sampler


def build_loader(
    dataset: ImageDataset, sampler: TrainBatchSampler | EvalBatchSampler, config: Config
) -> DataLoader[Sample]:
    """A loader of `Batch`es in the order of `sampler`."""
    workers = count_workers(config)
    require_shared_memory(
        count_local_workers(config, sampler.world_size), batch_bytes(sampler.share, config.data.image_size)
    )
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=stack,
        num_workers=workers,
        persistent_workers=workers > 0 and config.data.persistent_workers,
        multiprocessing_context=config.data.start_method if workers else None,
        timeout=config.data.worker_timeout if workers else 0,
        worker_init_fn=start_worker,
        pin_memory=resolve_accelerator(config.trainer) == "gpu",
    )


def build_eval_loader(config: Config, index: Index, rank: int = 0, world_size: int = 1) -> DataLoader[Sample]:
    """A loader over `index` with the evaluation transform: each image once over all processes, in batches that are
    the same for any number of them.
    """
    transform = build_eval_transform(config.data.image_size, config.eval_transform)
    sampler = EvalBatchSampler(len(index), eval_batch(config), rank, world_size)
    return build_loader(ImageDataset(index, transform, config.seed), sampler, config)


def load_eval_index(config: Config, split: Split, root: Path | None = None) -> Index:
    """The images of `split` in the configured data set, or all of those in the same kind of data set at `root`.

    Raises:
        DataError: they are missing or inconsistent.
    """
    if root is None:
        return load_index(config.data, split)
    if not root.exists():  # the digits would be made there
        raise DataError(f"{root}: does not exist")
    other = {"root": root, "manifest": None, "on_bad_image": "error", "download": False}
    return load_index(config.data.model_copy(update=other), split)


def share_batch(config: Config, world_size: int) -> int:
    """Images that a process computes at once.

    Raises:
        ConfigError: the batch does not divide by processes and accumulation, or leaves a single image, which
            BatchNorm cannot train on.
    """
    parts = world_size * config.trainer.micro_batches
    share, rest = divmod(config.data.batch_size, parts)
    if rest or share < 2:
        raise ConfigError(
            f"data.batch_size: {config.data.batch_size} should be a multiple of {parts} "
            f"({world_size} processes x trainer.accumulate {config.trainer.micro_batches}) with at least 2 images each"
        )
    return share


def eval_batch(config: Config) -> int:
    """Images that evaluation computes at once: as many as one process alone would train on, up to what any GPU holds.

    It does not depend on the number of processes, so that no number does.
    """
    return min(LARGEST_EVAL_BATCH, share_batch(config, 1))


def count_workers(config: Config) -> int:
    """Loader processes for each device."""
    if config.data.num_workers is not None:
        return config.data.num_workers
    return min(
        MOST_WORKERS, max(1, count_cores() // resolve_devices(config.trainer, resolve_accelerator(config.trainer)))
    )


def count_local_workers(config: Config, world_size: int) -> int:
    """Loader processes of all processes of a run on this machine."""
    return count_workers(config) * min(world_size, resolve_devices(config.trainer, resolve_accelerator(config.trainer)))


def batch_bytes(images: int, image_size: int) -> int:
    """Size of a batch as loader processes hand it over."""
    return images * 3 * image_size**2
