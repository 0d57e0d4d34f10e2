"""Tests of the channel search's candidates."""

import optuna
import pytest
import torch

from rexnet.errors import ConfigError
from rexnet.models.cost import count_cost
from rexnet.models.rexnet import ReXNet
from rexnet.studies.candidates import (
    SETTINGS,
    Budget,
    count_candidate,
    fill_budget,
    linear_rule,
    plan_candidate,
    suggest_widths,
)

# Table 3 writes the parameters in millions (0.2, 0.5, 1.0, 3.0) and the FLOPs of the group to which a network belongs.
# Its parameters agree to the digit if the classifier is not counted, except those of setting d (3.1 instead of 3.0).
# Its FLOPs do not follow from any stem, head and position of the strides that we tried; ours are off by -11 % to +9 %.
PUBLISHED = [
    ("a", "best", 204_042, 32_554_752, 0.2, 30, 1.09),
    ("a", "worst", 199_550, 32_550_400, 0.2, 30, 1.09),
    ("b", "best", 512_854, 96_295_040, 0.5, 101, 0.95),
    ("b", "worst", 507_794, 97_576_576, 0.5, 97, 1.01),
    ("c", "best", 1_040_072, 187_331_584, 1.0, 210, 0.89),
    ("c", "worst", 1_053_870, 199_670_528, 1.1, 200, 1.00),
    ("d", "best", 3_074_728, 346_723_328, 3.1, 351, 0.99),
    ("d", "worst", 3_095_390, 347_716_352, 3.1, 351, 0.99),
]


@pytest.mark.parametrize(("setting", "which", "params", "macs", "millions", "paper_mflops", "ratio"), PUBLISHED)
def test_the_published_networks_have_about_their_published_cost(
    setting: str, which: str, params: int, macs: int, millions: float, paper_mflops: int, ratio: float
) -> None:
    cost = count_candidate(SETTINGS[setting], getattr(SETTINGS[setting], which))
    assert cost == (params, macs)
    assert round(cost.params / 1e6, 1) == millions
    assert round(cost.macs / 1e6 / paper_mflops, 2) == ratio


@pytest.mark.parametrize("name", SETTINGS)
def test_the_formula_counts_what_the_network_has(name: str) -> None:
    setting = SETTINGS[name]
    with torch.device("meta"):
        network = ReXNet(plan_candidate(setting, setting.worst), 10, 0.0, 0.0, 3, "relu6", False)
    counted = count_cost(network, 32)
    cost = count_candidate(setting, setting.worst)
    assert (counted.params - 12_810, counted.macs - 12_800) == cost  # without the classifier of ten classes
    assert 3 * (len(setting.best) + 2) - 3 == {5: 18, 9: 30, 13: 42}[len(setting.best)]  # the paper's depths


def test_widths_are_piecewise_linear_and_as_large_as_the_budget_allows() -> None:
    setting = SETTINGS["a"]
    budget = setting.budget
    assert fill_budget(setting, budget, {1: 0, 2: 11, 3: 10, 4: 11}, 34 / 66) == setting.best
    assert fill_budget(setting, budget, {3: 0, 4: 1}, 36 / 83) == setting.worst
    assert fill_budget(setting, budget, {4: 0}, 0.3) == (39, 39, 39, 39, 39)
    assert fill_budget(setting, budget, {4: 1}, 0.5) == (31, 39, 46, 54, 62)
    assert linear_rule(setting, budget) == (32, 39, 47, 54, 62)
    wider = count_candidate(setting, (32, 40, 48, 56, 63))
    assert wider.params > budget.params or wider.macs > budget.macs


@pytest.mark.parametrize("name", SETTINGS)
def test_sampled_widths_never_fall_nor_exceed_the_budget(name: str) -> None:
    setting = SETTINGS[name]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    sampled = [suggest_widths(study.ask(), setting, setting.budget) for _ in range(100)]
    assert all(list(widths) == sorted(widths) and len(widths) == len(setting.best) for widths in sampled)
    costs = [count_candidate(setting, widths) for widths in sampled]
    assert all(cost.params <= setting.budget.params and cost.macs <= setting.budget.macs for cost in costs)
    assert len(set(sampled)) > 90


def test_an_impossible_budget_is_one_sentence() -> None:
    message = "the budget of 7,000 parameters and 30,000,000 multiply-adds is impossible: networks of one channel have"
    with pytest.raises(ConfigError, match=message):
        linear_rule(SETTINGS["a"], Budget(7_000, 30_000_000))
