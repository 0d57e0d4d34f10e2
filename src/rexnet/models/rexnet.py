"""ReXNet, inverted-bottleneck networks whose channels grow linearly with depth (arXiv 2007.00992).

`plan.py` computes the channels as a table; the network is built from it in a loop. Parameter names are those of timm's
`rexnet_*`, so that weights pass between the two without renaming; `naming.py` translates the authors' names.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from rexnet.errors import ConfigError
from rexnet.models.grad_checkpointing import run_layer
from rexnet.models.plan import BlockPlan, NetworkPlan

ActivationName = Literal["silu", "relu6", "relu", "leaky_relu", "elu", "softplus", "hardswish"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "silu": nn.SiLU,
    "relu6": nn.ReLU6,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "hardswish": nn.Hardswish,
}


class ReXNet(nn.Module):
    """Classifies images (N, in_channels, H, W) into logits (N, num_classes).

    `factory.rexnet` builds it and explains the arguments.
    """

    def __init__(
        self,
        plan: NetworkPlan,
        num_classes: int,
        dropout: float,
        drop_path: float,
        in_channels: int,
        activation: ActivationName | None,
        grad_checkpointing: bool,
    ) -> None:
        super().__init__()
        if activation not in (None, *ACTIVATIONS) or not 0 <= drop_path < 1:
            raise ConfigError(f"activation: should be one of {', '.join(ACTIVATIONS)}, and drop_path from 0 to below 1")
        act = ACTIVATIONS[activation or ("relu6" if plan.variant == "lite" else "silu")]
        self.plan = plan
        self.num_classes = num_classes
        self.num_features = plan.head_channels
        self.grad_checkpointing = grad_checkpointing
        self.stem = ConvNorm(in_channels, plan.stem_channels, 3, plan.stem_stride, activation=act())
        last = max(len(plan.blocks) - 1, 1)
        blocks = [InvertedBottleneck(block, drop_path * i / last, act()) for i, block in enumerate(plan.blocks)]
        final = ConvNorm(plan.blocks[-1].out_channels, plan.head_channels, activation=act())
        self.features = nn.Sequential(*blocks, final)
        self.head = Head(plan.head_channels, plan.hidden_channels, num_classes, dropout)
        self.head_hidden_size = self.head.fc_channels  # timm's name

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (N, num_classes) for normalized images (N, in_channels, H, W)."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """Returns the last feature map (N, num_features, H / 32, W / 32)."""
        x: Tensor = self.stem(images)
        for layer in self.features:
            x = run_layer(layer, x, self.grad_checkpointing and self.training)
        return x[:, : self.num_features]  # without padding

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Returns logits for a feature map (N, num_features, h, w), or with `pre_logits` the classifier's input."""
        out: Tensor = self.head.pool(features) if pre_logits else self.head(features)
        return out

    def get_classifier(self) -> nn.Module:
        """Returns the last layer, the only one that depends on the classes."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the last layer by a new one for `num_classes` classes, or removes it with 0, as in timm."""
        if global_pool not in (None, "avg"):
            raise ConfigError(f"reset_classifier: only the pooling avg is supported, not {global_pool}")
        self.num_classes = num_classes
        self.head.fc = build_classifier(self.head.fc_channels, num_classes).to(self.stem.conv.weight)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Returns patterns of parameter names by which timm groups layers, one for each block of the plan."""
        return {"stem": r"^stem", "blocks": r"^features\.(\d+)"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turns gradient checkpointing on or off: less memory for a third more computation."""
        self.grad_checkpointing = enable


class ConvNorm(nn.Sequential):
    """Convolution, BatchNorm and an optional activation; (N, C, H, W) in and out."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2 * dilation
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.bn = nn.BatchNorm2d(out_channels)
        if activation is not None:
            self.act = activation


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from all channels' means, with BatchNorm between the two layers."""

    def __init__(self, channels: int, squeezed_channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed_channels, 1)
        self.bn = nn.BatchNorm2d(squeezed_channels)
        self.fc2 = nn.Conv2d(squeezed_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = x.mean((2, 3), keepdim=True)
        gate = self.fc2(F.relu(self.bn(self.fc1(gate))))
        gated: Tensor = x * gate.sigmoid()
        return gated


class InvertedBottleneck(nn.Module):
    """Expand, depthwise 3x3, squeeze-and-excitation, ReLU6, project; plus a shortcut into the first channels.

    A smooth activation follows the expansion. ReLU6 follows the depthwise convolution, which does not increase the
    channels and gains nothing from a smoother activation (paper, section 4.1).
    """

    def __init__(self, plan: BlockPlan, drop_path: float, activation: nn.Module) -> None:
        super().__init__()
        width, expands = plan.expanded_channels, plan.expanded_channels != plan.in_channels
        self.conv_exp = ConvNorm(plan.in_channels, width, activation=activation) if expands else nn.Identity()
        self.conv_dw = ConvNorm(width, width, 3, plan.stride, plan.dilation, groups=width)
        self.se = SqueezeExcite(width, plan.squeezed_channels) if plan.squeezed_channels else nn.Identity()
        self.act_dw = nn.ReLU6()
        self.conv_pwl = ConvNorm(width, plan.out_channels)
        self.has_shortcut = plan.has_shortcut
        self.in_channels = plan.in_channels
        self.drop_path = drop_path if self.has_shortcut else 0.0  # else the whole signal would vanish

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv_pwl(self.act_dw(self.se(self.conv_dw(self.conv_exp(x)))))
        if not self.has_shortcut:
            return out
        if self.training and self.drop_path > 0:
            out = drop_samples(out, self.drop_path)
        # Zeros for the channels that x lacks. Padding of x would meet channels that are real in the output, and learn.
        added = out.shape[1] - self.in_channels
        return out + F.pad(x[:, : self.in_channels], (0, 0, 0, 0, 0, added))


class Head(nn.Module):
    """Pools (N, C, h, w) globally and classifies it, through a hidden layer in the lite variant, to (N, classes)."""

    def __init__(self, channels: int, hidden_channels: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.hidden = (
            ConvNorm(channels, hidden_channels, bias=True, activation=nn.ReLU6()) if hidden_channels else nn.Identity()
        )
        self.dropout = nn.Dropout(dropout)
        self.fc_channels = hidden_channels or channels
        self.fc = build_classifier(self.fc_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.pool(x))
        return logits

    def pool(self, x: Tensor) -> Tensor:
        """Returns the input (N, fc_channels) of the classifier."""
        features: Tensor = self.dropout(self.hidden(x.mean((2, 3), keepdim=True)).flatten(1))
        return features


def build_classifier(channels: int, num_classes: int) -> nn.Module:
    """Returns a linear layer, or none for 0 classes."""
    return nn.Linear(channels, num_classes) if num_classes else nn.Identity()


def drop_samples(x: Tensor, probability: float) -> Tensor:
    """Zeroes random samples of x (N, ...) and scales the rest to keep the mean (stochastic depth, arXiv 1603.09382)."""
    keep = torch.rand((x.shape[0],) + (1,) * (x.ndim - 1), device=x.device, dtype=torch.float32) >= probability
    return x * keep.to(x.dtype) / (1 - probability)
