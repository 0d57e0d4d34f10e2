"""RandAugment (arXiv 1909.13719) as timm means `rand-m9-mstd0.5` and `-inc1`, and TrivialAugment Wide (2103.10158).

Both are albumentations transforms; what they draw comes from the generator that albumentations gives them, in timm's
and torchvision's distribution but not in their order.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import albumentations as A  # noqa: N812 - its documentation's own name
import cv2

from rexnet.data.augment.operations import Image, apply_operation

MAX_LEVEL = 10.0
APPLY_PROBABILITY = 0.5
INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)
TRIVIAL_BINS = 31
Step = tuple[str, float, int]
"""Operation, its value, and the interpolation, in the order of `apply_operation`."""


class Policy(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no types that mypy can follow
    """A random list of operations for each image.

    Args:
        fill: colour (R, G, B) of what a geometric operation uncovers.
    """

    def __init__(self, fill: Sequence[int]) -> None:
        super().__init__(p=1.0)
        self.fill = tuple(fill)

    def draw_plan(self, draw: random.Random) -> list[Step]:
        """The operations of one image with their values."""
        raise NotImplementedError

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """What albumentations hands to `apply`."""
        return {"plan": self.draw_plan(self.py_random)}

    def apply(self, img: Image, plan: list[Step], **_: Any) -> Image:
        """The image after the planned operations."""
        for name, value, interpolation in plan:
            img = apply_operation(name, img, value, interpolation, self.fill)
        return img


class RandAugment(Policy):
    """Draws `num_ops` of the 15 operations and applies each with probability 0.5.

    Args:
        magnitude: mean strength, 0 to 10.
        magnitude_std: standard deviation of the strength, drawn for each operation; the result stays in 0 to 10.
        num_ops: operations drawn, with replacement.
        fill: colour (R, G, B) of what a geometric operation uncovers.
        increasing: every operation grows with the strength (timm's `-inc1`); else posterize and solarize shrink, and
            the factors of colour, contrast, brightness and sharpness run from 0.1 to 1.9.
    """

    def __init__(
        self, magnitude: float, magnitude_std: float, num_ops: int, fill: Sequence[int], increasing: bool = False
    ) -> None:
        super().__init__(fill)
        self.magnitude, self.magnitude_std, self.num_ops = magnitude, magnitude_std, num_ops
        self.increasing = increasing

    def draw_plan(self, draw: random.Random) -> list[Step]:
        """The operations that the coin lets through."""
        scales = INCREASING if self.increasing else PLAIN
        plan = []
        for name in draw.choices(tuple(scales), k=self.num_ops):
            if draw.random() < APPLY_PROBABILITY:
                level = draw.gauss(self.magnitude, self.magnitude_std) if self.magnitude_std > 0 else self.magnitude
                strength = min(max(level / MAX_LEVEL, 0.0), 1.0)
                value = scales[name](strength, draw_sign(draw))
                plan.append((name, value, draw.choice(INTERPOLATIONS)))
        return plan


class TrivialAugment(Policy):
    """One of 14 operations at one of 31 strengths, as torchvision's `TrivialAugmentWide` with random interpolation."""

    def draw_plan(self, draw: random.Random) -> list[Step]:
        """A single operation, which may be the identity."""
        name = draw.choice(tuple(TRIVIAL))
        strength = draw.randrange(TRIVIAL_BINS) / (TRIVIAL_BINS - 1)
        return [(name, TRIVIAL[name](strength, draw_sign(draw)), draw.choice(INTERPOLATIONS))]


def draw_sign(draw: random.Random) -> float:
    """1 or -1."""
    return -1.0 if draw.random() < 0.5 else 1.0


Scale = Callable[[float, float], float]
"""From strength (0 to 1) and sign (-1 or 1) to the value that an operation takes."""


def _none(strength: float, sign: float) -> float:
    return 0.0


def _signed(most: float) -> Scale:
    return lambda strength, sign: sign * most * strength


def _factor(strength: float, sign: float) -> float:
    """PIL's enhancement factor: 0.1 to 1.9, 1 leaves the image."""
    return 0.1 + 1.8 * strength


def _increasing_factor(strength: float, sign: float) -> float:
    """The factor moves away from 1, to either side."""
    return max(0.1, 1.0 + 0.9 * sign * strength)


def _bits(strength: float, sign: float) -> float:
    return int(strength * 4)


def _threshold(strength: float, sign: float) -> float:
    return min(256, int(strength * 256))


PLAIN: dict[str, Scale] = {
    "auto_contrast": _none,
    "equalize": _none,
    "invert": _none,
    "rotate": _signed(30.0),
    "posterize": _bits,
    "solarize": _threshold,
    "solarize_add": lambda strength, sign: min(128, int(strength * 110)),
    "saturate": _factor,
    "contrast": _factor,
    "brighten": _factor,
    "sharpen": _factor,
    "shear_x": _signed(0.3),
    "shear_y": _signed(0.3),
    "translate_x_share": _signed(0.45),
    "translate_y_share": _signed(0.45),
}
"""The operations of RandAugment and the meaning of a strength, as in timm's `rand`."""

INCREASING: dict[str, Scale] = PLAIN | {
    "posterize": lambda strength, sign: 4 - _bits(strength, sign),
    "solarize": lambda strength, sign: 256 - _threshold(strength, sign),
    **dict.fromkeys(("saturate", "contrast", "brighten", "sharpen"), _increasing_factor),
}
"""The same with timm's `-inc1`."""


def _wide_factor(strength: float, sign: float) -> float:
    return 1.0 + 0.99 * sign * strength


TRIVIAL: dict[str, Scale] = {
    "identity": _none,
    "shear_x": _signed(0.99),
    "shear_y": _signed(0.99),
    "translate_x": lambda strength, sign: int(32.0 * strength) * sign,
    "translate_y": lambda strength, sign: int(32.0 * strength) * sign,
    "rotate": _signed(135.0),
    "brighten": _wide_factor,
    "saturate": _wide_factor,
    "contrast": _wide_factor,
    "sharpen": _wide_factor,
    "posterize": lambda strength, sign: 8 - round(6 * strength),
    "solarize": lambda strength, sign: 255.0 * (1.0 - strength),
    "auto_contrast": _none,
    "equalize": _none,
}
"""The operations of TrivialAugment Wide and the meaning of a strength, as in torchvision."""
