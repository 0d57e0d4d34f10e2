"""Computes the channel counts of the ReXNet family as tables (arXiv 2007.00992)."""

import itertools
import math
from typing import Literal, NamedTuple

from rexnet.errors import ConfigError

Variant = Literal["v1", "lite", "r"]

STAGE_DEPTHS = (1, 2, 2, 3, 3, 5)
STAGE_STRIDES = (1, 2, 2, 2, 1, 2)
FIRST_SQUEEZE_STAGE = 2  # stages 0 and 1 have no squeeze-and-excitation
EXPANSION = 6
SQUEEZE_RATIO = 1 / 12
STEM_CHANNELS = 32
FIRST_CHANNELS = 16
CHANNEL_GROWTH = 180
LITE_GROWTH = 164
HEAD_CHANNELS = 1280
LITE_HIDDEN_CHANNELS = 1024
OUTPUT_STRIDES = (8, 16, 32)
TIMM_PREFIX: dict[Variant, str] = {"v1": "rexnet", "r": "rexnetr", "lite": "rexnet_lite"}


class BlockPlan(NamedTuple):
    """One inverted bottleneck, as numbers."""

    in_channels: int
    expanded_channels: int
    squeezed_channels: int
    """Width of squeeze-and-excitation's bottleneck; 0: the block has none."""
    out_channels: int
    downsamples: bool
    """True if the block starts a coarser level of the feature pyramid, by its stride or, in its place, by dilation."""
    stride: int
    dilation: int

    @property
    def has_shortcut(self) -> bool:
        """True if the input is added to the first channels of the output."""
        return not self.downsamples and self.in_channels <= self.out_channels


class FeatureLevel(NamedTuple):
    """The last feature map of one resolution."""

    block: int
    channels: int
    stride: int
    """Pixels of the image for each pixel of the map."""


class NetworkPlan(NamedTuple):
    """All channel counts of a network."""

    variant: Variant
    stem_channels: int
    blocks: tuple[BlockPlan, ...]
    head_channels: int
    hidden_channels: int
    """Width of the layer between the pooled features and the classifier; 0: there is none."""
    stem_stride: int = 2

    @property
    def levels(self) -> tuple[FeatureLevel, ...]:
        """Returns the feature pyramid from fine to coarse: five maps, of strides 2 to 32 without dilation."""
        starts = [place for place, block in enumerate(self.blocks) if block.downsamples]
        ends = [start - 1 for start in starts] + [len(self.blocks) - 1]
        strides = (self.stem_stride * math.prod(block.stride for block in self.blocks[: end + 1]) for end in ends)
        return tuple(
            FeatureLevel(end, self.blocks[end].out_channels, stride) for end, stride in zip(ends, strides, strict=True)
        )


def plan_network(
    width_mult: float = 1.0,
    variant: Variant = "v1",
    depth_mult: float = 1.0,
    *,
    use_se: bool | None = None,
    se_ratio: float = SQUEEZE_RATIO,
    channel_divisor: int | None = None,
    output_stride: int = 32,
) -> NetworkPlan:
    """Returns the table of a network: block i of 16 has (16 + 11.25 i) * width_mult channels, rounded half to even.

    Below width 1.0 the stem keeps 32 and the first block 16 channels and only the growth is scaled, as in the authors'
    `rexnetv1.py` (a thinner stem loses too much, says their issue 33). `lite` is the authors' `rexnetv1_lite.py`: it
    grows by 164 channels in multiples of 8, without squeeze-and-excitation and with a hidden layer in the head. `r` is
    timm's `rexnetr`: the channels of `v1` in multiples of 8 (`rexnetr_300`: 16), for tensor cores. The arguments are
    those of `factory.rexnet`.

    Raises:
        ConfigError: a number is out of range.
    """
    if not (0 < width_mult <= 10 and 0 < depth_mult <= 10 and 0 <= se_ratio <= 1):
        raise ConfigError("width_mult and depth_mult: should be above 0 and at most 10, and se_ratio from 0 to 1")
    if variant not in TIMM_PREFIX or output_stride not in OUTPUT_STRIDES:
        raise ConfigError("variant: should be v1, lite or r, and output_stride 8, 16 or 32")
    lite = variant == "lite"
    divisor = channel_divisor or (1 if variant == "v1" else 8)
    depths = [math.ceil(depth * depth_mult) for depth in STAGE_DEPTHS]
    widths = _plan_widths(width_mult, sum(depths), lite, divisor)
    squeezes = (use_se if use_se is not None else not lite) and se_ratio > 0
    blocks: list[BlockPlan] = []
    # Dividing by widths below 1 keeps the stem's channels.
    in_channels = stem = round_to_multiple(round(STEM_CHANNELS / min(width_mult, 1.0) * width_mult), divisor)
    stride_so_far, dilation = 2, 1
    for stage, (depth, stage_stride) in enumerate(zip(depths, STAGE_STRIDES, strict=True)):
        for position in range(depth):
            downsamples = position == 0 and stage_stride > 1
            dilates = downsamples and stride_so_far >= output_stride
            stride = stage_stride if downsamples and not dilates else 1
            expanded = in_channels * (EXPANSION if stage > 0 else 1)
            squeezed = int(expanded * se_ratio) if squeezes and stage >= FIRST_SQUEEZE_STAGE else 0
            squeezed = round_to_multiple(squeezed, divisor) if squeezed else 0
            out_channels = widths[len(blocks)]
            blocks.append(
                BlockPlan(in_channels, expanded, squeezed, out_channels, downsamples, stride, dilation)
            )  # a block that dilates in place of its stride still reads its input undilated
            dilation *= stage_stride if dilates else 1
            stride_so_far *= stride
            in_channels = out_channels
    head_width = max(width_mult, 1.0) if lite else width_mult
    head = round_to_multiple(int(HEAD_CHANNELS * head_width), 1 if lite else divisor)
    return NetworkPlan(variant, stem, tuple(blocks), head, LITE_HIDDEN_CHANNELS if lite else 0)


def _plan_widths(width_mult: float, blocks: int, lite: bool, divisor: int) -> list[int]:
    """Returns the output channels of each block."""
    first = FIRST_CHANNELS / min(width_mult, 1.0)
    growth = LITE_GROWTH / max(blocks - 1, 1) if lite else CHANNEL_GROWTH / blocks
    # Added up step by step as the authors do: as one product, 0.6 * (...) falls on the other side of 83.5.
    widths = itertools.accumulate([first] + [growth] * (blocks - 1))
    return [round_to_multiple(round(width * width_mult), divisor) for width in widths]


def timm_name(variant: Variant, width_mult: float) -> str:
    """Returns the network's name in timm, also for widths that timm lacks."""
    return f"{TIMM_PREFIX[variant]}_{round(width_mult * 100):03d}"


def round_to_multiple(channels: int, divisor: int) -> int:
    """Returns the nearest multiple of `divisor`, or the next one up if that loses over a tenth (MobileNetV2's rule)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
