"""The data of a run for Lightning: which loaders, how batches are shared out, and what happens on the device."""

import time
from pathlib import Path

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader

from rexnet.config.schema import Config
from rexnet.data.augment.batch import augment_batch, normalize
from rexnet.data.cache.cached_datasets import (
    CachedImages,
    CachedViews,
    build_eval_dataset,
    build_train_dataset,
    fill_cache,
    lacking_eval_bytes,
    require_filled,
)
from rexnet.data.dataset import Batch, ImageDataset, Sample
from rexnet.data.datasets import load_index
from rexnet.data.loaders import (
    batch_bytes,
    build_eval_loader,
    build_loader,
    build_train_sampler,
    eval_batch_size,
    resolve_loader,
    train_batch_size,
)
from rexnet.data.sampling import TrainBatchSampler
from rexnet.data.workers import PREFETCHED
from rexnet.system.device import use_channels_last
from rexnet.system.lightning_internals import resume_position


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
        self.device_batch = train_batch_size(config.data.batch_size, world_size, config.trainer.micro_batches)
        self.loader_settings = resolve_loader(config.data, config.trainer)
        self.train_index = load_index(config.data, "train")
        self.val_index = load_index(config.data, "val")
        require_filled(config, self.train_index, self.val_index)
        self.world_size = world_size
        self.received = 0.0
        """When the latest batch came from the loader, by `time.perf_counter`."""
        self.loaded: list[ImageDataset] = []
        """What loaders read from, for messages."""
        self.steps_per_epoch = len(self._train_sampler(rank=0)) // config.trainer.micro_batches

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
                self.loader_settings.local_workers(self.world_size)
                * PREFETCHED
                * batch_bytes(self.device_batch, self.config.data.image_size)
            )
        dataset = build_train_dataset(self.config, self.train_index, beside)
        return build_loader(self._share(dataset), sampler, self.loader_settings)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Returns every validation image once over all processes, in the batches of evaluation."""
        assert self.trainer is not None
        dataset = self._share(build_eval_dataset(self.config, self.val_index))
        batch_size = eval_batch_size(self.config.data.batch_size)
        return build_eval_loader(dataset, batch_size, self.loader_settings, self.trainer.global_rank, self.world_size)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Notes when the batch came; what Lightning does from here on is work, not waiting."""
        self.received = time.perf_counter()
        return batch

    def paths_of_step(self, epoch: int, batch: int) -> list[str]:
        """The files of all images, of all processes and accumulated parts, in the step that ends with this batch."""
        first = batch - batch % self.config.trainer.micro_batches
        samplers = [self._train_sampler(rank) for rank in range(self.world_size)]
        return [
            self.train_index.name(key.position)
            for number in range(first, batch + 1)
            for sampler in samplers
            for key in sampler.batch_at(epoch, number)
        ]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """(images, targets) on the device; training batches are augmented."""
        assert self.trainer is not None
        data = self.config.data
        images = normalize(batch.images, data.mean, data.std, use_channels_last(self.config.trainer))
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
        """Returns the epoch and batch at which training starts."""
        assert self.trainer is not None
        epoch, batch = resume_position(self.trainer)
        return (epoch, batch) if batch < batches_per_epoch else (epoch + 1, 0)


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
        fill_cache(dataset, resolve_loader(config.data, config.trainer).workers, config.data)
        caches.append((dataset.cache.path, dataset.cache.used_bytes))
    return caches
