"""Optimisers and their parameter groups."""

from typing import Any

import torch
from torch import nn

from rexnet.config.schema import OptimizerConfig
from rexnet.models.factory import split_parameters


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW over the groups of `group_parameters`."""
    groups = group_parameters(model, config)
    match config.name:
        case "sgd":
            return torch.optim.SGD(groups, config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
        case "adamw":
            return torch.optim.AdamW(groups, config.lr, betas=(config.momentum, 0.999))


def group_parameters(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Backbone and classifier, each with and without weight decay.

    Vectors (BatchNorm's weights and all biases) are not decayed, as in the training script that the ReXNet authors
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
