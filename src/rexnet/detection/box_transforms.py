"""Transforms of images with their boxes and masks, made of albumentations transforms as those of classification.

torchvision's transforms of boxes take six times as long: crop, flip, resize to 320 px and color jitter of 640 x 480
pixels take 6.5 and 1.1 ms on one core (torchvision 0.29), and decoding takes 0.6 ms.
"""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import albumentations as A  # noqa: N812 - the name in its documentation
import numpy as np
from albumentations.augmentations.crops.transforms import BaseCrop

from rexnet.config.detection_schema import DetectionAugmentationConfig
from rexnet.data.augment.transforms import ColorJitter

OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # smallest IoU of SSD's crop and an object; 1 keeps the whole image
SMALLEST_SIDE = 0.3  # of SSD's crop, relative to the image's
LARGEST_RATIO = 2.0  # of the sides of a crop
ATTEMPTS = 40
SMALLEST_BOX = 1.0  # pixel, after a random transform


class View(NamedTuple):
    """A transformed image with its objects."""

    image: np.ndarray  # uint8 (height, width, 3)
    boxes: np.ndarray  # float32 (n, 4) left, top, right, bottom in pixels
    masks: list[np.ndarray]  # uint8 (height, width) of each object; empty without masks
    kept: np.ndarray  # int64 (n,) numbers of these objects among those before the transform


class BoxTransform:
    """Applies albumentations transforms to images, boxes and masks, with one generator for each image.

    Args:
        steps: transforms, with probabilities `p`.
        square: side in pixels to resize to; None: images keep their shapes.
        smallest_box: shortest side of a box that is kept, in pixels.
    """

    def __init__(self, steps: Sequence[A.BasicTransform], square: int | None = None, smallest_box: float = 0.0) -> None:
        shapes = [step for step in steps if isinstance(step, A.DualTransform)]
        if square is not None:
            shapes.append(A.Resize(square, square))  # bilinear, at the positions that torchvision's detectors sample
        self.steps = (*shapes, *(step for step in steps if step not in shapes))  # colors last, on fewer pixels
        self.square, self.smallest_box = square, smallest_box

    def __call__(self, image: np.ndarray, boxes: np.ndarray, masks: list[np.ndarray], key: int) -> View:
        """Returns the transformed image with the objects that are left; equal keys give equal results."""
        rng = random.Random(key)
        rows = np.column_stack((boxes / _corner(image.shape), np.arange(len(boxes))))
        for step in self.steps:
            step.py_random = rng
            if step.p >= 1 or rng.random() < step.p:
                params = {"shape": image.shape}
                params |= step.get_params_dependent_on_data(params, {"image": image, "bboxes": rows})
                image = step.apply(image, **params)
                if isinstance(step, A.DualTransform):
                    rows = step.apply_to_bboxes(rows, **params)
                    masks = [step.apply_to_mask(mask, **params) for mask in masks]
        edges = rows[:, :4].clip(0, 1) * _corner(image.shape)
        is_large = (edges[:, 2:] - edges[:, :2] >= self.smallest_box).all(1)
        kept = rows[is_large, 4].astype(np.int64)
        masks = [masks[number] for number in kept.tolist()] if masks else []
        return View(np.ascontiguousarray(image), edges[is_large].astype(np.float32), masks, kept)


class ObjectCrop(BaseCrop):  # type: ignore[misc]  # albumentations has no types for mypy
    """Crops a random part with the center of an object; objects with their centers outside are lost.

    Args:
        scale: smallest and largest fraction of the image's area. None: SSD's crop (arXiv 1512.02325), as torchvision
            draws it, which also has a random smallest overlap with an object.
    """

    def __init__(self, scale: tuple[float, float] | None) -> None:
        super().__init__(p=1.0)
        self.scale = scale

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        corner = _corner(params["shape"])
        boxes = data["bboxes"][:, :4] * corner
        while len(boxes) and (least := 0.0 if self.scale else self.py_random.choice(OVERLAPS)) < 1.0:
            crops = self._draw(corner[:2])
            fits = (_overlap(boxes, crops) >= least).any(1)
            if fits.any():
                return {"crop_coords": tuple(crops[fits.argmax()].tolist())}
            if self.scale:
                break
        return {"crop_coords": (0, 0, *corner[:2].tolist())}

    def apply_to_bboxes(self, bboxes: np.ndarray, crop_coords: tuple[int, int, int, int], **params: Any) -> np.ndarray:
        has_center = _overlap(bboxes[:, :4] * _corner(params["shape"]), np.array([crop_coords]))[0] >= 0
        cropped: np.ndarray = super().apply_to_bboxes(bboxes[has_center], crop_coords, **params)
        return cropped

    def _draw(self, room: np.ndarray) -> np.ndarray:
        """Draws crops of an image of width and height `room`, int64 (up to 40, 4)."""
        numbers = np.array([self.py_random.random() for _ in range(4 * ATTEMPTS)]).reshape(-1, 4)
        if self.scale:
            area = (self.scale[0] + (self.scale[1] - self.scale[0]) * numbers[:, 0]) * room.prod()
            root = LARGEST_RATIO ** (numbers[:, 1] - 0.5)  # of width / height
            sides = (np.sqrt(area) * (root, 1 / root)).T.astype(np.int64)
        else:
            sides = (room * (SMALLEST_SIDE + (1 - SMALLEST_SIDE) * numbers[:, :2])).astype(np.int64)
        starts = ((room - sides) * numbers[:, 2:]).astype(np.int64)
        fits = (sides.max(1) <= LARGEST_RATIO * sides.min(1)) & (sides >= 1).all(1) & (sides <= room).all(1)
        crops: np.ndarray = np.concatenate((starts, starts + sides), axis=1)[fits]
        return crops


def _corner(shape: Sequence[int]) -> np.ndarray:
    """Returns width, height, width, height of an image."""
    return np.array((shape[1], shape[0], shape[1], shape[0]))


def _overlap(boxes: np.ndarray, crops: np.ndarray) -> np.ndarray:
    """Returns the IoU of each crop (k, 4) and box (n, 4), float64 (k, n); -1 if the box's center is not in the crop."""
    low, high = np.maximum(crops[:, None, :2], boxes[:, :2]), np.minimum(crops[:, None, 2:], boxes[:, 2:])
    common, areas = (high - low).prod(2), [(edges[:, 2:] - edges[:, :2]).prod(1) for edges in (crops, boxes)]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    has_center = ((crops[:, None, :2] < centers) & (centers < crops[:, None, 2:])).all(2)
    return np.where(has_center, common / (areas[0][:, None] + areas[1] - common), -1.0)


def build_train_transform(augmentation: DetectionAugmentationConfig, square: int | None) -> BoxTransform:
    """Returns crop, flip, the resize to `square` pixels if given, and color jitter, in that order."""
    steps: list[A.BasicTransform] = []
    if augmentation.crop != "none":
        steps.append(ObjectCrop(augmentation.crop_scale if augmentation.crop == "resized" else None))
    if augmentation.flip > 0:
        steps.append(A.HorizontalFlip(p=augmentation.flip))
    if augmentation.color_jitter > 0:
        steps.append(ColorJitter(augmentation.color_jitter))
    return BoxTransform(steps, square, SMALLEST_BOX)
