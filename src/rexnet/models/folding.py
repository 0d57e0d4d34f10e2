"""Folds BatchNorm into the convolutions before it: fewer operations for inference, the same function."""

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batchnorm(model: nn.Module) -> nn.Module:
    """Returns a copy of `model` in evaluation mode with each BatchNorm that follows a convolution merged into it.

    Works on networks whose modules list the two one after the other, in the order of computation, as ReXNet and most
    of timm's do; other BatchNorms stay. Logits agree up to float32 rounding.
    """
    folded = copy.deepcopy(model).eval()
    for parent in list(folded.modules()):
        convolution: tuple[str, nn.Conv2d] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and convolution is not None and _fits(convolution[1], child):
                setattr(parent, convolution[0], fuse_conv_bn_eval(convolution[1], child))
                # timm's BatchNorm holds the activation as well
                rest = [module for _, module in child.named_children() if not isinstance(module, nn.Identity)]
                setattr(parent, name, nn.Sequential(*rest) if rest else nn.Identity())
            convolution = (name, child) if isinstance(child, nn.Conv2d) else None
    return folded


def _fits(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    return convolution.out_channels == norm.num_features and norm.running_mean is not None
