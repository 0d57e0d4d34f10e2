import dataclasses
from pathlib import Path

import numpy as np
import pytest
from conftest import stand_in_model
from PIL import Image

from rexnet.config import Config
from rexnet.evaluation.error_grid import caption_images, view_images, write_error_grid
from rexnet.evaluation.eval_images import find_images
from rexnet.evaluation.inference import View
from rexnet.evaluation.results import Result
from rexnet.metrics.predictions import Predictions
from rexnet.metrics.statistics import least_sure, most_wrong, summarize


@pytest.fixture
def result(image_root: Path, small_config: Config) -> Result:
    index = find_images(small_config.data, "val", image_root)
    logits = np.eye(3, dtype=np.float32)[index.labels] * 4
    logits[3] = [-2, 5, 0]  # an ant for a bee, firmly
    logits[7] = [0.1, 0, 0]  # a bee for an ant, by a hair
    predictions = Predictions(logits, np.asarray(index.labels), tuple(index.paths), index.class_names)
    model = dataclasses.replace(stand_in_model(small_config, lambda images: images), name="net", weights="ema")
    return Result(model, index, "val", View(), predictions, summarize(predictions), 50.0)


def test_the_most_wrong_and_the_least_sure_come_first(result: Result) -> None:
    assert most_wrong(result.predictions, 5).tolist() == [3, 7]
    assert least_sure(result.predictions, 1).tolist() == [7]
    logits = result.predictions.logits.copy()
    logits[[12, 2], [2, 0]] = [0.2, 0.3]  # right by a hair, and by a little more
    predictions = result.predictions._replace(logits=logits)
    assert most_wrong(predictions, 4).tolist() == [3, 7]
    assert least_sure(predictions, 3).tolist() == [7, 12, 2]
    caption = caption_images(result, np.array([3, 0]))
    assert caption[0] == "0% ant\n99% bee"
    assert caption[1] == "96% ant\n(right)"


def test_a_grid_shows_the_images_of_a_part_by_their_names(result: Result, tmp_path: Path) -> None:
    write_error_grid(tmp_path / "grid.png", result)
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width > 6 * 128
    part = result.predictions.select(np.array([3, 7]))
    whole = view_images(result, np.array([7]))
    np.testing.assert_array_equal(view_images(dataclasses.replace(result, predictions=part), np.array([1])), whole)
