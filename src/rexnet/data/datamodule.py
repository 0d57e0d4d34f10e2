"""The data of a run for Lightning: which loaders, how batches are shared out, and what happens on the device."""

import os
import time
from pathlib import Path

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader

from rexnet.config.schema import Config
from rexnet.data.cache_plan import (
    build_eval_dataset,
    build_train_dataset,
    fill_cache,
    lacking_eval_bytes,
    require_filled,
)
from rexnet.data.dataset import Batch, CachedImages, CachedViews, ImageDataset, Sample, stack
from rexnet.data.datasets import load_index
from rexnet.data.device import augment_batch, normalize
from rexnet.data.index import Index, Split
from rexnet.data.sampling import EvalBatchSampler, TrainBatchSampler
from rexnet.data.transforms import build_eval_transform
from rexnet.data.workers import PREFETCHED, require_shared_memory, start_worker
from rexnet.errors import ConfigError, DataError
from rexnet.hardware import resolve_accelerator, resolve_devices, use_channels_last

MOST_WORKERS = 16


class ImageData(pl.LightningDataModule):
    """Training and validation images of a configuration, for any number of processes.

    Batches leave `on_after_batch_transfer` as (images, targets): float32 (N, 3, H, W), and int64 (N,) or, where mixed,
    float32 (N, classes).

    Args:
        config: the run.
        world_size: processes that share each batch.

    Raises:
        DataError: the data set is missing, inconsistent or smaller than one batch, or several nodes would have to
            fill its cache.
        ConfigError: `data.batch_size` cannot be shared out evenly.
    """

    def __init__(self, config: Config, world_size: int = 1) -> None:
        super().__init__()
        self.config = config
        self.device_batch = share_batch(config, world_size)
        self.train_index = load_index(config.data, "train")
        self.val_index = load_index(config.data, "val")
        require_filled(config, self.train_index, self.val_index)
        self.world_size = world_size
        self.received = 0.0
        """When the latest batch came from the loader, by `time.perf_counter`."""
        self.loaded: list[ImageDataset] = []
        """What loaders read from, for messages."""
        self.steps_per_epoch = len(self._train_sampler(rank=0)) // config.trainer.accumulate

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of the labels."""
        return self.train_index.class_names

    def train_dataloader(self) -> DataLoader[Sample]:
        """Keyed batches of this process, going on where a resumed run stopped."""
        assert self.trainer is not None
        sampler = self._train_sampler(self.trainer.global_rank)
        sampler.start_at(*self._position(len(sampler)))
        beside = lacking_eval_bytes(self.config, self.val_index)
        if self.config.data.cache == "ram":
            beside += (
                count_local_workers(self.config, self.world_size)
                * PREFETCHED
                * batch_bytes(sampler.share, self.config.data.image_size)
            )
        dataset = build_train_dataset(self.config, self.train_index, beside)
        return build_loader(self._share(dataset), sampler, self.config)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Every validation image once over all processes."""
        assert self.trainer is not None
        sampler = EvalBatchSampler(len(self.val_index), self.device_batch, self.trainer.global_rank, self.world_size)
        return build_loader(self._share(build_eval_dataset(self.config, self.val_index)), sampler, self.config)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Notes when the batch came; what Lightning does from here on is work, not waiting."""
        self.received = time.perf_counter()
        return batch

    def paths_of_step(self, epoch: int, batch: int) -> list[str]:
        """The files of all images, of all processes and accumulated parts, in the step that ends with this batch."""
        first = batch - batch % self.config.trainer.accumulate
        samplers = [self._train_sampler(rank) for rank in range(self.world_size)]
        return [
            self.train_index.name(key.position)
            for number in range(first, batch + 1)
            for sampler in samplers
            for key in sampler.batch_at(epoch, number)
        ]

    def batch_at(self, epoch: int, batch: int) -> Batch:
        """The batch of this process once more, read here and now: it is a function of these two numbers."""
        assert self.trainer is not None
        sampler = self._train_sampler(self.trainer.global_rank)
        dataset = self.loaded[0]  # that of training, with its cache
        return stack([dataset[key] for key in sampler.batch_at(epoch, batch)])

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """(images, targets) on the device; training batches are augmented."""
        assert self.trainer is not None
        data = self.config.data
        images = normalize(batch.images, data.mean, data.std, use_channels_last(self.config))
        if not self.trainer.training:
            return images, batch.labels
        classes, epoch = len(self.class_names), self.trainer.current_epoch
        return augment_batch(images, batch.labels, self.config.augmentation, classes, batch.seed, epoch)

    def _train_sampler(self, rank: int) -> TrainBatchSampler:
        return build_train_sampler(self.config, self.train_index, rank, self.world_size)

    def _share(self, dataset: ImageDataset) -> ImageDataset:
        """`dataset`; a cache in memory loses its name once all processes have opened it, so that nothing is left."""
        self.loaded.append(dataset)
        if isinstance(dataset, CachedImages | CachedViews) and self.config.data.cache == "ram":
            assert self.trainer is not None
            self.trainer.strategy.barrier("image cache")
            dataset.cache.unlink()
        return dataset

    def _position(self, batches_per_epoch: int) -> tuple[int, int]:
        """Epoch and batch at which a fit starts, from the progress that Lightning restored."""
        assert self.trainer is not None
        loop = self.trainer.fit_loop
        epoch = loop.epoch_progress.current.processed  # type: ignore[attr-defined]  # its base class hides it
        batch = loop.epoch_loop.batch_progress.current.ready if loop.restarting else 0
        return (epoch, batch) if batch < batches_per_epoch else (epoch + 1, 0)


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
        config.trainer.accumulate,
        config.data.last_batch,
        repeats=config.augmentation.repeats,
        balance=index.labels if config.data.sampling == "balanced" else None,
    )
    if len(sampler) < config.trainer.accumulate:
        raise DataError(
            f"{index.root}: has {len(index)} images, fewer than one batch of {config.data.batch_size}; lower "
            f"data.batch_size or set data.last_batch=pad"
        )
    return sampler


def fill_caches(config: Config) -> list[tuple[Path, int]]:
    """Fills the caches of both splits; gives each one's file and size in bytes.

    Raises:
        DataError: an image is broken, or there is no room.
    """
    val_index = load_index(config.data, "val")
    train = build_train_dataset(config, load_index(config.data, "train"), lacking_eval_bytes(config, val_index))
    val = build_eval_dataset(config, val_index)
    caches = []
    for dataset in (train, val):
        assert isinstance(dataset, CachedImages | CachedViews)
        fill_cache(dataset, count_workers(config), config.data)
        caches.append((dataset.cache.path, dataset.cache.used_bytes))
    return caches


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
        pin_memory=resolve_accelerator(config) == "gpu",
    )


def build_eval_loader(config: Config, index: Index, rank: int = 0, world_size: int = 1) -> DataLoader[Sample]:
    """A loader over `index` with the evaluation transform, each image once over all processes."""
    transform = build_eval_transform(config.data.image_size, config.eval_transform)
    sampler = EvalBatchSampler(len(index), share_batch(config, world_size), rank, world_size)
    return build_loader(ImageDataset(index, transform, config.seed), sampler, config)


def load_eval_index(config: Config, split: Split, root: Path | None = None) -> Index:
    """The images of `split` in the configured data set, or all of those in the same kind of data set at `root`."""
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
    parts = world_size * config.trainer.accumulate
    share, rest = divmod(config.data.batch_size, parts)
    if rest or share < 2:
        raise ConfigError(
            f"data.batch_size: {config.data.batch_size} should be a multiple of {parts} "
            f"({world_size} processes x trainer.accumulate {config.trainer.accumulate}) with at least 2 images each"
        )
    return share


def count_workers(config: Config) -> int:
    """Loader processes for each device."""
    if config.data.num_workers is not None:
        return config.data.num_workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, max(1, cores // resolve_devices(config, resolve_accelerator(config))))


def count_local_workers(config: Config, world_size: int) -> int:
    """Loader processes of all processes of a run on this machine."""
    return count_workers(config) * min(world_size, resolve_devices(config, resolve_accelerator(config)))


def batch_bytes(images: int, image_size: int) -> int:
    """Size of a batch as loader processes hand it over."""
    return images * 3 * image_size**2
