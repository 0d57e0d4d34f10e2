import pytest
import torch

from rexnet import rexnet
from rexnet.models.family import FAMILY, Published
from rexnet.models.recognition import describe_weights


@pytest.mark.parametrize("published", FAMILY, ids=lambda published: published.name)
def test_published_networks_are_named(published: Published) -> None:
    variant, width = published.variant, published.width_mult
    with torch.device("meta"):
        network = rexnet(width, variant, 12, channel_divisor=published.channel_divisor)
    family = {"v1": "ReXNetV1", "lite": "ReXNet-lite", "r": "ReXNet-R"}[variant]
    assert describe_weights(network.state_dict()) == f"a {family} of width {width:g} with 12 classes"


def test_other_networks_are_named_by_their_channels() -> None:
    with torch.device("meta"):
        narrow, odd = rexnet(0.2).state_dict(), rexnet(1.3, "lite").state_dict()
    del narrow["head.fc.weight"]
    channels = "32, 16, 18, 20, 23, 25, 27, 30, 32, 34, 36, 38, 41, 43, 45, 48, 50, 256"
    assert describe_weights(narrow) == f"a ReXNet of {channels} channels without a classifier"
    odd["features.4.conv_pwl.conv.weight"] = torch.empty(63, 1, 1, 1)
    assert describe_weights(odd).startswith("a ReXNet of 40, 24, 32, 48, 64, 63, 96, 104, ")
    assert describe_weights({"conv1.weight": torch.zeros(1)}) == "another network than ReXNet"
