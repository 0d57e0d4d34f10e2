"""The Lightning data module: loaders, gradient accumulation, and what happens to a batch on the device."""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rexnet.config.data_schema import BatchConfig
from rexnet.config.schema import Config, TrainerConfig
from rexnet.data.augment.batch import augment_batch, normalize
from rexnet.data.cache.cached_datasets import build_eval_dataset, build_train_dataset
from rexnet.data.cache.filling import CacheStore
from rexnet.data.dataset import Batch, ImageDataset, KeyedDataset
from rexnet.data.datasets import load_index
from rexnet.data.datasets.index import Index, Split
from rexnet.data.datasets.remarks import remark_on_data
from rexnet.data.loaders import (
    build_eval_loader,
    build_loader,
    build_train_sampler,
    eval_batch_size,
    resolve_loader,
    train_batch_size,
)
from rexnet.data.sampling import TrainBatchSampler
from rexnet.errors import DataError
from rexnet.preprocessing import resolve_preprocessing
from rexnet.system.device import resolve_device, resolve_nodes
from rexnet.system.lightning_internals import resume_position


class KeyedData(pl.LightningDataModule):
    """The part of data that all tasks share: keyed batches for any number of processes, and their way to the device.

    A task sets the attributes declared here, and adds `train_sampler` and `on_after_batch_transfer`.

    Raises:
        ConfigError: `data.batch_size` is not divisible by the processes.
    """

    train_index: Any  # `Index` or that of another task
    train_dataset: KeyedDataset
    val_dataset: KeyedDataset
    steps_per_epoch: int  # optimizer steps

    def __init__(self, data: BatchConfig, trainer: TrainerConfig, world_size: int) -> None:
        super().__init__()
        self.device_batch = train_batch_size(data.step_images, world_size, trainer.micro_batches)
        self.eval_batch = eval_batch_size(data.step_images)
        self.micro_batches, self.world_size = trainer.micro_batches, world_size
        self.loader_settings = resolve_loader(data, trainer)
        self.received = 0.0  # time at which the latest batch came from the loader, by `time.perf_counter`
        self._copies: torch.cuda.Stream | None = None

    def train_sampler(self, rank: int) -> TrainBatchSampler:
        """Returns the order of the training images for one process."""
        raise NotImplementedError

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of the labels."""
        names: tuple[str, ...] = self.train_index.class_names
        return names

    @property
    def datasets(self) -> tuple[KeyedDataset, KeyedDataset]:
        """The data sets that loader processes read."""
        return self.train_dataset, self.val_dataset

    def train_dataloader(self) -> DataLoader[Any]:
        """Returns the batches of this process, starting where a resumed run stopped."""
        assert self.trainer is not None
        sampler = self.train_sampler(self.trainer.global_rank)
        epoch, batch = resume_position(self.trainer)
        sampler.start_at(*((epoch, batch) if batch < len(sampler) else (epoch + 1, 0)))
        return build_loader(self.train_dataset, sampler, self.loader_settings)

    def val_dataloader(self) -> DataLoader[Any]:
        """Returns every validation image once over all processes, in the batches of evaluation."""
        assert self.trainer is not None
        rank = self.trainer.global_rank
        return build_eval_loader(self.val_dataset, self.eval_batch, self.loader_settings, rank, self.world_size)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Records when the batch came, to tell waiting for data from computing."""
        self.received = time.perf_counter()
        return batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Copies a batch on a CUDA stream of its own, while the device still computes earlier steps."""
        if device.type != "cuda":
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        self._copies = self._copies or torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._copies):
            copied = super().transfer_batch_to_device(batch, device, dataloader_idx)
        stream = torch.cuda.current_stream(device)
        stream.wait_stream(self._copies)
        for part in copied:
            if isinstance(part, Tensor):
                part.record_stream(stream)  # its memory is not reused before the step has read it
        return copied

    def paths_of_step(self, epoch: int, batch: int) -> list[str]:
        """Returns the files of all processes and micro-batches in the step that ends with this batch."""
        first = batch - batch % self.micro_batches
        samplers = [self.train_sampler(rank) for rank in range(self.world_size)]
        return [
            self.train_dataset.index.name(key.position)
            for number in range(first, batch + 1)
            for sampler in samplers
            for key in sampler.batch_at(epoch, number)
        ]


class ImageData(KeyedData):
    """Training and validation images of a configuration, for any number of processes.

    Batches leave `on_after_batch_transfer` as (images, targets): float32 (N, 3, H, W), and int64 (N,) or, if mixed,
    float32 (N, classes).

    Raises:
        DataError: the data set is missing, inconsistent, smaller than one batch or of one class, or several nodes
            would have to fill its cache.
        ConfigError: `data.batch_size` is not divisible by the processes.
    """

    train_index: Index
    train_dataset: ImageDataset
    val_dataset: ImageDataset

    def __init__(self, config: Config, world_size: int = 1) -> None:
        super().__init__(config.data, config.trainer, world_size)
        self.config = config
        self.train_index = load_index(config.data, "train")
        self.val_index = load_index(config.data, "val")
        if len(self.class_names) < 2:
            raise DataError(
                f"{self.train_index.root}: has one class, {self.class_names[0]}; a classifier needs two or more, "
                f"such as a class of everything else"
            )
        self.indexes: dict[Split, Index] = {"train": self.train_index, "val": self.val_index}
        preprocessing = resolve_preprocessing(config, self.train_index.class_names)
        self.train_dataset = build_train_dataset(
            self.train_index, config.data, config.augmentation, config.training_sizes, config.seed
        )
        self.val_dataset = build_eval_dataset(self.val_index, config.data, preprocessing)
        self.cache = CacheStore((self.train_dataset, self.val_dataset), config.data, config.trainer)
        self.cache.require_filled(resolve_nodes(config.trainer))
        self.channels_last = resolve_device(config.trainer).channels_last
        self.steps_per_epoch = len(self.train_sampler(rank=0)) // self.micro_batches

    @property
    def remarks(self) -> list[str]:
        """Sentences about the images that a user may not expect."""
        return remark_on_data(self.config.data, self.train_index, self.val_index)

    def prepare_data(self) -> None:
        """Fills missing caches; Lightning calls it in the first process of each node, and the others wait."""
        self.cache.fill(self.loader_settings)

    def setup(self, stage: str) -> None:
        """Opens the caches in every process."""
        self.cache.open()

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Returns (images, targets) on the device; training batches are augmented."""
        assert self.trainer is not None
        data = self.config.data
        images = normalize(batch.images, data.mean, data.std, self.channels_last)
        if not self.trainer.training:
            return images, batch.labels
        classes, epoch = len(self.class_names), self.trainer.current_epoch
        return augment_batch(images, batch.labels, self.config.augmentation, classes, batch.seed, epoch)

    def train_sampler(self, rank: int) -> TrainBatchSampler:
        return build_train_sampler(self.config, self.train_index, rank, self.world_size)


def fill_caches(config: Config) -> list[tuple[Path, int]]:
    """Fills the caches of both splits on disk; returns the path and size in bytes of each."""
    data = ImageData(config.model_copy(update={"trainer": config.trainer.model_copy(update={"num_nodes": 1})}))
    data.cache.fill(data.loader_settings)
    paths = [data.cache.path_of(dataset) for dataset in data.cache.datasets]
    return [(path, path.stat().st_size) for path in paths]
