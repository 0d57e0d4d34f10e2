"""The Lightning data module of detection, and batches of images with similar shapes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rexnet.config import DetectionConfig
from rexnet.data.datamodule import KeyedData
from rexnet.data.keys import mix
from rexnet.data.loaders import require_steps
from rexnet.data.sampling import TrainBatchSampler
from rexnet.detection.box_dataset import BoxBatch, BoxDataset
from rexnet.detection.box_index import BoxIndex
from rexnet.detection.box_sets import load_box_index
from rexnet.detection.box_transforms import BoxTransform, build_train_transform

GROUP = 3  # purpose of a key, besides those of `rexnet.data.sampling`


class AspectBatchSampler(TrainBatchSampler):
    """Keyed batches of images that are all wide (or square) or all tall, except for one that has both.

    An epoch has the images of a `TrainBatchSampler`, in other steps, which do not depend on the number of processes
    either.

    Args:
        is_tall: True for each image that is taller than wide, bool (n,).
        arguments: those of `TrainBatchSampler` after the number of samples.
    """

    def __init__(self, is_tall: np.ndarray, *arguments: Any) -> None:
        self.is_tall = is_tall
        super().__init__(len(is_tall), *arguments)

    def _plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        order, views = super()._plan(epoch)
        is_tall = self.is_tall[order[: self.steps * self.batch_size]]
        steps = np.argsort(is_tall, kind="stable").reshape(-1, self.batch_size)
        generator = torch.Generator().manual_seed(mix(self.seed, epoch, GROUP) >> 1)
        places = steps[torch.randperm(self.steps, generator=generator).numpy()].ravel()
        return order[places], views[places]


class DetectionData(KeyedData):
    """Training and validation images of a detector's configuration, for any number of processes.

    Batches leave `on_after_batch_transfer` as (images, targets): float32 (3, H, W) of 0..1 for each image, and for each
    `boxes` float32 (n, 4) in its pixels, `labels` int64 (n,), for Mask R-CNN in training `masks` uint8 (n, H, W), and
    `image_id`, its position in the index. Boxes times the target's `scale` (4,) are in pixels of the file: SSDLite's
    images are resized by the loader processes, and those of the R-CNNs by the network.

    Raises:
        DataError: the data set is missing, inconsistent, defective (if so configured), or smaller than one batch.
        ConfigError: `data.batch_size` is not divisible by the processes.
    """

    train_index: BoxIndex

    def __init__(self, config: DetectionConfig, world_size: int = 1) -> None:
        super().__init__(config.data, config.trainer, world_size)
        self.config, data = config, config.data
        with_masks = config.detector.name == "mask_rcnn"
        self.train_index = load_box_index(data, "train", None, with_masks)
        self.val_index = load_box_index(data, "val", self.train_index.class_names, with_masks)
        if not data.train_on_empty:
            self.train_index = self.train_index.select(np.unique(self.train_index.images[~self.train_index.crowd]))
        square = data.image_size if config.detector.name == "ssdlite" else None
        transform = build_train_transform(config.augmentation, square)
        self.train_dataset = BoxDataset(self.train_index, transform, config.seed, is_training=True)
        self.val_dataset = BoxDataset(self.val_index, BoxTransform((), square))
        self.steps_per_epoch = len(self.train_sampler(rank=0)) // self.micro_batches

    @property
    def remarks(self) -> list[str]:
        """Sentences about the data that a user may not expect."""
        return [text for index in (self.train_index, self.val_index) for text in (*index.defects, *index.remarks)]

    def train_sampler(self, rank: int) -> TrainBatchSampler:
        data, index = self.config.data, self.train_index
        settings = data.step_images, self.config.seed, rank, self.world_size, self.micro_batches, data.last_batch
        if data.group_by_aspect:
            return require_steps(AspectBatchSampler(index.sizes[:, 0] > index.sizes[:, 1], *settings), index.root)
        return require_steps(TrainBatchSampler(len(index), *settings), index.root)

    def on_after_batch_transfer(
        self, batch: BoxBatch, dataloader_idx: int
    ) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """Returns (images, targets) on the device."""
        pixels = batch.images.permute(0, 3, 1, 2).float().div_(255)
        images = [image[:, :height, :width] for image, (height, width) in zip(pixels, batch.sizes, strict=True)]
        boxes, labels = torch.split(batch.boxes, batch.counts), torch.split(batch.labels, batch.counts)
        targets = [
            {"boxes": boxes[i], "labels": labels[i], "image_id": torch.tensor(position), "scale": batch.scales[i]}
            for i, position in enumerate(batch.positions)
        ]
        if batch.masks is not None:
            for target, masks, size in zip(targets, torch.split(batch.masks, batch.counts), batch.sizes, strict=True):
                target["masks"] = masks[:, : size[0], : size[1]]
        return images, targets
