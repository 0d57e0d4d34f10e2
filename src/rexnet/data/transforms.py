"""Image to image: the random view for training and the fixed one for measuring, as albumentations pipelines.

Both take and give uint8 arrays (height, width, 3); numbers become floats on the device (`device.py`).
"""

import os
import random

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else importing it asks the network for updates

import albumentations as A  # noqa: N812 - its documentation's own name
import cv2
import numpy as np

from rexnet.config.schema import AugmentationConfig, DataConfig, EvalTransformConfig
from rexnet.data.randaugment import RandAugment

CV2_INTERPOLATION = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


class Transform:
    """An albumentations pipeline whose randomness comes from a key, never from a generator of its own.

    albumentations 2.0.8 hands all forked workers one stream of random numbers, and repeats it each epoch; so its
    generators are replaced for every image.
    """

    def __init__(self, steps: list[A.BasicTransform | A.BaseCompose]) -> None:
        self.pipeline = A.Compose(steps)

    def __call__(self, image: np.ndarray, key: int) -> np.ndarray:
        """The transformed image; equal keys give equal images."""
        self.pipeline.set_random_state(np.random.default_rng(key), random.Random(key))
        transformed: np.ndarray = self.pipeline(image=image)["image"]
        return np.ascontiguousarray(transformed)


def build_train_transform(data: DataConfig, augmentation: AugmentationConfig) -> Transform:
    """Random crop, flip, colour jitter and RandAugment, in that order, to `image_size` squares."""
    names = ("bilinear", "bicubic") if augmentation.interpolation == "random" else (augmentation.interpolation,)
    crops = [
        A.RandomResizedCrop(
            size=(data.image_size, data.image_size),
            scale=augmentation.crop_scale,
            ratio=augmentation.crop_ratio,
            interpolation=CV2_INTERPOLATION[name],
            p=1.0,
        )
        for name in names
    ]
    steps: list[A.BasicTransform | A.BaseCompose] = [A.OneOf(crops, p=1.0) if len(crops) > 1 else crops[0]]
    if augmentation.flip > 0:
        steps.append(A.HorizontalFlip(p=augmentation.flip))
    if augmentation.color_jitter > 0:
        spread = augmentation.color_jitter
        steps.append(A.ColorJitter(brightness=spread, contrast=spread, saturation=spread, hue=0.0, p=1.0))
    if augmentation.randaugment is not None:
        policy = augmentation.randaugment
        fill = tuple(round(255 * mean) for mean in data.mean)
        steps.append(RandAugment(policy.magnitude, policy.magnitude_std, policy.num_ops, fill))
    return Transform(steps)


def build_eval_transform(image_size: int, config: EvalTransformConfig) -> Transform:
    """Short side to image_size / crop_pct, then the central square of `image_size`."""
    short_side = int(image_size / config.crop_pct)
    return Transform(
        [
            A.SmallestMaxSize(short_side, interpolation=CV2_INTERPOLATION[config.interpolation], p=1.0),
            A.CenterCrop(image_size, image_size, p=1.0),
        ]
    )
