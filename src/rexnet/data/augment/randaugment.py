"""RandAugment (arXiv 1909.13719) with the distribution of timm's `rand-m9-mstd0.5` and `-inc1`."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import albumentations as A  # noqa: N812 - its documentation's own name
import cv2

from rexnet.data.augment.operations import Image, apply_operation

MAX_LEVEL = 10.0
APPLY_PROBABILITY = 0.5
INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)
Step = tuple[str, float, int]
"""An operation, its value and the interpolation; see `apply_operation`."""


class RandAugment(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no types that mypy can follow
    """Draws `num_ops` of the 15 operations and applies each with probability 0.5.

    Args:
        magnitude: mean strength, 0 to 10.
        magnitude_std: standard deviation of the strength, which is drawn for each operation and clipped to 0..10.
        num_ops: operations to draw, with replacement.
        fill: color (R, G, B) of pixels that a geometric operation uncovers.
        increasing: makes every operation stronger with the magnitude (timm's `-inc1`); else posterize and solarize
            get weaker, and the factors of color, contrast, brightness and sharpness run from 0.1 to 1.9.
    """

    def __init__(
        self, magnitude: float, magnitude_std: float, num_ops: int, fill: Sequence[int], increasing: bool = False
    ) -> None:
        super().__init__(p=1.0)
        self.fill = tuple(fill)
        self.magnitude, self.magnitude_std, self.num_ops = magnitude, magnitude_std, num_ops
        self.increasing = increasing

    def draw_plan(self, rng: random.Random) -> list[Step]:
        """Draws operations and applies each with probability 0.5."""
        scales = INCREASING if self.increasing else PLAIN
        plan = []
        for name in rng.choices(tuple(scales), k=self.num_ops):
            if rng.random() < APPLY_PROBABILITY:
                level = rng.gauss(self.magnitude, self.magnitude_std) if self.magnitude_std > 0 else self.magnitude
                strength = min(max(level / MAX_LEVEL, 0.0), 1.0)
                sign = -1.0 if rng.random() < 0.5 else 1.0
                plan.append((name, scales[name](strength, sign), rng.choice(INTERPOLATIONS)))
        return plan

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        return {"plan": self.draw_plan(self.py_random)}

    def apply(self, img: Image, plan: list[Step], **_: Any) -> Image:
        for name, value, interpolation in plan:
            img = apply_operation(name, img, value, interpolation, self.fill)
        return img


Scale = Callable[[float, float], float]
"""Maps a strength (0 to 1) and a sign (-1 or 1) to the value of an operation."""


def _signed(most: float) -> Scale:
    return lambda strength, sign: sign * most * strength


def _factor(strength: float, sign: float) -> float:
    """Returns PIL's enhancement factor, 0.1 to 1.9; 1 leaves the image unchanged."""
    return 0.1 + 1.8 * strength


def _increasing_factor(strength: float, sign: float) -> float:
    """Returns a factor that moves away from 1 to either side."""
    return max(0.1, 1.0 + 0.9 * sign * strength)


def _bits(strength: float, sign: float) -> float:
    return int(strength * 4)


def _threshold(strength: float, sign: float) -> float:
    return min(256, int(strength * 256))


PLAIN: dict[str, Scale] = {
    **dict.fromkeys(("auto_contrast", "equalize", "invert"), lambda strength, sign: 0.0),
    "rotate": _signed(30.0),
    "posterize": _bits,
    "solarize": _threshold,
    "solarize_add": lambda strength, sign: min(128, int(strength * 110)),
    **dict.fromkeys(("saturate", "contrast", "brighten", "sharpen"), _factor),
    "shear_x": _signed(0.3),
    "shear_y": _signed(0.3),
    "translate_x_relative": _signed(0.45),
    "translate_y_relative": _signed(0.45),
}
"""Operations of RandAugment and their scales, as in timm's `rand`."""

INCREASING: dict[str, Scale] = PLAIN | {
    "posterize": lambda strength, sign: 4 - _bits(strength, sign),
    "solarize": lambda strength, sign: 256 - _threshold(strength, sign),
    **dict.fromkeys(("saturate", "contrast", "brighten", "sharpen"), _increasing_factor),
}
"""Scales of timm's `-inc1`."""
