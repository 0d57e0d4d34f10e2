"""Depthwise convolutions in fp32 next to bf16."""

import copy

import pytest
import timm
import torch
from torch import nn

from rexnet import rexnet
from rexnet.models.depthwise import Float32Depthwise, train_depthwise_in_fp32


def output_dtypes(network: nn.Module) -> set[torch.dtype]:
    """The dtypes that the depthwise convolutions return under autocast."""
    found: set[torch.dtype] = set()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            layer.register_forward_hook(lambda layer, inputs, output: found.add(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.zeros(2, 3, 32, 32)).sum()
    return found


@pytest.mark.parametrize(
    "network",
    [
        rexnet(0.2, num_classes=2),
        timm.create_model("efficientnet_lite0"),
        timm.create_model("tf_efficientnet_lite0"),  # its convolutions derive from PyTorch's
    ],
)
def test_depthwise_convolutions_train_in_fp32_and_evaluate_in_bf16(network: nn.Module) -> None:
    names = list(network.state_dict())
    assert output_dtypes(copy.deepcopy(network)) == {torch.bfloat16}
    train_depthwise_in_fp32(network)
    assert output_dtypes(copy.deepcopy(network)) == {torch.float32}
    with torch.inference_mode():
        assert output_dtypes(copy.deepcopy(network).eval()) == {torch.bfloat16}
    assert list(network.state_dict()) == names


def test_only_depthwise_convolutions_change_and_fp32_stays_equal() -> None:
    network = rexnet(0.2, num_classes=2)
    changed = copy.deepcopy(network)
    train_depthwise_in_fp32(changed)
    assert {layer.groups > 1 for layer in changed.modules() if isinstance(layer, Float32Depthwise)} == {True}
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(network.eval()(images), changed.eval()(images))


def test_compiles_into_one_graph() -> None:
    network = rexnet(0.2, num_classes=2)
    train_depthwise_in_fp32(network)
    with torch.autocast("cpu", torch.bfloat16):
        torch.compile(network, backend="eager", fullgraph=True)(torch.zeros(2, 3, 32, 32)).sum().backward()
