"""Candidates of the channel search: networks for 32-pixel images with piecewise linear widths."""

import bisect
import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from optuna.trial import Trial

from rexnet.errors import ConfigError
from rexnet.models.plan import EXPANSION, BlockPlan, NetworkPlan

IMAGE_SIZE, STEM, HEAD, MAX_WIDTH = 32, 16, 1280, 4096
MAX_RISE = 4
"""Largest relative rise of f between two knots, an integer from 0: constant widths, as in MobileNetV2, are not rare."""
Widths = tuple[int, ...]


class Budget(NamedTuple):
    """Parameters and multiply-adds without the classifier, as the cost of a network or as limits."""

    params: int
    macs: int

    def allows(self, cost: "Budget") -> bool:
        """Returns True if `cost` is within both limits."""
        return cost.params <= self.params and cost.macs <= self.macs

    def filled_by(self, cost: "Budget") -> float:
        """Returns the smaller of the shares of both limits that `cost` uses."""
        return min(cost.params / self.params, cost.macs / self.macs)


class Setting(NamedTuple):
    """A search of the paper's Table 3.

    The paper does not state the positions of the strides or the widths of stem and head; the inferred ones give its
    networks about their published cost. Budgets are the costs of these networks. The paper's budgets are 0.2, 0.5, 1.0
    and 3.0 million parameters and 30, 100, 200 and 300 million FLOPs; the networks in its tables exceed the last.
    """

    strided: tuple[int, int]
    """Positions of the blocks with stride 2."""
    budget: Budget
    best: Widths
    worst: Widths


BEST_D, WORST_D = (34, 34, 34, 40, 64, 88, 112, 136, 160, 184, 208, 232, 256), (*(52,) * 9, 115, 263, 263, 412)
BEST_B, BEST_C = (24, 33, 42, 50, 59, 68, 77, 85, 94), (30, 45, 59, 74, 88, 103, 117, 132, 146)
SETTINGS = {
    "a": Setting((1, 3), Budget(204_100, 32_600_000), (34, 34, 45, 55, 66), (36, 36, 36, 36, 83)),
    "b": Setting((3, 6), Budget(512_900, 97_600_000), BEST_B, (*(39,) * 7, 87, 158)),
    "c": Setting((3, 6), Budget(1_053_900, 199_700_000), BEST_C, (47, 47, *(70,) * 6, 364)),
    "d": Setting((4, 8), Budget(3_095_400, 347_800_000), BEST_D, WORST_D),
}


def plan_candidate(setting: Setting, widths: Widths) -> NetworkPlan:
    """Returns the network whose blocks have the given output channels, without squeeze-and-excitation."""
    blocks = []
    for position, (before, after) in enumerate(itertools.pairwise((STEM, *widths))):
        downsamples = position in setting.strided
        blocks.append(BlockPlan(before, EXPANSION * before, 0, after, downsamples, 1 + downsamples, 1))
    return NetworkPlan("v1", STEM, tuple(blocks), HEAD, 0, stem_stride=1)


def count_candidate(setting: Setting, widths: Widths) -> Budget:
    """Returns the cost of a candidate."""
    return count_plan(plan_candidate(setting, widths))


def count_plan(plan: NetworkPlan) -> Budget:
    """Computes the cost of a network without squeeze-and-excitation from its plan."""
    stem, last = plan.stem_channels, plan.blocks[-1].out_channels
    pixels, weights, norms, macs = IMAGE_SIZE**2, 27 * stem, stem + HEAD, 27 * stem * IMAGE_SIZE**2
    for block in plan.blocks:
        expand, depthwise = block.in_channels * block.expanded_channels, 9 * block.expanded_channels
        project = block.expanded_channels * block.out_channels
        macs += expand * pixels
        pixels //= block.stride**2
        macs += (depthwise + project) * pixels
        weights += expand + depthwise + project
        norms += 2 * block.expanded_channels + block.out_channels
    return Budget(weights + last * HEAD + 2 * norms, macs + last * HEAD * pixels)


def suggest_widths(trial: Trial, setting: Setting, budget: Budget) -> Widths:
    """Samples widths c_i = a f(i) + b, where f is linear between random blocks and a + b is limited by the budget."""
    last = len(setting.best) - 1
    knots = [block for block in range(1, last) if trial.suggest_categorical(f"knot{block}", (False, True))]
    rises = {knot: trial.suggest_int(f"rise{knot}", 0, MAX_RISE) for knot in (*knots, last)}
    return fill_budget(setting, budget, rises, trial.suggest_float("first", 0.1, 1.0))


def fill_budget(setting: Setting, budget: Budget, rises: Mapping[int, float], first: float) -> Widths:
    """Returns the widest network within a budget for one piecewise linear f.

    `rises` maps the position of each knot to the rise of f since the previous knot; the last block is always a knot.
    `first` is the width of the first block as a share of the last, b / (a + b).

    Raises:
        ConfigError: no network fits the budget.
    """
    heights = list(itertools.accumulate(rises.values(), initial=0.0))
    f = np.interp(range(len(setting.best)), (0, *rises), heights) / (heights[-1] or 1)
    shape = first + (1 - first) * f if heights[-1] else np.ones(len(f))

    def widths(last: int) -> Widths:
        return tuple(max(1, round(float(share) * last)) for share in shape)

    def exceeds(last: int) -> bool:
        return not budget.allows(count_candidate(setting, widths(last)))

    widest = bisect.bisect_left(range(1, MAX_WIDTH), True, key=exceeds)
    if widest == 0:
        least = count_candidate(setting, widths(1))
        raise ConfigError(
            f"the budget of {budget.params:,} parameters and {budget.macs:,} multiply-adds is impossible: networks of "
            f"one channel have {least.params:,} and {least.macs:,}; set --params and --macs higher"
        )
    return widths(widest)


def linear_rule(setting: Setting, budget: Budget) -> Widths:
    """Returns the widths with equal steps between blocks that fill both limits of the budget best."""
    lines = (fill_budget(setting, budget, {len(setting.best) - 1: 1}, percent / 100) for percent in range(5, 101))
    return max(lines, key=lambda widths: budget.filled_by(count_candidate(setting, widths)))
