"""Tests of studies/sweep_space.py."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from rexnet.errors import ConfigError
from rexnet.studies.sweep_space import parse_space, write_values


def test_ranges_lists_and_single_values() -> None:
    space = parse_space(
        "quickstart",
        [
            "optimizer.lr=log:0.02..0.2",
            "model.width_mult=0.9..1.3",
            "schedule.epochs=2..8",
            "loss.label_smoothing=0,0.1",
            "loss.class_weights=none,[1, 2]",
            "optimizer.clip_grad=0.5..1",
            "data.root=a,b",
            "model.dropout=0.1",
        ],
    )
    assert space.distributions == {
        "optimizer.lr": FloatDistribution(0.02, 0.2, log=True),
        "model.width_mult": FloatDistribution(0.9, 1.3),
        "schedule.epochs": IntDistribution(2, 8),
        "loss.label_smoothing": CategoricalDistribution(("0", "0.1")),
        "loss.class_weights": CategoricalDistribution(("none", "[1, 2]")),
        "optimizer.clip_grad": FloatDistribution(0.5, 1.0),
    }
    assert space.fixed == ("data.root=a,b", "model.dropout=0.1")  # a path may have a comma
    written = [write_values(each) for each in space.distributions.values()]
    assert written == ["log:0.02..0.2", "0.9..1.3", "2..8", "0,0.1", "none,[1, 2]", "0.5..1.0"]
    assert space.grid() == []
    assert space.config.optimizer.lr == 0.02


def test_lists_make_a_grid_in_order() -> None:
    space = parse_space("quickstart", ["model.activation=relu,silu", "optimizer.lr=0.1,0.2"])
    assert [space.overrides(values) for values in space.grid()] == [
        ["model.activation=relu", "optimizer.lr=0.1"],
        ["model.activation=relu", "optimizer.lr=0.2"],
        ["model.activation=silu", "optimizer.lr=0.1"],
        ["model.activation=silu", "optimizer.lr=0.2"],
    ]


def test_sampled_numbers_are_short_and_stay_in_the_range() -> None:
    space = parse_space("quickstart", ["optimizer.lr=0.0123442..0.2", "schedule.epochs=2..8"])
    assert space.overrides({"optimizer.lr": 0.123456, "schedule.epochs": 3})[0] == "optimizer.lr=0.1235"
    assert space.overrides({"optimizer.lr": 0.0123443, "schedule.epochs": 3})[0] == "optimizer.lr=0.0123442"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer.lr=0.1..0.02"], "optimizer.lr: 0.1..0.02 should run from a smaller to a larger number"),
        (["optimizer.lr=log:0..1"], "optimizer.lr: log:0..1 should run from .* above 0"),
        (["optimizer.lr=0.1..x"], "optimizer.lr: 0.1..x should be A..B or log:A..B with two numbers"),
        (["optimizer.lrr=0.1..1"], "optimizer.lrr: no such key; nearest: optimizer.lr"),
        (["schedule.epochs=2..4.5"], "schedule.epochs: 2..4.5 should be a range of whole numbers"),
        (["loss.label_smoothing=0..1.5"], "loss.label_smoothing: input should be less than 1, found 1.5"),
        (["model.activation=silu,swish"], "model.activation: input should be .* found 'swish'"),
        (["model.activation=a..b"], "model.activation: input should be .* found 'a..b'"),
        (["optimizer.lr=0.005,0.1"], r"schedule.warmup_lr \(0.01\) should not exceed optimizer.lr \(0.005\)"),
        (["optimizer.lr=0.1,0.1"], "optimizer.lr: 0.1,0.1 should be different values"),
        (["optimizer.lr=0.1,0.2", "optimizer.lr=0.1,0.3"], "optimizer.lr: is given twice"),
        (["optimizer.lr=0.1"], "give at least one key with several values"),
        (["trainer.run_name=a", "optimizer.lr=0.1,0.2"], "trainer.run_name: is set by the sweep"),
    ],
)
def test_a_wrong_space_is_refused_in_a_sentence_that_names_the_key(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_space("quickstart", arguments)


def test_the_tables_of_the_paper_can_be_swept() -> None:
    activations = parse_space("studies/nonlinearity.yaml", ["model.activation=relu6,leaky_relu,softplus,elu,silu"])
    assert len(activations.grid()) == 5
    assert (activations.config.schedule.epochs, activations.config.model.width_mult) == (400, 1.0)
    widths = parse_space("studies/widths.yaml", ["model.width_mult=1.5,2.0,2.2,3.0", "model.drop_path=0.1"])
    assert len(widths.grid()) == 4
    assert widths.config.model.drop_path == 0.1
