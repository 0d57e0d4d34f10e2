"""Optimizers, their parameter groups, and sharpness-aware minimization."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from rexnet.config.schema import OptimizerConfig
from rexnet.models.factory import layer_distances, split_parameters
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
            if config.momentum > 0:
                # Like no momentum; but the fused form cannot mix layers with momentum and newly released ones without.
                for parameter in (parameter for group in groups for parameter in group["params"]):
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
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
    """Returns backbone and classifier, each with and without weight decay, and with layer decay each layer by itself.

    Vectors (weights of BatchNorm and all biases) are not decayed, as in the training script that the authors of ReXNet
    used; pulling them to zero changes the function, not its complexity. The classifier comes last: its learning rate is
    the one that is logged.
    """
    backbone = {id(parameter) for parameter in split_parameters(model)[0]}
    distances = layer_distances(model) if config.layer_decay < 1 else {}
    members: dict[tuple[bool, int, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        members[id(parameter) not in backbone, -distances.get(name, 0), parameter.ndim <= 1].append(parameter)
    groups = []
    for (is_classifier, depth, is_vector), parameters in sorted(members.items()):
        part = ("classifier" if is_classifier else "backbone") + (f"/{-depth}" if distances else "")
        groups.append(
            {
                "name": f"{part}/{'no_decay' if is_vector else 'decay'}",
                "params": parameters,
                "lr": config.lr * (1.0 if is_classifier else config.backbone_lr_factor) * config.layer_decay**-depth,
                "weight_decay": 0.0 if is_vector else config.weight_decay,
            }
        )
    return groups


@torch.no_grad()
def climb(parameters: list[Tensor], rho: float) -> None:
    """Moves parameters, all with a gradient, by the L2 norm `rho` along it, to about the highest loss so near."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    scale = rho / (torch.nn.utils.get_total_norm(gradients) + 1e-12)
    torch._foreach_add_(parameters, torch._foreach_mul(gradients, scale))
