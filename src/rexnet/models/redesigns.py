"""Redesigns of MobileNetV1, MobileNetV2, ResNet50 and VGG16 by the paper's principles (arXiv 2007.00992, version 1).

The paper reports the gains of such redesigns but not their channels, so the tables below are inferred:

- Channels increase linearly with the block's index instead of by stages, so that no layer expands abruptly. The growth
  is chosen to match the baseline's multiply-adds.
- SiLU follows every convolution except depthwise ones, which keep ReLU6, and MobileNetV2's linear projections.
- The penultimate layer is widened until the network has about as many parameters as its baseline.

The baselines are timm's networks. The redesigns use timm's layers, and that of MobileNetV2 uses ReXNet's.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

from timm.layers import ClassifierHead, DropPath
from timm.models import VGG, EfficientNet, ResNet
from timm.models._efficientnet_builder import decode_arch_def, efficientnet_init_weights
from timm.models.resnet import Bottleneck
from torch import nn

from rexnet.models.plan import EXPANSION, BlockPlan, NetworkPlan, round_to_multiple
from rexnet.models.rexnet import ConvNorm, ReXNet


class Redesign(NamedTuple):
    """A redesigned network, as numbers."""

    build: Callable[..., nn.Module]
    baseline: str
    """The original network, as a `model.name`."""
    depths: tuple[int, ...]
    """Number of blocks at each resolution; the first block of every stage except the first halves the resolution."""
    first_channels: int
    growth: float
    """Channels added from block to block, before rounding to multiples of 8."""
    penultimate_channels: int

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """The channels (in ResNet50 the input of the expanding layer) and the stride of each block."""
        halving = set(itertools.accumulate(self.depths[:-1]))
        widths = [round_to_multiple(round(self.first_channels + i * self.growth), 8) for i in range(sum(self.depths))]
        return [(width, 2 if i in halving else 1) for i, width in enumerate(widths)]


def build_redesign(name: str, num_classes: int, **options: Any) -> nn.Module:
    """Builds a network of `REDESIGNS`, initialized like its baseline, with timm's `drop_rate` and `drop_path_rate`.

    Raises:
        TypeError: `drop_path_rate` is given for VGG, which has no shortcuts.
    """
    return REDESIGNS[name].build(REDESIGNS[name], num_classes=num_classes, **options)


def _build_mobilenet_v1(design: Redesign, **options: Any) -> Any:
    blocks = [*design.blocks, (design.penultimate_channels, 1)]
    layers = decode_arch_def([[f"dsa_r1_k3_s{stride}_c{width}"] for width, stride in blocks])
    model = EfficientNet(layers, num_features=0, act_layer=nn.ReLU6, **options)
    for norm in (model.bn1, *(stage[0].bn2 for stage in model.blocks)):
        norm.act = nn.SiLU(inplace=True)
    return model


def _build_mobilenet_v2(
    design: Redesign, num_classes: int, drop_rate: float = 0.0, drop_path_rate: float = 0.0
) -> nn.Module:
    blocks, channels = [], 32
    for i, (width, stride) in enumerate(design.blocks):
        blocks.append(BlockPlan(channels, channels * (EXPANSION if i else 1), 0, width, stride > 1, stride, 1))
        channels = width
    plan = NetworkPlan("v1", 32, tuple(blocks), design.penultimate_channels, 0)
    model = ReXNet(plan, num_classes, drop_rate, drop_path_rate, 3, None, grad_checkpointing=False)
    efficientnet_init_weights(model)
    return model


def _build_resnet50(design: Redesign, num_classes: int, drop_path_rate: float = 0.0, **options: Any) -> Any:
    """Builds bottlenecks that expand 2 instead of 4 times, from twice the width; their shortcuts have no weights."""
    model = ResNet(Bottleneck, (0, 0, 0, 0), act_layer=nn.SiLU, **options)
    blocks, channels = [], 64
    for i, (width, stride) in enumerate(design.blocks):
        added = 2 * width - channels
        shortcut = nn.Sequential(nn.AvgPool2d(stride, ceil_mode=True), nn.ZeroPad3d((0, 0, 0, 0, 0, added)))
        drop_path = DropPath(drop_path_rate * i / (len(design.blocks) - 1))
        blocks.append(
            Bottleneck(channels, width // 2, stride, shortcut, base_width=128, act_layer=nn.SiLU, drop_path=drop_path)
        )
        channels = 2 * width
    rest = iter(blocks)
    for stage, depth in enumerate(design.depths, 1):
        setattr(model, f"layer{stage}", nn.Sequential(*itertools.islice(rest, depth)))
    model.layer4.append(ConvNorm(channels, design.penultimate_channels, activation=nn.SiLU()))
    model.num_features = model.head_hidden_size = design.penultimate_channels
    model.reset_classifier(num_classes)
    model.init_weights()
    return model


def _build_vgg16(design: Redesign, num_classes: int, drop_rate: float = 0.0, **options: Any) -> Any:
    layers = [layer for width, stride in design.blocks for layer in ("M", width)[stride % 2 :]]
    model = VGG([*layers, "M"], act_layer=nn.SiLU, norm_layer=nn.BatchNorm2d, drop_rate=drop_rate, **options)
    channels = model.head_hidden_size = design.penultimate_channels
    model.pre_logits.fc2 = nn.Conv2d(model.pre_logits.fc2.in_channels, channels, 1)
    model.head = ClassifierHead(channels, num_classes, drop_rate=drop_rate)
    model._initialize_weights()
    return model


REDESIGNS = {
    "mobilenet_v1_rex": Redesign(_build_mobilenet_v1, "timm/mobilenetv1_100", (1, 2, 2, 6, 1), 64, 58.0, 1280),
    "mobilenet_v2_rex": Redesign(_build_mobilenet_v2, "timm/mobilenetv2_100", (1, 2, 3, 7, 4), 16, 6.75, 2048),
    "resnet50_rex": Redesign(_build_resnet50, "timm/resnet50", (3, 4, 6, 3), 32, 30.0, 4096),
    "vgg16_rex": Redesign(_build_vgg16, "timm/vgg16_bn", (2, 2, 3, 3, 3), 64, 36.5, 5120),
}
