import pytest
import torch
from torch import nn

from rexnet.config import load_config
from rexnet.config.schema import OptimizerConfig
from rexnet.models.factory import rexnet
from rexnet.training.optim import build_optimizer, group_parameters


def recipe(*overrides: str) -> OptimizerConfig:
    return load_config("imagenet", overrides).optimizer


def test_norms_and_biases_are_not_decayed_and_everything_else_is() -> None:
    model = rexnet(0.2, num_classes=10)
    groups = group_parameters(model, recipe("optimizer.weight_decay=0.01"))
    decay_of = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(decay_of) == len(list(model.parameters()))
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_weight = name == "weight" and not isinstance(module, nn.BatchNorm2d)
            assert decay_of[id(parameter)] == (0.01 if is_weight else 0.0)


def test_the_backbone_has_its_own_learning_rate() -> None:
    groups = group_parameters(
        rexnet(0.2, num_classes=10), recipe("optimizer.lr=0.2", "optimizer.backbone_lr_factor=0.1")
    )
    assert {group["name"]: pytest.approx(group["lr"]) for group in groups} == {
        "backbone/decay": 0.02,
        "backbone/no_decay": 0.02,
        "classifier/decay": 0.2,
        "classifier/no_decay": 0.2,
    }


def test_each_optimizer_gets_its_keys() -> None:
    model = rexnet(0.2, num_classes=10)
    sgd = build_optimizer(model, recipe("optimizer.momentum=0.8"))
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["nesterov"], sgd.defaults["lr"]) == (0.8, True, 0.5)
    adamw = build_optimizer(model, recipe("optimizer.name=adamw", "optimizer.momentum=0.85"))
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.defaults["betas"] == (0.85, 0.999)
