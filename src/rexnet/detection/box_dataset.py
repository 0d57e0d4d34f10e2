"""A split with boxes as a PyTorch data set: from a key to an augmented image with its objects."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rexnet.data.dataset import KeyedDataset
from rexnet.data.sources.image_files import printable
from rexnet.detection.box_index import BoxIndex
from rexnet.detection.box_transforms import BoxTransform, View
from rexnet.errors import DataError


class BoxSample(NamedTuple):
    """One image with its objects."""

    view: View
    labels: np.ndarray  # int64 (n,) from 1
    position: int  # in the index


class BoxBatch(NamedTuple):
    """A batch as it travels to the device: few tensors, as each takes a file descriptor between processes."""

    images: Tensor  # uint8 (N, H, W, 3), padded with zeros at the right and the bottom
    boxes: Tensor  # float32 (M, 4) of all images
    labels: Tensor  # int64 (M,)
    scales: Tensor  # float32 (N, 4)
    masks: Tensor | None  # uint8 (M, H, W)
    sizes: list[tuple[int, int]]  # height and width of each image without its padding
    counts: list[int]  # of the objects of each image
    positions: list[int]


class BoxDataset(KeyedDataset):
    """Decodes and transforms the images of an index; in training, without crowds and with masks."""

    index: BoxIndex

    def __init__(self, index: BoxIndex, transform: BoxTransform, seed: int = 0, is_training: bool = False) -> None:
        super().__init__(index, seed)
        self.transform, self.is_training = transform, is_training
        self.with_masks = is_training and index.outlines is not None

    @property
    def sample_bytes(self) -> int:
        pixels = int(self.index.sizes.max(0).prod()) if self.transform.square is None else self.transform.square**2
        return (3 + self.with_masks * len(self.index.boxes) // len(self.index)) * pixels

    def sample(self, position: int, key: int, epoch: int = 0) -> BoxSample:
        index, name = self.index, self.index.name(position)
        image = index.read_pixels(position)
        height, width = index.sizes[position].tolist()
        if image.shape[:2] != (height, width):
            raise DataError(
                f"{printable(name)}: is {image.shape[1]} x {image.shape[0]} pixels, but {width} x {height} in its "
                f"annotations; correct them, or save the image upright if its EXIF data turn it"
            )
        objects = index.objects_of(position)
        chosen = np.arange(objects.start, objects.stop)
        if self.is_training:
            chosen = chosen[~index.crowd[chosen]]
        view = self.transform(image, index.boxes[chosen], self._masks(position, chosen), key)
        return BoxSample(view, index.labels[chosen[view.kept]], position)

    def _masks(self, position: int, objects: np.ndarray) -> list[np.ndarray]:
        if not self.with_masks:
            return []
        from faster_coco_eval.core import mask

        first, runs = self.index.objects_of(position).start, self.index.runs_of(position)
        return [mask.decode(runs[number - first]) for number in objects.tolist()]

    def collate(self, samples: list[BoxSample]) -> BoxBatch:
        views = [sample.view for sample in samples]
        sizes = [(view.image.shape[0], view.image.shape[1]) for view in views]
        counts = [len(view.boxes) for view in views]
        positions = [sample.position for sample in samples]
        scales = self.index.sizes[np.array(positions, np.int64)] / np.array(sizes, np.int64).reshape(-1, 2)
        height, width = np.max([(1, 1), *sizes], axis=0).tolist()
        images = torch.zeros(len(views), height, width, 3, dtype=torch.uint8)
        masks = torch.zeros(sum(counts), height, width, dtype=torch.uint8) if self.with_masks else None
        for number, (view, (rows, columns)) in enumerate(zip(views, sizes, strict=True)):
            images[number, :rows, :columns] = torch.from_numpy(view.image)
            if masks is not None and view.masks:
                first = sum(counts[:number])
                masks[first : first + counts[number], :rows, :columns] = torch.from_numpy(np.stack(view.masks))
        return BoxBatch(
            images,
            torch.from_numpy(np.concatenate([np.zeros((0, 4), np.float32), *(view.boxes for view in views)])),
            torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *(sample.labels for sample in samples)])),
            torch.from_numpy(np.tile(scales[:, ::-1], 2).astype(np.float32)),
            masks,
            sizes,
            counts,
            positions,
        )
