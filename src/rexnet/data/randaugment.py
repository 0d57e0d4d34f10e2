"""RandAugment (arXiv 1909.13719) on uint8 arrays, in the meaning of timm's `rand-m9-mstd0.5`.

Each operation is a function of (image, level, draw): `level` is the strength from 0 to 10, `draw` the source of its
random sign. Colour operations are lookup tables or one OpenCV call; geometric ones are one affine warp.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import albumentations as A  # noqa: N812 - its documentation's own name
import cv2
import numpy as np

Image = np.ndarray  # uint8 (height, width, 3)
MAX_LEVEL = 10.0
APPLY_PROBABILITY = 0.5
LEVELS = np.arange(256)


class RandAugment(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no types that mypy can follow
    """Draws `num_ops` of the 15 operations and applies each with probability 0.5.

    Args:
        magnitude: mean strength, 0 to 10.
        magnitude_std: standard deviation of the strength, drawn for each operation; the result stays in 0 to 10.
        num_ops: operations drawn, with replacement.
        fill: colour (R, G, B) of what a geometric operation uncovers.
    """

    def __init__(self, magnitude: float, magnitude_std: float, num_ops: int, fill: Sequence[int]) -> None:
        super().__init__(p=1.0)
        self.magnitude, self.magnitude_std, self.num_ops, self.fill = magnitude, magnitude_std, num_ops, tuple(fill)

    def get_params(self) -> dict[str, Any]:
        """The operations of one image with their strengths, and the generator for signs and interpolation."""
        draw: random.Random = self.py_random
        plan = []
        for name in draw.choices(ALL_OPERATIONS, k=self.num_ops):
            if draw.random() < APPLY_PROBABILITY:
                level = draw.gauss(self.magnitude, self.magnitude_std) if self.magnitude_std > 0 else self.magnitude
                plan.append((name, min(max(level, 0.0), MAX_LEVEL)))
        return {"plan": plan}

    def apply(self, img: Image, plan: list[tuple[str, float]], **_: Any) -> Image:
        """The image after the planned operations."""
        for name, level in plan:
            img = apply_operation(name, img, level, self.py_random, self.fill)
        return img


def apply_operation(name: str, image: Image, level: float, draw: random.Random, fill: Sequence[int]) -> Image:
    """`image` after one operation of `OPERATIONS` or `WARPS` at strength `level`."""
    if name not in WARPS:
        return OPERATIONS[name](image, level)
    sign = -1.0 if draw.random() < 0.5 else 1.0
    interpolation = draw.choice((cv2.INTER_LINEAR, cv2.INTER_CUBIC))
    height, width = image.shape[:2]
    matrix = WARPS[name](sign * level / MAX_LEVEL, width, height)
    return cv2.warpAffine(
        image,
        matrix,
        (width, height),
        flags=interpolation | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=tuple(fill),
    )


def auto_contrast(image: Image, _: float) -> Image:
    """Stretches each channel to 0..255."""
    tables = []
    for channel in cv2.split(image):
        low, high, *_rest = cv2.minMaxLoc(channel)
        if high <= low:
            tables.append(LEVELS)
        else:
            scale = 255.0 / (high - low)
            tables.append((LEVELS * scale - low * scale).astype(int).clip(0, 255))
    return _look_up(image, np.stack(tables, axis=-1))


def equalize(image: Image, _: float) -> Image:
    """Flattens each channel's histogram, with the rounding of PIL's ImageOps.equalize."""
    tables = []
    for channel in cv2.split(image):
        histogram = np.bincount(channel.ravel(), minlength=256)
        used = histogram[histogram > 0]
        step = (used.sum() - used[-1]) // 255
        if len(used) <= 1 or step == 0:
            tables.append(LEVELS)
        else:
            below = np.cumsum(histogram) - histogram
            tables.append(((step // 2 + below) // step).clip(0, 255))
    return _look_up(image, np.stack(tables, axis=-1))


def invert(image: Image, _: float) -> Image:
    """The negative."""
    return 255 - image


def posterize(image: Image, level: float) -> Image:
    """Keeps the highest 0 to 4 bits; a higher level keeps more, as in timm's plain variant."""
    bits = int(level / MAX_LEVEL * 4)
    return image & np.uint8(~(2 ** (8 - bits) - 1) & 0xFF)


def solarize(image: Image, level: float) -> Image:
    """Inverts what is at least as bright as a threshold that grows with the level."""
    threshold = min(256, int(level / MAX_LEVEL * 256))
    return _look_up(image, np.where(threshold > LEVELS, LEVELS, 255 - LEVELS))


def solarize_add(image: Image, level: float) -> Image:
    """Brightens the darker half by up to 110."""
    added = min(128, int(level / MAX_LEVEL * 110))
    return _look_up(image, np.where(LEVELS < 128, (LEVELS + added).clip(0, 255), LEVELS))


def saturate(image: Image, level: float) -> Image:
    """Moves colours away from (or towards) their grey."""
    return _blend(cv2.cvtColor(_grey(image), cv2.COLOR_GRAY2RGB), image, _factor(level))


def contrast(image: Image, level: float) -> Image:
    """Moves values away from (or towards) the image's mean grey."""
    mean = int(_grey(image).mean() + 0.5)
    return _look_up(image, _blend_values(float(mean), _factor(level)))


def brighten(image: Image, level: float) -> Image:
    """Scales values."""
    return _look_up(image, _blend_values(0.0, _factor(level)))


def sharpen(image: Image, level: float) -> Image:
    """Moves values away from (or towards) a smoothed copy, whose border is left as it was."""
    smooth = image.copy()
    if min(image.shape[:2]) > 2:
        kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13
        smooth[1:-1, 1:-1] = cv2.filter2D(image, -1, kernel)[1:-1, 1:-1]
    return _blend(smooth, image, _factor(level))


OPERATIONS: dict[str, Callable[[Image, float], Image]] = {
    "auto_contrast": auto_contrast,
    "equalize": equalize,
    "invert": invert,
    "posterize": posterize,
    "solarize": solarize,
    "solarize_add": solarize_add,
    "saturate": saturate,
    "contrast": contrast,
    "brighten": brighten,
    "sharpen": sharpen,
}


def _rotation(strength: float, width: int, height: int) -> np.ndarray:
    """Rotation by up to 30 degrees about the centre: output to input pixels, (2, 3)."""
    return cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -30.0 * strength, 1.0)


def _shear_x(strength: float, width: int, height: int) -> np.ndarray:
    shear = 0.3 * strength
    return np.array([[1, shear, shear / 2], [0, 1, 0]])  # half a pixel: PIL samples at pixel centres


def _shear_y(strength: float, width: int, height: int) -> np.ndarray:
    shear = 0.3 * strength
    return np.array([[1, 0, 0], [shear, 1, shear / 2]])


def _translate_x(strength: float, width: int, height: int) -> np.ndarray:
    return np.array([[1, 0, 0.45 * strength * width], [0, 1, 0]])


def _translate_y(strength: float, width: int, height: int) -> np.ndarray:
    return np.array([[1, 0, 0], [0, 1, 0.45 * strength * height]])


WARPS: dict[str, Callable[[float, int, int], np.ndarray]] = {
    "rotate": _rotation,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}
ALL_OPERATIONS = (*OPERATIONS, *WARPS)


def _factor(level: float) -> float:
    """PIL's enhancement factor: 0.1 to 1.9, 1 leaves the image."""
    return level / MAX_LEVEL * 1.8 + 0.1


def _grey(image: Image) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _blend(degenerate: Image, image: Image, factor: float) -> Image:
    return cv2.addWeighted(image, factor, degenerate, 1.0 - factor, 0.0)


def _blend_values(degenerate: float, factor: float) -> np.ndarray:
    return (degenerate + factor * (LEVELS - degenerate)).clip(0, 255).astype(int)


def _look_up(image: Image, table: np.ndarray) -> Image:
    """`image` through a table (256,) for all channels or (256, 3) for each."""
    return cv2.LUT(image, table.astype(np.uint8).reshape(256, 1, -1) if table.ndim > 1 else table.astype(np.uint8))
