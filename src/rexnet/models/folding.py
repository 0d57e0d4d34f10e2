"""BatchNorm folded into the convolutions before it: fewer operations for inference, the same function."""

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batchnorm(model: nn.Module) -> nn.Module:
    """A copy of `model` in evaluation mode in which every BatchNorm right behind a convolution is part of it.

    Works on any network that keeps the two as neighbours in one module, in the order of their computation, as ReXNet
    and most of timm's do; others keep their BatchNorm. Logits agree to float32's rounding.
    """
    folded = copy.deepcopy(model).eval()
    for parent in list(folded.modules()):
        convolution: tuple[str, nn.Conv2d] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and convolution is not None and _fits(convolution[1], child):
                setattr(parent, convolution[0], fuse_conv_bn_eval(convolution[1], child))
                setattr(parent, name, _what_is_left(child))
            convolution = (name, child) if isinstance(child, nn.Conv2d) else None
    return folded


def _fits(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    return convolution.out_channels == norm.num_features and norm.running_mean is not None


def _what_is_left(norm: nn.BatchNorm2d) -> nn.Module:
    """What a BatchNorm of timm holds besides, an activation; the plain one nothing."""
    rest = [module for name, module in norm.named_children() if not isinstance(module, nn.Identity)]
    return nn.Sequential(*rest) if rest else nn.Identity()
