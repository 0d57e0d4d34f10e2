"""Redesigns of MobileNetV1, MobileNetV2, ResNet50 and VGG16 by the paper's principles (arXiv 2007.00992, version 1).

The paper reports the gains of such redesigns but not their channels, so the tables below are our inference:

- Channels increase linearly with the block's index instead of by stages, so that no layer widens abruptly. The first
  block has about the width that it has in the baseline, and the growth is chosen for the baseline's multiply-adds.
- SiLU follows every convolution except depthwise ones, which keep ReLU6, and MobileNetV2's projections, which are
  linear.
- The penultimate layer is widened until the network has about as many parameters as its baseline.

The baselines are networks of timm. The redesigns are built from timm's layers, MobileNetV2's from those of ReXNet.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from timm.layers import ClassifierHead, DropPath
from timm.models import VGG, EfficientNet, ResNet
from timm.models._efficientnet_builder import decode_arch_def, efficientnet_init_weights
from timm.models.resnet import Bottleneck
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from rexnet.models.plan import EXPANSION, BlockPlan, NetworkPlan, round_to_multiple
from rexnet.models.rexnet import ConvNorm, ReXNet


class Redesign(NamedTuple):
    """A redesigned network, as numbers."""

    baseline: str
    """The network that it redesigns, as a `model.name`."""
    first_channels: int
    growth: float
    """Channels that each block has more than the one before, rounded to multiples of 8."""
    blocks: int
    downsampling: tuple[int, ...]
    """Indices of the blocks that halve the resolution."""
    penultimate_channels: int

    @property
    def widths(self) -> list[int]:
        """The channels of each block: its output, or in ResNet50 the input of its expanding layer."""
        widths = (self.first_channels + i * self.growth for i in range(self.blocks))
        return [round_to_multiple(round(width), 8) for width in widths]


REDESIGNS = {
    "mobilenet_v1_rex": Redesign("timm/mobilenetv1_100", 64, 58.0, 12, (1, 3, 5, 11), 1280),
    "mobilenet_v2_rex": Redesign("timm/mobilenetv2_100", 16, 6.75, 17, (1, 3, 6, 13), 2048),
    "resnet50_rex": Redesign("timm/resnet50", 32, 30.0, 16, (3, 7, 13), 4096),
    "vgg16_rex": Redesign("timm/vgg16_bn", 64, 36.5, 13, (2, 4, 7, 10), 5120),
}


def build_redesign(name: str, num_classes: int, **options: Any) -> nn.Module:
    """Builds a network of `REDESIGNS`, initialized as its baseline is.

    Args:
        name: its key.
        num_classes: length of the logits.
        options: `drop_rate` and `drop_path_rate`, as for `timm.create_model`.

    Raises:
        TypeError: `drop_path_rate` for `vgg16_rex`, which has no shortcuts.
    """
    builders: dict[str, Callable[..., nn.Module]] = {
        "mobilenet_v1_rex": _build_mobilenet_v1,
        "mobilenet_v2_rex": _build_mobilenet_v2,
        "resnet50_rex": _build_resnet50,
        "vgg16_rex": _build_vgg16,
    }
    return builders[name](REDESIGNS[name], num_classes=num_classes, **options)


def _build_mobilenet_v1(design: Redesign, **options: Any) -> Any:
    """Builds 12 blocks of a depthwise and a 1x1 convolution, and a last one that makes the penultimate features."""
    widths = [*design.widths, design.penultimate_channels]
    stages = [[f"dsa_r1_k3_s{_stride(design, i)}_c{width}"] for i, width in enumerate(widths)]
    model = EfficientNet(decode_arch_def(stages), num_features=0, act_layer=nn.ReLU6, **options)
    for norm in (model.bn1, *(stage[0].bn2 for stage in model.blocks)):
        norm.act = nn.SiLU(inplace=True)
    return model


def _build_mobilenet_v2(
    design: Redesign, num_classes: int, drop_rate: float = 0.0, drop_path_rate: float = 0.0
) -> nn.Module:
    """Builds a ReXNet without squeeze-and-excitation, of as many blocks as MobileNetV2."""
    blocks, in_channels = [], 32
    for i, width in enumerate(design.widths):
        expanded, stride = in_channels * (EXPANSION if i else 1), _stride(design, i)
        blocks.append(BlockPlan(in_channels, expanded, 0, width, stride > 1, stride, 1))
        in_channels = width
    plan = NetworkPlan("v1", 32, tuple(blocks), design.penultimate_channels, 0)
    model = ReXNet(plan, num_classes, drop_rate, drop_path_rate, 3, None, grad_checkpointing=False)
    efficientnet_init_weights(model)
    return model


def _build_resnet50(design: Redesign, num_classes: int, drop_path_rate: float = 0.0, **options: Any) -> Any:
    """Builds bottlenecks of growing width, and a 1x1 convolution that makes the penultimate features."""
    model = ResNet(_WideBottleneck, (0, 0, 0, 0), act_layer=nn.SiLU, **options)  # without blocks
    blocks, in_channels = [], 64
    for i, width in enumerate(design.widths):
        stride, out_channels = _stride(design, i), width * _WideBottleneck.expansion
        shortcut = _PaddedShortcut(out_channels - in_channels, stride)
        drop_path = DropPath(drop_path_rate * i / (design.blocks - 1)) if drop_path_rate else None
        blocks.append(_WideBottleneck(in_channels, width, stride, shortcut, act_layer=nn.SiLU, drop_path=drop_path))
        in_channels = out_channels
    for stage, (start, end) in enumerate(pairwise((0, *design.downsampling, design.blocks)), 1):
        setattr(model, f"layer{stage}", nn.Sequential(*blocks[start:end]))
    model.layer4.append(ConvNorm(in_channels, design.penultimate_channels, activation=nn.SiLU()))
    model.num_features = model.head_hidden_size = design.penultimate_channels
    model.reset_classifier(num_classes)
    model.init_weights()
    return model


class _WideBottleneck(Bottleneck):  # type: ignore[misc]
    """A bottleneck whose last convolution expands 2 times instead of 4, from an input twice as wide."""

    expansion = 2


class _PaddedShortcut(nn.Module):
    """Skips pixels as the stride says and appends channels of zeros, as in ReXNet's shortcuts."""

    def __init__(self, added_channels: int, stride: int) -> None:
        super().__init__()
        self.added_channels, self.stride = added_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added_channels))


def _build_vgg16(design: Redesign, num_classes: int, drop_rate: float = 0.0, **options: Any) -> Any:
    """Builds 3x3 convolutions with BatchNorm and pooling, and two hidden layers, the second of which is widened."""
    layers: list[int | str] = []
    for i, width in enumerate(design.widths):
        layers += ["M", width] if i in design.downsampling else [width]
    model = VGG([*layers, "M"], act_layer=nn.SiLU, norm_layer=nn.BatchNorm2d, drop_rate=drop_rate, **options)
    hidden = model.pre_logits.fc2.in_channels
    model.pre_logits.fc2 = nn.Conv2d(hidden, design.penultimate_channels, 1)
    model.head = ClassifierHead(design.penultimate_channels, num_classes, drop_rate=drop_rate)
    model.head_hidden_size = design.penultimate_channels
    model._initialize_weights()
    return model


def _stride(design: Redesign, block: int) -> int:
    return 2 if block in design.downsampling else 1
