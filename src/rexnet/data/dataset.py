"""A split as a torch data set: key in, augmented uint8 image out."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rexnet.data.decode import crop_to_box, decode
from rexnet.data.index import Index
from rexnet.data.keys import mix
from rexnet.data.sampling import BATCH, SampleKey
from rexnet.data.transforms import Transform


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

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, sample: SampleKey) -> Sample:
        key = mix(self.seed, sample.epoch, sample.position)
        image = self.transform(self.decoded(sample.position), key)
        return Sample(image, int(self.index.labels[sample.position]), key)

    def decoded(self, position: int) -> np.ndarray:
        """The image at `position`, cropped to its box if it has one, untransformed: RGB uint8 (height, width, 3).

        Raises:
            DataError: the image cannot be read or decoded.
        """
        name = self.index.name(position)
        image = decode(self.index.read(position), name)
        return image if self.index.boxes is None else crop_to_box(image, self.index.boxes[position], name)


def stack(samples: list[Sample]) -> Batch:
    """A batch of samples; its seed depends on exactly these samples of this epoch."""
    images = torch.from_numpy(np.stack([sample.image for sample in samples]))
    labels = torch.tensor([sample.label for sample in samples])
    return Batch(images, labels, mix(*(sample.key for sample in samples), BATCH) >> 1)
