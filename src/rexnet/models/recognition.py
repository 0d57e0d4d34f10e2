"""What a set of weights is: family, width, depth and classes, read off the tensors' shapes."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from rexnet.models.plan import STAGE_DEPTHS, NetworkPlan, Variant, plan_network

PUBLISHED_WIDTHS = (1.0, 0.9, 1.3, 1.5, 2.0, 2.2, 3.0, 0.6, 1.1, 1.2, 1.4)
DIVISORS: dict[Variant, tuple[int, ...]] = {"v1": (1,), "lite": (8,), "r": (8, 16)}
DEPTHS = (1.0, 2.0, 1.5, 0.5, *(tenth / 10 for tenth in range(1, 41)))


class Recognised(NamedTuple):
    """A network as its weights tell it."""

    variant: Variant
    width_mult: float
    depth_mult: float
    channel_divisor: int
    num_classes: int
    in_channels: int

    def __str__(self) -> str:
        """Words for a message."""
        family = {"v1": "ReXNetV1", "lite": "ReXNet-lite", "r": "ReXNet-R"}[self.variant]
        depth = "" if self.depth_mult == 1.0 else f" and depth {self.depth_mult:g}"
        classes = f"with {self.num_classes:,} classes" if self.num_classes else "without a classifier"
        return f"a {family} of width {self.width_mult:g}{depth} {classes}"


def recognise(weights: Mapping[str, Tensor]) -> Recognised | None:
    """The network of weights in our names; None where it is none of the family."""
    stem, classifier = weights.get("stem.conv.weight"), weights.get("head.fc.weight")
    widths: list[int] = []
    while (conv := weights.get(f"features.{len(widths)}.conv_pwl.conv.weight")) is not None:
        widths.append(conv.shape[0] if conv.ndim else 0)
    last = weights.get(f"features.{len(widths)}.conv.weight")
    if stem is None or last is None or stem.ndim != 4 or last.ndim != 4:
        return None
    classes = classifier.shape[0] if classifier is not None and classifier.ndim == 2 else 0
    variants: tuple[Variant, ...] = ("lite",) if "head.hidden.conv.weight" in weights else ("v1", "r")
    for variant, width, depth, divisor in _candidates(variants, len(widths), last.shape[0]):
        plan = plan_network(width, variant, depth, channel_divisor=divisor)
        if _matches(plan, stem.shape[0], widths, last.shape[0]):
            return Recognised(variant, width, depth, divisor, classes, stem.shape[1])
    return None


def describe_weights(weights: Mapping[str, Tensor]) -> str:
    """What weights in our names are, as words for a message."""
    recognised = recognise(weights)
    if recognised is not None:
        return str(recognised)
    if "stem.conv.weight" in weights and "features.0.conv_pwl.conv.weight" in weights:
        return "a ReXNet of unknown width"
    return "another network than ReXNet"


def _matches(plan: NetworkPlan, stem: int, widths: list[int], head: int) -> bool:
    return (plan.stem_channels, plan.head_channels) == (stem, head) and [b.out_channels for b in plan.blocks] == widths


def _candidates(variants: tuple[Variant, ...], blocks: int, head: int) -> Iterator[tuple[Variant, float, float, int]]:
    """Published networks first, then every width in hundredths that the head allows."""
    depths = [depth for depth in DEPTHS if sum(math.ceil(stage * depth) for stage in STAGE_DEPTHS) == blocks]
    near = [hundredth / 100 for hundredth in range(5, 1001) if abs(12.80 * hundredth - head) <= 32]
    narrow = [hundredth / 100 for hundredth in range(5, 100)]  # a lite network below 1.0 keeps the head of 1.0
    for variant in variants:
        for width in (*PUBLISHED_WIDTHS, *near, *(narrow if variant == "lite" else ())):
            for depth in depths:
                for divisor in DIVISORS[variant]:
                    yield variant, width, depth, divisor
