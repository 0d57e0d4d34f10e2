from dataclasses import replace
from pathlib import Path

import numpy as np
from conftest import stand_in_model

from rexnet.config import load_config
from rexnet.data.datasets.index import build_index
from rexnet.evaluation.comparison import compare, describe_table, summarize_series
from rexnet.evaluation.inference import View
from rexnet.evaluation.results import Result
from rexnet.metrics.predictions import Predictions
from rexnet.metrics.statistics import summarize


def result(
    model: str, right: int, seed: int = 0, lr: float = 0.1, names: str = "image", root: str = "/data/test"
) -> Result:
    """A result with `right` of 10 images classified correctly, the first ones."""
    labels = np.zeros(10, np.int64)
    logits = np.eye(2, dtype=np.float32)[[0] * right + [1] * (10 - right)]
    predictions = Predictions(logits, labels, tuple(f"{names}{i}" for i in range(10)), ("ant", "bee"))
    config = load_config("quickstart", ["name=net", f"seed={seed}", f"optimizer.lr={lr}", "data.image_size=224"])
    index = build_index(Path(root), predictions.names, labels, predictions.class_names)
    classifier = replace(
        stand_in_model(config, lambda images: images, predictions.class_names), name=model, weights="ema"
    )
    return Result(classifier, index, "val", View(), predictions, summarize(predictions), 50.0)


def test_runs_that_differ_in_nothing_but_their_seed_have_a_mean_and_a_deviation() -> None:
    results = [result("a", 7, 0), result("b", 8, 1), result("c", 9, 2), result("d", 2, 0, lr=0.2)]
    (series,) = summarize_series(results)
    assert series["seeds"] == [0, 1, 2]
    assert (series["top1"], series["top1_deviation"]) == (80.0, 10.0)
    assert "net (ema, 3 seeds, /data/test): top-1 80.00 +- 10.00 %" in describe_table(results)
    assert summarize_series([result("a", 7), result("a again", 7)]) == []


def test_only_results_on_the_same_images_are_compared() -> None:
    pairs = compare([result("a", 9), result("b", 3), result("c", 9, names="other")])
    assert [(pair["first"], pair["second"]) for pair in pairs] == [("a ema 224 px", "b ema 224 px")]
    assert (pairs[0]["only_first"], pairs[0]["only_second"], pairs[0]["p_value"]) == (6, 0, 0.03125)


def test_of_several_data_sets_each_line_says_which_it_is_about() -> None:
    pair = [result("a", 9), result("b", 3)]
    elsewhere = [result("a", 9, root="/more/test"), result("b", 3, root="/more/test")]
    elsewhere = [replace(one, remarks=("few images",)) for one in elsewhere]
    lines = describe_table([*pair, *elsewhere]).splitlines()
    assert [line.split()[2] for line in lines[:5]] == ["data", "data/test", "data/test", "more/test", "more/test"]
    tests = [line.split()[8:] for line in lines if line.startswith("a ema 224 px  b ema")]
    assert tests == [["data/test", "6", "0", "0.031"], ["more/test", "6", "0", "0.031"]]
    assert lines[-1] == "b ema 224 px, more/test: few images"


def test_a_table_is_aligned_and_gives_intervals() -> None:
    lines = describe_table([result("short", 9), result("a longer name", 3)]).splitlines()
    assert lines[0].split("  ")[0] == "model"
    assert "90.00 [59.6, 98.2]" in lines[1]
    assert lines[1].index("ema") == lines[2].index("ema")
    assert len(lines[1]) == len(lines[2])
