"""ReXNetV1, an inverted-bottleneck network whose channels grow linearly with depth (arXiv 2007.00992).

The network is computed as a table (`plan_network`) and then built in a loop. Parameter names are those of timm's
`rexnet_*`, so that weights pass between the two without renaming; `pretrained.py` translates the authors' names.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

STAGE_DEPTHS = (1, 2, 2, 3, 3, 5)
STAGE_STRIDES = (1, 2, 2, 2, 1, 2)
FIRST_SQUEEZE_STAGE = 2  # stages 0 and 1 have no squeeze-and-excitation
EXPANSION = 6
SQUEEZE_DIVISOR = 12
STEM_CHANNELS = 32
FIRST_CHANNELS = 16
CHANNEL_GROWTH = 180
HEAD_CHANNELS = 1280


class BlockPlan(NamedTuple):
    """One inverted bottleneck, as numbers."""

    in_channels: int
    out_channels: int
    expansion: int
    stride: int
    squeeze: bool

    @property
    def has_shortcut(self) -> bool:
        """Whether the input is added to the first channels of the output."""
        return self.stride == 1 and self.in_channels <= self.out_channels


class NetworkPlan(NamedTuple):
    """All channel counts of a ReXNet."""

    stem_channels: int
    blocks: tuple[BlockPlan, ...]
    head_channels: int


def plan_network(width_mult: float) -> NetworkPlan:
    """The table of a ReXNetV1: block i of 16 gives (16 + 11.25 i) * width_mult channels, rounded half to even.

    Below width 1.0 the stem keeps 32 and the first block 16 channels: only the growth is scaled, as in the authors'
    `rexnetv1.py` (their issue 33 gives the reason: a thinner stem loses too much).
    """
    fixed = min(width_mult, 1.0)  # dividing by it keeps the stem and the first block where they are
    stem = round(STEM_CHANNELS / fixed * width_mult)
    first, growth = FIRST_CHANNELS / fixed, CHANNEL_GROWTH / sum(STAGE_DEPTHS)
    widths = [round((first + growth * block) * width_mult) for block in range(sum(STAGE_DEPTHS))]
    blocks: list[BlockPlan] = []
    in_channels = stem
    for stage, (depth, stage_stride) in enumerate(zip(STAGE_DEPTHS, STAGE_STRIDES, strict=True)):
        for position in range(depth):
            blocks.append(
                BlockPlan(
                    in_channels,
                    out_channels=widths[len(blocks)],
                    expansion=EXPANSION if blocks else 1,
                    stride=stage_stride if position == 0 else 1,
                    squeeze=stage >= FIRST_SQUEEZE_STAGE,
                )
            )
            in_channels = blocks[-1].out_channels
    return NetworkPlan(stem, tuple(blocks), head_channels=int(HEAD_CHANNELS * width_mult))


class ReXNet(nn.Module):
    """ReXNetV1 classifier of images (N, 3, H, W) into logits (N, num_classes).

    Args:
        width_mult: channel multiplier; 0.9 to 3.0 were published.
        num_classes: length of the logits.
        dropout: probability of dropping a feature before the classifier.
        drop_path: probability of dropping the last residual branch; it grows linearly from 0 at the first block.
    """

    def __init__(
        self, width_mult: float = 1.0, num_classes: int = 1000, dropout: float = 0.2, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        plan = plan_network(width_mult)
        self.num_classes = num_classes
        self.num_features = plan.head_channels
        self.stem = ConvNorm(3, plan.stem_channels, kernel_size=3, stride=2, activation=nn.SiLU())
        last = len(plan.blocks) - 1
        blocks = [InvertedBottleneck(block, drop_path * i / last) for i, block in enumerate(plan.blocks)]
        final = ConvNorm(plan.blocks[-1].out_channels, plan.head_channels, activation=nn.SiLU())
        self.features = nn.Sequential(*blocks, final)
        self.head = Head(plan.head_channels, num_classes, dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised images (N, 3, H, W)."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """The last feature map (N, num_features, H / 32, W / 32)."""
        features: Tensor = self.features(self.stem(images))
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits (N, num_classes) of a feature map (N, num_features, h, w)."""
        logits: Tensor = self.head(features)
        return logits

    def get_classifier(self) -> nn.Linear:
        """The last layer, the only one that depends on the classes."""
        return self.head.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Replaces the last layer by a fresh one for `num_classes` classes."""
        self.num_classes = num_classes
        self.head.fc = nn.Linear(self.num_features, num_classes)


class ConvNorm(nn.Sequential):
    """Convolution without bias, BatchNorm and, where given, an activation; (N, C, H, W) in and out."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        if activation is not None:
            self.act = activation


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from all channels' means, with BatchNorm between the two layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = channels // SQUEEZE_DIVISOR
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.bn = nn.BatchNorm2d(squeezed)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = x.mean((2, 3), keepdim=True)
        gate = self.fc2(F.relu(self.bn(self.fc1(gate))))
        gated: Tensor = x * gate.sigmoid()
        return gated


class InvertedBottleneck(nn.Module):
    """Expand, depthwise 3x3, squeeze-and-excitation, ReLU6, project; plus a shortcut into the first channels.

    SiLU follows the expansion and ReLU6 the depthwise convolution, which does not widen and gains nothing from a
    smoother function (paper, section 4.1).
    """

    def __init__(self, plan: BlockPlan, drop_path: float) -> None:
        super().__init__()
        channels = plan.in_channels * plan.expansion
        expands = plan.expansion != 1
        self.conv_exp = ConvNorm(plan.in_channels, channels, activation=nn.SiLU()) if expands else nn.Identity()
        self.conv_dw = ConvNorm(channels, channels, kernel_size=3, stride=plan.stride, groups=channels)
        self.se = SqueezeExcite(channels) if plan.squeeze else nn.Identity()
        self.act_dw = nn.ReLU6()
        self.conv_pwl = ConvNorm(channels, plan.out_channels)
        self.has_shortcut = plan.has_shortcut
        self.added_channels = plan.out_channels - plan.in_channels
        self.drop_path = drop_path if self.has_shortcut else 0.0  # without a shortcut the whole signal would vanish

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv_pwl(self.act_dw(self.se(self.conv_dw(self.conv_exp(x)))))
        if not self.has_shortcut:
            return out
        if self.training and self.drop_path > 0:
            out = drop_samples(out, self.drop_path)
        return out + F.pad(x, (0, 0, 0, 0, 0, self.added_channels))  # zeros for the channels that x lacks


class Head(nn.Module):
    """Global average, dropout and the linear classifier: (N, C, h, w) to (N, num_classes)."""

    def __init__(self, channels: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.dropout(x.mean((2, 3))))
        return logits


def drop_samples(x: Tensor, probability: float) -> Tensor:
    """Stochastic depth: zeroes whole samples of x (N, ...), scales the others to keep the mean (arXiv 1603.09382)."""
    keep = torch.rand((x.shape[0],) + (1,) * (x.ndim - 1), device=x.device, dtype=torch.float32) >= probability
    return x * keep.to(x.dtype) / (1 - probability)
