"""Data sets of 32-pixel images as tensors on the device, so that training needs no loader processes."""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rexnet.config.data_schema import SourceConfig
from rexnet.data.datasets.by_name import load_index
from rexnet.data.datasets.download import download_dataset
from rexnet.data.datasets.index import Index
from rexnet.data.sources.decode import decode
from rexnet.errors import DataError

IMAGE_SIZE = 32
DataName = Literal["folder", "cifar10", "cifar100"]


class ImageTensors(NamedTuple):
    """The images of a split on a device."""

    images: Tensor
    """uint8 (N, 3, 32, 32)."""
    labels: Tensor
    """int64 (N,)."""

    def first(self, count: int | None, device: torch.device) -> "ImageTensors":
        """Returns `count` images on a device, as many of each class as if they were drawn at random."""
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(0))[:count]
        return ImageTensors(self.images[order].to(device), self.labels[order].to(device))


def load_image_tensors(name: DataName, root: Path) -> tuple[ImageTensors, ImageTensors, int]:
    """Returns training images, test images and the number of classes; CIFAR is downloaded into `root` if missing.

    Raises:
        DataError: something is missing, damaged or cannot be downloaded, or images of a class folder have another size.
    """
    if name == "folder":
        config = SourceConfig(dataset="folder", root=root)
        train, test = (load_index(config, split) for split in ("train", "val"))
        return _decode_all(train), _decode_all(test), len(train.class_names)
    download_dataset(name, root)
    from torchvision.datasets import CIFAR10, CIFAR100

    try:
        parts = [(CIFAR10 if name == "cifar10" else CIFAR100)(root, train=train) for train in (True, False)]
    except RuntimeError:
        raise DataError(f"{root}: the files of {name} are damaged; delete them to download them again") from None
    tensors = [ImageTensors(_channels_first(part.data), torch.tensor(part.targets)) for part in parts]
    return tensors[0], tensors[1], len(parts[0].classes)


def _decode_all(index: Index) -> ImageTensors:
    images = [decode(index.read(position), index.name(position)) for position in range(len(index))]
    for position, image in enumerate(images):
        if image.shape[:2] != (IMAGE_SIZE, IMAGE_SIZE):
            height, width = image.shape[:2]
            raise DataError(f"{index.name(position)}: is {width} x {height} pixels; the study needs 32 x 32")
    return ImageTensors(_channels_first(np.stack(images)), torch.from_numpy(index.labels))


def _channels_first(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
