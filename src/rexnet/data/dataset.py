"""A split as a torch data set: key in, augmented uint8 image out."""

import os
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rexnet.data.decode import decode_image
from rexnet.data.index import Index
from rexnet.data.keys import mix
from rexnet.data.sampling import BATCH, SampleKey
from rexnet.data.transforms import Transform
from rexnet.data.workers import Whereabouts


class Sample(NamedTuple):
    """One image, ready to be stacked."""

    image: np.ndarray  # uint8 (height, width, 3)
    label: int
    key: int


class Batch(NamedTuple):
    """What travels to the device: bytes, and a seed for what is drawn there."""

    images: Tensor  # uint8 (N, H, W, 3)
    labels: Tensor  # int64 (N,)
    seed: int


class ImageDataset(Dataset[Sample]):
    """Decodes and transforms the images of an index; the randomness of a sample depends on (seed, epoch, index)."""

    def __init__(self, index: Index, transform: Transform, seed: int) -> None:
        self.index, self.transform, self.seed = index, transform, seed
        self.where = Whereabouts()

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, sample: SampleKey) -> Sample:
        self.where.note(sample.position)
        key = mix(self.seed, sample.epoch, sample.position)
        image = decode_image(self.path_of(sample.position))
        return Sample(self.transform(image, key), int(self.index.labels[sample.position]), key)

    def path_of(self, position: int) -> str:
        """The file of the image at `position` of the index."""
        return os.path.join(self.index.root, self.index.paths[position])


def stack(samples: list[Sample]) -> Batch:
    """A batch of samples; its seed depends on exactly these samples of this epoch."""
    pixels = np.stack([sample.image for sample in samples]) if samples else np.zeros((0, 1, 1, 3), np.uint8)
    images = torch.from_numpy(pixels)
    labels = torch.tensor([sample.label for sample in samples], dtype=torch.int64)
    return Batch(images, labels, mix(*(sample.key for sample in samples), BATCH) >> 1)
