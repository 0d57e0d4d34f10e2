"""Transforms of images with their boxes and masks, made of albumentations transforms as those of classification."""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import albumentations as A  # noqa: N812 - the name in its documentation
import cv2
import numpy as np

from rexnet.config.detection_schema import DetectionAugmentationConfig
from rexnet.data.augment.transforms import ColorJitter

OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # smallest IoU of SSD's crop and an object; 1 keeps the whole image
SMALLEST_SIDE = 0.3  # of SSD's crop, relative to the image's
LARGEST_RATIO = 2.0  # of the sides of a crop
ATTEMPTS = 40
LARGEST_CANVAS = 4.0  # sides of the image
SMALLEST_BOX = 1.0  # pixel, after the random transform


class View(NamedTuple):
    """An image with its objects."""

    image: np.ndarray  # uint8 (height, width, 3)
    boxes: np.ndarray  # float32 (n, 4) left, top, right, bottom in pixels
    masks: Sequence[np.ndarray] | None  # uint8 (height, width) of each object
    kept: np.ndarray  # int64 (n,) numbers of these objects among those before the transform


class BoxTransform:
    """Applies albumentations transforms to images, boxes and masks, with one generator for each image.

    Args:
        steps: transforms, with probabilities `p`.
        square: side of the results in pixels; None: images keep their shapes.
        smallest_box: shortest side of a box that is kept, in pixels.
    """

    def __init__(self, steps: Sequence[A.BasicTransform], square: int | None, smallest_box: float) -> None:
        self.steps, self.square, self.smallest_box = tuple(steps), square, smallest_box

    def __call__(self, image: np.ndarray, boxes: np.ndarray, masks: Sequence[np.ndarray] | None, key: int) -> View:
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
                    masks = None if masks is None else [step.apply_to_mask(mask, **params) for mask in masks]
        edges = rows[:, :4].clip(0, 1) * _corner(image.shape)
        is_large = (edges[:, 2:] - edges[:, :2] >= self.smallest_box).all(1)
        kept = rows[is_large, 4].astype(np.int64)
        masks = None if masks is None else [masks[number] for number in kept.tolist()]
        return View(np.ascontiguousarray(image), edges[is_large].astype(np.float32), masks, kept)


class ZoomOut(A.DualTransform):  # type: ignore[misc]  # albumentations has no types for mypy
    """Shrinks the image by up to four, and puts it at a random place on a canvas of its former size."""

    def __init__(self, fill: tuple[int, ...], p: float) -> None:
        super().__init__(p=p)
        self.fill = fill

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        factor = self.py_random.uniform(1.0, LARGEST_CANVAS)
        height, width = (max(1, round(side / factor)) for side in params["shape"][:2])
        top, left = (self.py_random.randint(0, room - side) for room, side in zip(params["shape"], (height, width), strict=False))
        return {"window": (left, top, left + width, top + height)}

    def apply(self, img: np.ndarray, window: tuple[int, int, int, int], **_: Any) -> np.ndarray:
        left, top, right, bottom = window
        canvas = np.full_like(img, self.fill if img.ndim == 3 else 0)
        filtered = cv2.INTER_AREA if img.ndim == 3 else cv2.INTER_NEAREST
        canvas[top:bottom, left:right] = cv2.resize(img, (right - left, bottom - top), interpolation=filtered)
        return canvas

    def apply_to_bboxes(self, bboxes: np.ndarray, window: tuple[int, int, int, int], **params: Any) -> np.ndarray:
        edges = np.array(window) / _corner(params["shape"])
        moved = bboxes.copy()
        moved[:, :4] = moved[:, :4] * np.tile(edges[2:] - edges[:2], 2) + np.tile(edges[:2], 2)
        return moved


class ObjectCrop(A.BaseCrop):  # type: ignore[misc]  # albumentations has no types for mypy
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
        while len(boxes):
            overlap = 0.0 if self.scale else self.py_random.choice(OVERLAPS)
            if overlap == 1.0:
                break
            crops = self._draw(corner[:2])
            fits = (np.where(_has_center(boxes, crops), _overlap(boxes, crops), -1.0) >= overlap).any(1)
            if fits.any():
                return {"crop_coords": tuple(crops[fits.argmax()].tolist())}
            if self.scale:
                break
        return {"crop_coords": (0, 0, *corner[:2].tolist())}

    def apply_to_bboxes(self, bboxes: np.ndarray, crop_coords: tuple[int, int, int, int], **params: Any) -> np.ndarray:
        inside = _has_center(bboxes[:, :4] * _corner(params["shape"]), np.array([crop_coords]))[0]
        return super().apply_to_bboxes(bboxes[inside], crop_coords, **params)

    def _draw(self, room: np.ndarray) -> np.ndarray:
        """Draws crops of an image of width and height `room`, int64 (up to 40, 4)."""
        random_numbers = np.array([self.py_random.random() for _ in range(4 * ATTEMPTS)]).reshape(-1, 4)
        if self.scale:
            area = self.scale[0] + (self.scale[1] - self.scale[0]) * random_numbers[:, 0]
            root = LARGEST_RATIO ** (random_numbers[:, 1] - 0.5)
            sides = np.sqrt(area * room.prod())[:, None] * np.stack((root, 1 / root), axis=1)
        else:
            sides = room * (SMALLEST_SIDE + (1 - SMALLEST_SIDE) * random_numbers[:, :2])
        sides = sides.astype(np.int64)
        starts = ((room - sides) * random_numbers[:, 2:]).astype(np.int64)
        is_usual = (sides.max(1) <= LARGEST_RATIO * sides.min(1)) & (sides >= 1).all(1) & (sides <= room).all(1)
        return np.concatenate((starts, starts + sides), axis=1)[is_usual]


def _corner(shape: Sequence[int]) -> np.ndarray:
    """Returns width, height, width, height of an image."""
    return np.array((shape[1], shape[0], shape[1], shape[0]))


def _has_center(boxes: np.ndarray, crops: np.ndarray) -> np.ndarray:
    """Returns True for each crop (k, 4) and box (n, 4) if the center of the box is inside, bool (k, n)."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((crops[:, None, :2] < centers) & (centers < crops[:, None, 2:])).all(2)


def _overlap(boxes: np.ndarray, crops: np.ndarray) -> np.ndarray:
    """Returns the IoU of each crop (k, 4) and box (n, 4), float64 (k, n)."""
    low, high = np.maximum(crops[:, None, :2], boxes[:, :2]), np.minimum(crops[:, None, 2:], boxes[:, 2:])
    common = (high - low).clip(0).prod(2)
    areas = [(edges[:, 2:] - edges[:, :2]).prod(1) for edges in (crops, boxes)]
    shares: np.ndarray = common / (areas[0][:, None] + areas[1] - common)
    return shares


def build_train_transform(
    augmentation: DetectionAugmentationConfig, mean: Sequence[float], square: int | None
) -> BoxTransform:
    """Returns zoom-out, crop, flip, the resize to `square` pixels if given, and color jitter, in that order."""
    steps: list[A.BasicTransform] = []
    if augmentation.zoom_out > 0:
        steps.append(ZoomOut(tuple(round(255 * value) for value in mean), augmentation.zoom_out))
    if augmentation.crop != "none":
        steps.append(ObjectCrop(augmentation.crop_scale if augmentation.crop == "resized" else None))
    if augmentation.flip > 0:
        steps.append(A.HorizontalFlip(p=augmentation.flip))
    if square is not None:
        steps.append(A.Resize(square, square))
    if augmentation.color_jitter > 0:
        steps.append(ColorJitter(augmentation.color_jitter))
    return BoxTransform(steps, square, SMALLEST_BOX)


def build_eval_transform(square: int | None) -> BoxTransform:
    """Returns the resize to `square` pixels, or no change; all objects are kept."""
    return BoxTransform([] if square is None else [A.Resize(square, square)], square, 0.0)
