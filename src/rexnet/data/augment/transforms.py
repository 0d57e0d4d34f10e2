"""The random transform of training images and the deterministic one of evaluation, made of albumentations transforms.

Both map uint8 arrays (height, width, 3) to uint8 arrays; `batch.py` normalizes them on the device.
"""

import math
import random
from collections.abc import Sequence
from typing import Any

import albumentations as A  # noqa: N812 - the name in its documentation
import cv2
import numpy as np
import PIL.Image

from rexnet.config.data_schema import AugmentationConfig, DataConfig
from rexnet.data.augment.operations import OPERATIONS, Image
from rexnet.data.augment.randaugment import RandAugment
from rexnet.data.sources.decode import Jpeg
from rexnet.preprocessing import Preprocessing

CV2_INTERPOLATION = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
PIL_INTERPOLATION = {"bilinear": PIL.Image.Resampling.BILINEAR, "bicubic": PIL.Image.Resampling.BICUBIC}
CROP_ATTEMPTS = 10
LONGEST = 16
"""Width / height (or height / width) up to which evaluation resizes an image as a whole."""


class Transform:
    """Applies albumentations transforms, whose randomness comes from a key.

    albumentations 2.0.8 gives all forked workers the same random numbers and repeats them each epoch; its `Compose`
    also costs 190 us an image for targets that classification does not have (masks, boxes). So this class calls the
    transforms itself, with one generator for each image. They make a square, whose side depends on the epoch.

    Args:
        steps: the transforms, in their order.
        sizes: side of the square in each epoch, in pixels; the last value is for all later ones.
    """

    def __init__(self, steps: Sequence[A.BasicTransform], sizes: Sequence[int]) -> None:
        self.steps, self.sizes = tuple(steps), tuple(sizes)

    def __call__(self, image: Image | Jpeg, key: int, epoch: int = 0) -> Image:
        """Returns the transformed image; equal keys give equal images. Decodes a JPEG only as far as needed."""
        rng, size = random.Random(key), self.sizes[min(epoch, len(self.sizes) - 1)]
        for step in self.steps:
            step.py_random = rng
            if step.p >= 1 or rng.random() < step.p:
                params = {"shape": image.shape, "size": size}
                params |= step.get_params_dependent_on_data(params, {"image": image})
                image = step.apply(image, **params)
        return np.ascontiguousarray(image)


class RandomResizedCrop(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no types for mypy
    """Resizes a random part of the image to a square; draws boxes like torchvision's transform of the same name.

    Args:
        size: side of the square, where `Transform` gives none for the epoch.
        scale: smallest and largest fraction of the image's area.
        ratio: smallest and largest width / height, drawn evenly on a logarithmic scale.
        filters: OpenCV's filters, one of which is drawn for each image.
    """

    def __init__(self, size: int, scale: Sequence[float], ratio: Sequence[float], filters: Sequence[int]) -> None:
        super().__init__(p=1.0)
        self.size, self.scale, self.ratio, self.filters = size, scale, ratio, tuple(filters)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        box = draw_crop(height, width, self.scale, self.ratio, self.py_random)
        return {"box": box, "interpolation": self.py_random.choice(self.filters), "size": params.get("size", self.size)}

    def apply(
        self, img: Image | Jpeg, box: tuple[int, int, int, int], interpolation: int, size: int, **_: Any
    ) -> Image:
        top, left, height, width = box
        crop = img[top : top + height, left : left + width]
        return cv2.resize(crop, (size, size), interpolation=interpolation)


def draw_crop(
    height: int, width: int, scale: Sequence[float], ratio: Sequence[float], rng: random.Random
) -> tuple[int, int, int, int]:
    """Draws top, left, height and width of a crop; takes the largest central one if no attempt fits."""
    lowest, highest = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(CROP_ATTEMPTS):
        area = rng.uniform(*scale) * height * width
        aspect = math.exp(rng.uniform(lowest, highest))
        rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < rows <= height and 0 < columns <= width:
            return rng.randint(0, height - rows), rng.randint(0, width - columns), rows, columns
    rows, columns = min(height, round(width / ratio[0])), min(width, round(height * ratio[1]))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


class ColorJitter(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no types for mypy
    """Changes brightness, contrast and saturation by factors of 1 - `spread` to 1 + `spread`, in random order."""

    def __init__(self, spread: float) -> None:
        super().__init__(p=1.0)
        self.spread = spread

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        order = self.py_random.sample(("brighten", "contrast", "saturate"), 3)
        return {"factors": [(name, self.py_random.uniform(1 - self.spread, 1 + self.spread)) for name in order]}

    def apply(self, img: Image, factors: list[tuple[str, float]], **_: Any) -> Image:
        for name, factor in factors:
            img = OPERATIONS[name](img, factor)
        return img


def build_train_transform(data: DataConfig, augmentation: AugmentationConfig, sizes: Sequence[int]) -> Transform:
    """Returns random crop, flip, color jitter and RandAugment, in that order, for the size of each epoch."""
    names = ("bilinear", "bicubic") if augmentation.interpolation == "random" else (augmentation.interpolation,)
    filters = [CV2_INTERPOLATION[name] for name in names]
    crop = RandomResizedCrop(sizes[-1], augmentation.crop_scale, augmentation.crop_ratio, filters)
    steps: list[A.BasicTransform] = [crop]
    if augmentation.flip > 0:
        steps.append(A.HorizontalFlip(p=augmentation.flip))
    if augmentation.color_jitter > 0:
        steps.append(ColorJitter(augmentation.color_jitter))
    if (policy := augmentation.randaugment) is not None:
        fill = tuple(round(255 * mean) for mean in data.mean)
        steps.append(RandAugment(policy.magnitude, policy.magnitude_std, policy.num_ops, fill, policy.increasing))
    return Transform(steps, sizes)


class CentralView(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no types for mypy
    """Resizes the short side, then crops the center square: the pixels of torchvision's Resize and CenterCrop.

    Published accuracies depend on it. OpenCV does not smooth when it shrinks, which changed a pixel by 5 gray levels on
    average (100 photographs of ImageNet), so Pillow resizes here. If an image is more than 16 times as long as wide,
    only the crop is resized, where Pillow may round in another order; otherwise, an image of 30,000 x 2 pixels would
    take 10 GB to show 224 x 224.
    """

    def __init__(self, short_side: int, size: int, interpolation: PIL.Image.Resampling) -> None:
        super().__init__(p=1.0)
        self.short_side, self.size, self.interpolation = short_side, size, interpolation

    def apply(self, img: Image | Jpeg, **_: Any) -> Image:
        image = PIL.Image.fromarray(np.asarray(img))
        shortest = min(image.size)
        width, height = (int(self.short_side * side / shortest) for side in image.size)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        if max(image.size) > LONGEST * shortest:
            x, y = image.width / width, image.height / height
            box = (left * x, top * y, (left + self.size) * x, (top + self.size) * y)
            return np.asarray(image.resize((self.size, self.size), self.interpolation, box))
        resized = np.asarray(image.resize((width, height), self.interpolation))
        return resized[top : top + self.size, left : left + self.size]


def build_eval_transform(preprocessing: Preprocessing) -> Transform:
    """Resizes the short side to image_size / crop_pct, then crops the center square of `image_size`."""
    size = preprocessing.image_size
    view = CentralView(int(size / preprocessing.crop_pct), size, PIL_INTERPOLATION[preprocessing.interpolation])
    return Transform([view], [size])
