import pytest
import torch

from rexnet import rexnet
from rexnet.models.recognition import describe_weights, recognise


@pytest.mark.parametrize(
    ("variant", "width", "depth", "divisor"),
    [
        *(("v1", width, 1.0, 1) for width in (0.9, 1.0, 1.3, 1.5, 2.0, 2.2, 3.0, 0.37, 1.23)),
        *(("lite", width, 1.0, 8) for width in (1.0, 1.3, 1.5, 2.0)),
        ("r", 1.0, 1.0, 8),
        ("r", 3.0, 1.0, 16),
        ("v1", 1.0, 1.1, 1),
    ],
)
def test_family_width_depth_and_classes_are_read_off_the_weights(
    variant: str, width: float, depth: float, divisor: int
) -> None:
    with torch.device("meta"):
        network = rexnet(width, variant, 12, depth_mult=depth, channel_divisor=divisor)  # type: ignore[arg-type]
    assert recognise(network.state_dict()) == (variant, width, depth, divisor, 12, 3)


def test_what_weights_are_is_said_in_words() -> None:
    with torch.device("meta"):
        lite, deep = rexnet(1.3, "lite").state_dict(), rexnet(1.0, depth_mult=1.1).state_dict()
    assert describe_weights(lite) == "a ReXNet-lite of width 1.3 with 1,000 classes"
    assert describe_weights(deep) == "a ReXNetV1 of width 1 and depth 1.1 with 1,000 classes"
    assert describe_weights({"conv1.weight": torch.zeros(1)}) == "another network than ReXNet"
    lite["features.4.conv_pwl.conv.weight"] = torch.empty(63, 1, 1, 1)
    assert describe_weights(lite) == "a ReXNet of unknown width"
