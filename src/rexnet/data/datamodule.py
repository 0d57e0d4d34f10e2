"""The Lightning data module: loaders, gradient accumulation, and what happens to a batch on the device."""

import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rexnet.config.schema import Config
from rexnet.data.augment.batch import augment_batch, normalize
from rexnet.data.cache.cached_datasets import build_eval_dataset, build_train_dataset
from rexnet.data.cache.filling import CacheStore
from rexnet.data.dataset import Batch, Sample
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


class ImageData(pl.LightningDataModule):
    """Training and validation images of a configuration, for any number of processes.

    Batches leave `on_after_batch_transfer` as (images, targets): float32 (N, 3, H, W), and int64 (N,) or, if mixed,
    float32 (N, classes).

    Raises:
        DataError: the data set is missing, inconsistent, smaller than one batch or of one class, or several nodes
            would have to fill its cache.
        ConfigError: `data.batch_size` is not divisible by the processes.
    """

    def __init__(self, config: Config, world_size: int = 1) -> None:
        super().__init__()
        self.config = config
        self.device_batch = train_batch_size(config.data.batch_size, world_size, config.trainer.micro_batches)
        self.loader_settings = resolve_loader(config.data, config.trainer)
        self.train_index = load_index(config.data, "train")
        self.val_index = load_index(config.data, "val")
        if len(self.class_names) < 2:
            raise DataError(
                f"{self.train_index.root}: has one class, {self.class_names[0]}; a classifier needs two or more, "
                f"such as a class of everything else"
            )
        self.indexes: dict[Split, Index] = {"train": self.train_index, "val": self.val_index}
        preprocessing = resolve_preprocessing(config, self.train_index.class_names)
        self.train_dataset = build_train_dataset(self.train_index, config.data, config.augmentation, config.seed)
        self.val_dataset = build_eval_dataset(self.val_index, config.data, preprocessing)
        self.datasets = (self.train_dataset, self.val_dataset)
        self.cache = CacheStore(self.datasets, config.data, config.trainer)
        self.cache.require_filled(resolve_nodes(config.trainer))
        self.world_size = world_size
        self.channels_last = resolve_device(config.trainer).channels_last
        self._copies: torch.cuda.Stream | None = None
        self.received = 0.0  # time at which the latest batch came from the loader, by `time.perf_counter`
        self.steps_per_epoch = len(self._train_sampler(rank=0)) // config.trainer.micro_batches

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of the labels."""
        return self.train_index.class_names

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

    def train_dataloader(self) -> DataLoader[Sample]:
        """Returns the batches of this process, starting where a resumed run stopped."""
        assert self.trainer is not None
        sampler = self._train_sampler(self.trainer.global_rank)
        epoch, batch = resume_position(self.trainer)
        sampler.start_at(*((epoch, batch) if batch < len(sampler) else (epoch + 1, 0)))
        return build_loader(self.train_dataset, sampler, self.loader_settings)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Returns every validation image once over all processes, in the batches of evaluation."""
        assert self.trainer is not None
        batch_size, rank = eval_batch_size(self.config.data.batch_size), self.trainer.global_rank
        return build_eval_loader(self.val_dataset, batch_size, self.loader_settings, rank, self.world_size)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Records when the batch came, to tell waiting for data from computing."""
        self.received = time.perf_counter()
        return batch

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Copies a batch on a CUDA stream of its own, while the device still computes earlier steps."""
        if device.type != "cuda":
            copied: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
            return copied
        self._copies = self._copies or torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._copies):
            copied = super().transfer_batch_to_device(batch, device, dataloader_idx)
        stream = torch.cuda.current_stream(device)
        stream.wait_stream(self._copies)
        for tensor in (copied.images, copied.labels):
            tensor.record_stream(stream)  # its memory is not reused before the step has read it
        return copied

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Returns (images, targets) on the device; training batches are augmented."""
        assert self.trainer is not None
        data = self.config.data
        images = normalize(batch.images, data.mean, data.std, self.channels_last)
        if not self.trainer.training:
            return images, batch.labels
        classes, epoch = len(self.class_names), self.trainer.current_epoch
        return augment_batch(images, batch.labels, self.config.augmentation, classes, batch.seed, epoch)

    def paths_of_step(self, epoch: int, batch: int) -> list[str]:
        """Returns the files of all processes and micro-batches in the step that ends with this batch."""
        first = batch - batch % self.config.trainer.micro_batches
        samplers = [self._train_sampler(rank) for rank in range(self.world_size)]
        return [
            self.train_index.name(key.position)
            for number in range(first, batch + 1)
            for sampler in samplers
            for key in sampler.batch_at(epoch, number)
        ]

    def _train_sampler(self, rank: int) -> TrainBatchSampler:
        return build_train_sampler(self.config, self.train_index, rank, self.world_size)


def fill_caches(config: Config) -> list[tuple[Path, int]]:
    """Fills the caches of both splits on disk; returns the path and size in bytes of each."""
    data = ImageData(config.model_copy(update={"trainer": config.trainer.model_copy(update={"num_nodes": 1})}))
    data.cache.fill(data.loader_settings)
    paths = [data.cache.path_of(dataset) for dataset in data.cache.datasets]
    return [(path, path.stat().st_size) for path in paths]
