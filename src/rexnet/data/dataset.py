"""A split as a PyTorch data set: from a key to an augmented uint8 image."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rexnet.data.augment.transforms import Transform
from rexnet.data.datasets.index import Index
from rexnet.data.keys import mix
from rexnet.data.sampling import BATCH, AnnouncingBatch, SampleKey
from rexnet.data.sources.decode import Jpeg, crop_to_box, open_image
from rexnet.data.workers import WorkerProgress


class Sample(NamedTuple):
    """One image, ready to be stacked."""

    image: np.ndarray  # uint8 (height, width, 3)
    label: int
    key: int


class Batch(NamedTuple):
    """A batch as it travels to the device, with the seed for random numbers there."""

    images: Tensor  # uint8 (N, H, W, 3)
    labels: Tensor  # int64 (N,)
    seed: int


class KeyedDataset(Dataset[Any]):
    """The samples of a split for any task; randomness depends only on (seed, epoch, position, view)."""

    index: Any  # `Index` or that of another task, with `source`, `name` and a length

    def __init__(self, index: Any, seed: int) -> None:
        self.index, self.seed = index, seed
        self.progress = WorkerProgress()

    def __len__(self) -> int:
        return len(self.index)

    def __getitems__(self, samples: list[SampleKey]) -> list[Any]:
        """Returns a batch; PyTorch calls this, so a remote source can fetch it at once, and meanwhile the next one."""
        self.prefetch([sample.position for sample in samples])
        if isinstance(samples, AnnouncingBatch):
            self.prefetch(samples.upcoming)
        return [self[sample] for sample in samples]

    def prefetch(self, positions: Sequence[int]) -> None:
        """Announces images that will be read."""
        self.index.source.prefetch(positions)

    def __getitem__(self, sample: SampleKey) -> Any:
        self.progress.record(sample.position)
        parts = (sample.epoch, sample.position, sample.view) if sample.view else (sample.epoch, sample.position)
        return self.sample(sample.position, mix(self.seed, *parts), sample.epoch)

    @property
    def sample_bytes(self) -> int:
        """Largest size of a sample in a batch."""
        raise NotImplementedError

    def sample(self, position: int, key: int, epoch: int = 0) -> Any:
        """Returns the image at `position` with its labels, transformed by the random numbers of `key`."""
        raise NotImplementedError

    def collate(self, samples: list[Any]) -> Any:
        """Returns a batch of samples as it travels to the device."""
        raise NotImplementedError


class ImageDataset(KeyedDataset):
    """Decodes and transforms the images of an index."""

    index: Index

    def __init__(self, index: Index, transform: Transform, seed: int = 0) -> None:
        super().__init__(index, seed)
        self.transform = transform

    @property
    def sample_bytes(self) -> int:
        return 3 * max(self.transform.sizes) ** 2

    def sample(self, position: int, key: int, epoch: int = 0) -> Sample:
        return Sample(self.view(position, key, epoch), int(self.index.labels[position]), key)

    def collate(self, samples: list[Sample]) -> Batch:
        return stack(samples)

    def view(self, position: int, key: int, epoch: int = 0) -> np.ndarray:
        """Returns the transformed image at `position`, uint8 (height, width, 3), in the size of the epoch."""
        return self.transform(self.opened(position), key, epoch)

    def opened(self, position: int) -> np.ndarray | Jpeg:
        """Returns the image at `position`, RGB uint8 (height, width, 3), cropped to its bounding box if it has one."""
        name = self.index.name(position)
        image = open_image(self.index.read(position), name)
        if self.index.boxes is None:
            return image
        return crop_to_box(np.asarray(image), self.index.boxes[position], name)


def stack(samples: list[Sample]) -> Batch:
    """Stacks samples to a batch, whose seed depends on exactly these samples."""
    pixels = np.stack([sample.image for sample in samples]) if samples else np.zeros((0, 1, 1, 3), np.uint8)
    images = torch.from_numpy(pixels)
    labels = torch.tensor([sample.label for sample in samples], dtype=torch.int64)
    return Batch(images, labels, mix(*(sample.key for sample in samples), BATCH) >> 1)
