import pytest
import torch

from rexnet import rexnet
from rexnet.models.cost import Cost, count_cost
from rexnet.models.family import FAMILY, Published

# Computed on the authors' code: parameters in millions, multiply-adds in thousand millions.
COMPUTED = {
    "rexnet_090": (4.091, 0.3477), "rexnet_100": (4.797, 0.3984), "rexnet_110": (5.642, 0.4806),
    "rexnet_120": (6.569, 0.5670), "rexnet_130": (7.557, 0.6622), "rexnet_140": (8.607, 0.7623),
    "rexnet_150": (9.729, 0.8758), "rexnet_200": (16.367, 1.529), "rexnet_220": (19.485, 1.843),
    "rexnet_300": (34.709, 3.396), "rexnet_lite_100": (4.740, 0.407), "rexnet_lite_130": (6.748, 0.646),
    "rexnet_lite_150": (8.332, 0.836), "rexnet_lite_200": (12.966, 1.498), "rexnetr_100": (4.883, None),
    "rexnetr_130": (7.608, None), "rexnetr_150": (9.782, None), "rexnetr_200": (16.522, None),
    "rexnetr_300": (34.810, None),
}  # fmt: skip


def cost_of(published: Published, image_size: int) -> Cost:
    with torch.device("meta"):
        model = rexnet(published.width_mult, published.variant, channel_divisor=published.channel_divisor)
    return count_cost(model, image_size)


@pytest.mark.parametrize("published", FAMILY, ids=lambda published: published.name)
def test_the_code_costs_what_the_authors_code_costs(published: Published) -> None:
    cost = cost_of(published, 224)
    params, macs = COMPUTED[published.name]
    assert cost.params / 1e6 == pytest.approx(params, abs=0.0006)
    if macs is not None:
        assert cost.macs / 1e9 == pytest.approx(macs, rel=0.0015)


def test_activations_are_those_of_the_layers_by_hand() -> None:
    """Width 1.0 at 32 px: the stem alone puts out 32 x 16 x 16 values, the first block 2 x 16 x 16 x (32 + 16) / 2."""
    tiny = cost_of(FAMILY[1], image_size=32)
    large = cost_of(FAMILY[1], image_size=64)
    squeezes_and_head = 4 * tiny.activations - large.activations
    se = sum(6 * c for c in (38, 50, 61, 72, 84, 95, 106, 117, 128, 140, 151, 162, 174))
    se += sum((19, 25, 30, 36, 42, 47, 53, 58, 64, 70, 75, 81, 87))
    assert squeezes_and_head == 3 * (se + 1000)  # all else grows by four with the area
