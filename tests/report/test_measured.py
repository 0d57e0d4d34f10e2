from pathlib import Path

import numpy as np

from rexnet.config import Config
from rexnet.data.datasets import load_index
from rexnet.metrics.predictions import Predictions, save_predictions
from rexnet.report.measured import find_measured
from rexnet.report.mistakes import describe_mistakes


def test_pictures_are_those_of_the_images_that_were_measured(small_config: Config) -> None:
    """Another data set can have the same labels in the same order."""
    index = load_index(small_config.data, "val")
    logits = np.eye(3, dtype=np.float32)[(index.labels + 1) % 3]
    for prefix, is_shown in (("", True), ("other/", False)):
        names = tuple(f"{prefix}{path}" for path in index.paths)
        predictions = Predictions(logits, np.asarray(index.labels), names, index.class_names)
        images = describe_mistakes(predictions, small_config, index)["images"]
        assert {image["uri"] is not None for image in images} == {is_shown}


def test_a_data_set_may_be_named_like_a_kind_of_weights(tmp_path: Path) -> None:
    predictions = Predictions(np.eye(2, dtype=np.float32), np.arange(2), ("a.png", "b.png"), ("a", "b"))
    save_predictions(tmp_path / "evaluation" / "last-raw-val-an-ema-set.npz", predictions)
    (found,) = find_measured(tmp_path)[0]
    assert found[:3] == ("last", "raw", "val-an-ema-set")
