import re
from pathlib import Path

import pytest
import torch

from rexnet import rexnet
from rexnet.models.cost import count_cost
from rexnet.models.plan import TIMM_PREFIX, Variant

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


VARIANTS: dict[str, Variant] = {prefix: variant for variant, prefix in TIMM_PREFIX.items()}


@pytest.mark.parametrize("name", COMPUTED)
def test_the_code_costs_what_the_authors_code_costs_and_the_page_says_so(name: str) -> None:
    prefix, _, width = name.rpartition("_")
    with torch.device("meta"):
        divisor = 16 if name == "rexnetr_300" else None
        cost = count_cost(rexnet(int(width) / 100, VARIANTS[prefix], channel_divisor=divisor), 224)
    params, macs = COMPUTED[name]
    assert cost.params / 1e6 == pytest.approx(params, abs=0.0006)
    if macs is not None:
        assert cost.macs / 1e9 == pytest.approx(macs, rel=0.0015)
    page = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
    assert re.search(rf"^\| `{name}` \| {cost.params / 1e6:.2f} M \| {cost.macs / 1e9:.3f} B \|", page, re.MULTILINE)
