"""ReXNet, inverted-bottleneck networks whose channels grow linearly with depth (arXiv 2007.00992).

The network is computed as a table (`plan.py`) and built here in a loop. Parameter names are those of timm's `rexnet_*`,
so that weights pass between the two without renaming; `naming.py` translates the authors' names.
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
    """A classifier of images (N, in_channels, H, W) into logits (N, num_classes); `factory.rexnet` builds it.

    Args:
        plan: the channels of every layer.
        num_classes: length of the logits.
        dropout: probability of dropping a feature before the classifier.
        drop_path: probability of dropping the last residual branch; it grows linearly from 0 at the first block.
        in_channels: channels of the images.
        activation: what follows the stem, the expansions and the last convolution; None: SiLU, and ReLU6 for `lite`.
        grad_checkpointing: compute each block again in the backward pass instead of keeping what it computed.

    Raises:
        ConfigError: a number is out of its range.
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
        _check(num_classes, in_channels, activation)
        for name, probability in {"dropout": dropout, "drop_path": drop_path}.items():
            if not 0 <= probability < 1:
                raise ConfigError(f"{name}: should be from 0 to below 1, not {probability:g}")
        act = ACTIVATIONS[activation or ("relu6" if plan.variant == "lite" else "silu")]
        self.plan = plan
        self.num_classes = num_classes
        self.num_features = plan.head_channels
        self.grad_checkpointing = grad_checkpointing
        self.stem = ConvNorm(in_channels, plan.stem_channels, kernel_size=3, stride=2, activation=act())
        last = max(len(plan.blocks) - 1, 1)
        blocks = [InvertedBottleneck(block, drop_path * i / last, act()) for i, block in enumerate(plan.blocks)]
        final = ConvNorm(plan.blocks[-1].out_channels, plan.head_channels, activation=act())
        self.features = nn.Sequential(*blocks, final)
        self.head = Head(plan.head_channels, plan.hidden_channels, num_classes, dropout)
        self.head_hidden_size = self.head.fc_channels  # timm's name for the width of what the classifier sees

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised images (N, in_channels, H, W)."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """The last feature map (N, num_features, H / 32, W / 32)."""
        x: Tensor = self.stem(images)
        for layer in self.features:
            x = run_layer(layer, x, self.grad_checkpointing and self.training)
        return x

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits (N, num_classes) of a feature map (N, num_features, h, w), or what goes into the classifier."""
        pooled: Tensor = self.head.pool(features)
        return pooled if pre_logits else self.head.fc(pooled)

    def get_classifier(self) -> nn.Module:
        """The last layer, the only one that depends on the classes."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the last layer by a fresh one for `num_classes` classes; 0: by none, as in timm.

        Raises:
            ConfigError: a negative number, or another pooling than the average.
        """
        if num_classes < 0 or global_pool not in (None, "avg"):
            raise ConfigError(
                f"num_classes, global_pool: should be 0 or more and avg, not {num_classes}, {global_pool}"
            )
        like = self.stem.conv.weight
        self.num_classes = num_classes
        self.head.fc = (
            nn.Linear(self.head.fc_channels, num_classes, device=like.device, dtype=like.dtype)
            if num_classes > 0
            else nn.Identity()
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turns gradient checkpointing on or off: less memory, a third more computation."""
        self.grad_checkpointing = enable


class ConvNorm(nn.Sequential):
    """Convolution, BatchNorm and, where given, an activation; (N, C, H, W) in and out."""

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

    A smooth activation follows the expansion; ReLU6 follows the depthwise convolution, which does not widen and gains
    nothing from a smoother one (paper, section 4.1).
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
    """Global average, the lite variant's hidden layer, dropout, and the linear classifier.

    (N, C, h, w) to (N, num_classes).
    """

    def __init__(self, channels: int, hidden_channels: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.hidden = (
            ConvNorm(channels, hidden_channels, bias=True, activation=nn.ReLU6()) if hidden_channels else nn.Identity()
        )
        self.dropout = nn.Dropout(dropout)
        self.fc_channels = hidden_channels or channels
        self.fc: nn.Module = nn.Linear(self.fc_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.pool(x))
        return logits

    def pool(self, x: Tensor) -> Tensor:
        """The features (N, fc_channels) that the classifier sees."""
        features: Tensor = self.dropout(self.hidden(x.mean((2, 3), keepdim=True)).flatten(1))
        return features


def drop_samples(x: Tensor, probability: float) -> Tensor:
    """Stochastic depth: zeroes whole samples of x (N, ...), scales the others to keep the mean (arXiv 1603.09382)."""
    keep = torch.rand((x.shape[0],) + (1,) * (x.ndim - 1), device=x.device, dtype=torch.float32) >= probability
    return x * keep.to(x.dtype) / (1 - probability)


def _check(num_classes: int, in_channels: int, activation: str | None) -> None:
    if num_classes < 1:
        raise ConfigError(
            f"num_classes: should be 1 or more, not {num_classes}; forward_features needs no classifier at all"
        )
    if in_channels < 1:
        raise ConfigError(f"in_channels: should be 1 or more, not {in_channels}")
    if activation is not None and activation not in ACTIVATIONS:
        raise ConfigError(f"activation: should be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
