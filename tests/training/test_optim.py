import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from rexnet.config import load_config
from rexnet.config.schema import OptimizerConfig
from rexnet.errors import ConfigError
from rexnet.models.factory import rexnet
from rexnet.models.padding import pad_channels
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


def test_each_layer_learns_more_slowly_the_farther_it_is_from_the_classifier() -> None:
    keys = ["optimizer.lr=0.1", "optimizer.layer_decay=0.5", "optimizer.backbone_lr_factor=0.1"]
    model = rexnet(0.2, depth_mult=0.1, num_classes=10)  # a stem, six blocks and the last convolution
    rates = {group["name"]: group["lr"] for group in group_parameters(model, recipe(*keys))}
    names = [f"backbone/{distance}/{kind}" for distance in range(8, 0, -1) for kind in ("decay", "no_decay")]
    assert list(rates) == [*names, "classifier/0/decay", "classifier/0/no_decay"]  # the last one is logged
    assert rates["classifier/0/decay"] == 0.1
    assert rates["backbone/1/decay"] == pytest.approx(0.1 * 0.1 * 0.5)
    assert rates["backbone/8/no_decay"] == pytest.approx(0.1 * 0.1 * 0.5**8)


@pytest.mark.parametrize("name", ["rexnet_100", "efficientnet_lite0", "resnet18", "vit_tiny_patch16_224"])
def test_layer_decay_is_that_of_timm(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=10)
    scale_of = {
        p: group["lr_scale"] for group in param_groups_layer_decay(model, layer_decay=0.8) for p in group["params"]
    }
    if name == "rexnet_100":
        theirs, model = model, rexnet(1.0, num_classes=10)
        scale_of = {p: scale_of[q] for p, q in zip(model.parameters(), theirs.parameters(), strict=True)}
    groups = group_parameters(model, recipe("optimizer.lr=1", "optimizer.layer_decay=0.8"))
    assert {p: group["lr"] for group in groups for p in group["params"]} == pytest.approx(scale_of)


def test_a_network_without_a_group_matcher_has_no_layer_decay() -> None:
    with torch.device("meta"):
        model = timm.create_model("pit_ti_224")
    with pytest.raises(ConfigError, match=r"need timm's group matcher, which PoolingVisionTransformer does not have"):
        group_parameters(model, recipe("optimizer.layer_decay=0.8"))


def test_momentum_keeps_the_true_shapes_whatever_the_groups_are() -> None:
    keys = ["optimizer.layer_decay=0.8", "optimizer.momentum=0.5"]
    padded, plain = (pad_channels(rexnet(0.2, num_classes=10), multiple) for multiple in (8, 1))
    states = [build_optimizer(model, recipe(*keys)).state_dict()["state"] for model in (padded, plain)]
    shapes = [[value["momentum_buffer"].shape for _, value in sorted(state.items())] for state in states]
    assert shapes[0] == shapes[1]


def test_each_optimizer_gets_its_keys() -> None:
    model = rexnet(0.2, num_classes=10)
    sgd = build_optimizer(model, recipe("optimizer.momentum=0.8"))
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["nesterov"], sgd.defaults["lr"]) == (0.8, True, 0.5)
    adamw = build_optimizer(model, recipe("optimizer.name=adamw", "optimizer.momentum=0.85"))
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.defaults["betas"] == (0.85, 0.999)
