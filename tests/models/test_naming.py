import json
from pathlib import Path

import pytest
import torch

from rexnet import rexnet
from rexnet.models.naming import to_official_names, to_own_names

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_official_to_ours_and_back_keeps_every_bit_name_and_shape(path: Path) -> None:
    shapes = json.loads(path.read_text())["keys"]
    official = {name: torch.rand(shape) for name, shape in shapes.items()}
    own = to_own_names(official)
    family, _, width = path.stem.rpartition("_")
    with torch.device("meta"):
        network = rexnet(float(width), "lite" if family.endswith("lite") else "v1")
    assert {name: value.shape for name, value in own.items()} == {
        name: value.shape for name, value in network.state_dict().items()
    }
    back = to_official_names(own)
    assert back.keys() == official.keys()
    assert all(torch.equal(back[name], value) for name, value in official.items())


@pytest.mark.parametrize("width", [0.9, 1.0, 1.3, 1.5, 2.0, 3.0])
def test_weights_pass_from_the_authors_code_through_ours_to_timm_and_back(width: float) -> None:
    from timm.models.rexnet import RexNet

    shapes = json.loads((GOLDEN / f"rexnetv1_{width}.json").read_text())["keys"]
    torch.manual_seed(0)
    official = {
        name: torch.ones(()).long() if name.endswith("tracked") else torch.rand(shape) * 0.1 + 0.05
        for name, shape in shapes.items()
    }
    ours, theirs, again = rexnet(width).eval(), RexNet(width_mult=width).eval(), rexnet(width)
    ours.load_state_dict(to_own_names(official))
    theirs.load_state_dict(ours.state_dict())
    again.load_state_dict(theirs.state_dict())
    back = to_official_names(again.state_dict())
    assert all(torch.equal(back[name], value) for name, value in official.items())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-6, atol=1e-6)


def test_other_namings_are_left_alone() -> None:
    weights = {"conv1.weight": torch.zeros(3), "features.0.weight": torch.zeros(3)}
    assert to_own_names(weights) is weights
