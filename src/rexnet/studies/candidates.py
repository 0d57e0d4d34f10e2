"""Candidates of the channel search: networks for 32-pixel images whose widths are a piecewise linear function."""

import bisect
import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from optuna.trial import Trial

from rexnet.errors import ConfigError
from rexnet.models.plan import EXPANSION, BlockPlan, NetworkPlan

IMAGE_SIZE, STEM, HEAD = 32, 16, 1280
MAX_WIDTH = 4096
MAX_RISE = 4
"""f rises between two knots by 0 to 4 parts, so that a level stretch, as in MobileNetV2, is not rare."""

Widths = tuple[int, ...]


class Budget(NamedTuple):
    """Parameters and multiply-adds, of a network or at most."""

    params: int
    macs: int

    def filled_by(self, cost: "Budget") -> float:
        """Returns the share that a network uses of the limit that it uses less."""
        return min(cost.params / self.params, cost.macs / self.macs)


class Setting(NamedTuple):
    """One search of the paper's Table 3."""

    blocks: int
    downsampling: tuple[int, int]
    """Positions of the blocks with stride 2. The paper does not state them, nor the width of stem and head; these give
    the published networks about their published cost."""
    budget: Budget
    """The most that the published best and worst network cost here. The paper writes 0.2, 0.5, 1 and 3 million
    parameters, and 30, 100, 200 and 300 million FLOPs, of which its own networks need up to 17 % more."""
    best: Widths
    worst: Widths
    published: tuple[float, ...]
    """Accuracy in % of the best and the worst network, and of the top, middle and bottom tenth."""


SETTINGS = {
    "a": Setting(
        blocks=5,
        downsampling=(1, 3),
        budget=Budget(204_100, 32_600_000),
        best=(34, 34, 45, 55, 66),
        worst=(36, 36, 36, 36, 83),
        published=(63.4, 61.1, 63.1, 62.2, 61.4),
    ),
    "b": Setting(
        blocks=9,
        downsampling=(3, 6),
        budget=Budget(512_900, 97_600_000),
        best=(24, 33, 42, 50, 59, 68, 77, 85, 94),
        worst=(*(39,) * 7, 87, 158),
        published=(68.9, 67.6, 68.8, 68.0, 67.4),
    ),
    "c": Setting(
        blocks=9,
        downsampling=(3, 6),
        budget=Budget(1_053_900, 199_700_000),
        best=(30, 45, 59, 74, 88, 103, 117, 132, 146),
        worst=(47, 47, *(70,) * 6, 364),
        published=(71.1, 69.6, 71.0, 70.3, 69.9),
    ),
    "d": Setting(
        blocks=13,
        downsampling=(4, 8),
        budget=Budget(3_095_400, 347_800_000),
        best=(34, 34, 34, 40, 64, 88, 112, 136, 160, 184, 208, 232, 256),
        worst=(*(52,) * 9, 115, 263, 263, 412),
        published=(73.2, 71.6, 73.0, 72.1, 71.7),
    ),
}


def plan_candidate(setting: Setting, widths: Widths) -> NetworkPlan:
    """Returns the network with the given output channels of its blocks, without squeeze-and-excitation."""
    blocks = []
    for position, (before, after) in enumerate(itertools.pairwise((STEM, *widths))):
        downsamples = position in setting.downsampling
        blocks.append(BlockPlan(before, EXPANSION * before, 0, after, downsamples, 1 + downsamples, 1))
    return NetworkPlan("v1", STEM, tuple(blocks), HEAD, 0, stem_stride=1)


def count_candidate(setting: Setting, widths: Widths) -> Budget:
    """Returns parameters and multiply-adds for a 32-pixel image, by formula and without the classifier."""
    plan = plan_candidate(setting, widths)
    pixels = IMAGE_SIZE**2
    weights, norms = 27 * STEM, STEM
    macs = weights * pixels
    for block in plan.blocks:
        expand, project = block.in_channels * block.expanded_channels, block.expanded_channels * block.out_channels
        depthwise = 9 * block.expanded_channels
        macs += expand * pixels
        pixels //= block.stride**2
        macs += (depthwise + project) * pixels
        weights += expand + depthwise + project
        norms += 2 * block.expanded_channels + block.out_channels
    head = widths[-1] * HEAD
    return Budget(weights + head + 2 * (norms + HEAD), macs + head * pixels)


def suggest_widths(trial: Trial, setting: Setting, budget: Budget) -> Widths:
    """Samples c_i = a f(i) + b: f is linear between randomly chosen blocks, and a + b as large as the budget allows.

    Raises:
        ConfigError: no network fits the budget.
    """
    last = setting.blocks - 1
    knots = [block for block in range(1, last) if trial.suggest_categorical(f"knot{block}", (False, True))]
    rises = {knot: trial.suggest_int(f"rise{knot}", 0, MAX_RISE) for knot in (*knots, last)}
    return fill_budget(setting, budget, rises, trial.suggest_float("first", 0.1, 1.0))


def fill_budget(setting: Setting, budget: Budget, rises: Mapping[int, float], first: float) -> Widths:
    """Returns the widest network within a budget for a piecewise linear f.

    Args:
        setting: The number of blocks and their resolutions.
        budget: Limits of parameters and multiply-adds.
        rises: Rise of f up to each knot, by its position; the last block is a knot.
        first: Width of the first block as a share of the last, b / (a + b).

    Raises:
        ConfigError: no network fits the budget.
    """
    heights = list(itertools.accumulate(rises.values(), initial=0.0))
    f = np.interp(range(setting.blocks), (0, *rises), heights) / (heights[-1] or 1)
    shape = first + (1 - first) * f if heights[-1] else np.ones(setting.blocks)

    def widths(last: int) -> Widths:
        return tuple(max(1, round(float(share) * last)) for share in shape)

    def exceeds(last: int) -> bool:
        cost = count_candidate(setting, widths(last))
        return cost.params > budget.params or cost.macs > budget.macs

    widest = bisect.bisect_left(range(1, MAX_WIDTH), True, key=exceeds)
    if widest == 0:
        least = count_candidate(setting, widths(1))
        raise ConfigError(
            f"the budget of {budget.params:,} parameters and {budget.macs:,} multiply-adds is impossible: networks of "
            f"one channel have {least.params:,} and {least.macs:,}; set --params and --macs higher"
        )
    return widths(widest)


def linear_rule(setting: Setting, budget: Budget) -> Widths:
    """Returns the widths that grow by the same number at each block and fill both limits of the budget best."""
    lines = (fill_budget(setting, budget, {setting.blocks - 1: 1}, percent / 100) for percent in range(5, 101))
    return max(lines, key=lambda widths: budget.filled_by(count_candidate(setting, widths)))
