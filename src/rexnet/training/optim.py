"""Optimizers and their parameter groups."""

from typing import Any

import torch
from torch import nn

from rexnet.config.schema import OptimizerConfig
from rexnet.models.factory import split_parameters
from rexnet.models.padding import keep_true_shapes


def build_optimizer(model: nn.Module, config: OptimizerConfig, scales_loss: bool = False) -> torch.optim.Optimizer:
    """Builds SGD with Nesterov momentum, or AdamW, over the groups of `group_parameters`.

    The fused form takes a third of the plain one's time on a CPU, and can skip a step without asking the device. It is
    not used where fp16 scales the loss: it would leave gradients scaled where they are clipped, and the scaler skips
    bad steps itself.
    """
    groups = group_parameters(model, config)
    fused = None if scales_loss else True
    match config.name:
        case "sgd":
            nesterov = config.momentum > 0
            optimizer: torch.optim.Optimizer = torch.optim.SGD(
                groups, config.lr, momentum=config.momentum, nesterov=nesterov, fused=fused
            )
        case "adamw":
            optimizer = torch.optim.AdamW(groups, config.lr, betas=(config.momentum, 0.999), fused=fused)
    keep_true_shapes(optimizer, model)
    return optimizer


def fit_optimizer_to_device(optimizer: Any, scales_loss: bool = False) -> None:
    """Adapts a restored state that comes from another device: its choice of the fused form, and its memory layouts.

    The fused form of the CPU reads momentum in the memory order of the parameter; NCHW momentum of an NHWC parameter
    would be applied scrambled.
    """
    for group in optimizer.param_groups:
        if "fused" in optimizer.defaults:
            group["fused"] = None if scales_loss else True
        for parameter in group["params"]:
            for name, value in optimizer.state.get(parameter, {}).items():
                is_momentum = isinstance(value, torch.Tensor) and value.shape == parameter.shape
                if is_momentum and value.stride() != parameter.stride():
                    optimizer.state[parameter][name] = torch.empty_like(parameter).copy_(value)


def group_parameters(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Returns backbone and classifier, each with and without weight decay.

    Vectors (weights of BatchNorm and all biases) are not decayed, as in the training script that the authors of ReXNet
    used; pulling them to zero changes the function, not its complexity.
    """
    backbone, classifier = split_parameters(model)
    groups = []
    for name, parameters, lr in (
        ("backbone", backbone, config.lr * config.backbone_lr_factor),
        ("classifier", classifier, config.lr),
    ):
        matrices = [p for p in parameters if p.ndim > 1]
        vectors = [p for p in parameters if p.ndim <= 1]
        groups.append({"name": f"{name}/decay", "params": matrices, "lr": lr, "weight_decay": config.weight_decay})
        groups.append({"name": f"{name}/no_decay", "params": vectors, "lr": lr, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]
