import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rexnet.config import DetectionConfig, load_config
from rexnet.detection.box_index import BoxIndex
from rexnet.detection.box_sets import load_box_index
from rexnet.detection.coco_metrics import Detections, coco_results, coco_truth, evaluate_detections, gather_detections

NAMES = ("disk", "square")


@pytest.fixture
def index(shapes_run: list[str]) -> BoxIndex:
    """The training images of the shapes, with masks, some of them crowds."""
    config = load_config("detect/finetune", shapes_run, DetectionConfig)
    index = load_box_index(config.data, "train", with_masks=True)
    return dataclasses.replace(index, crowd=np.arange(len(index.boxes)) % 5 == 0)


def invent_detections(index: BoxIndex) -> list[Detections]:
    """Twice the boxes of every image, moved by a few pixels, some with another class."""
    rng, found = np.random.default_rng(1), []
    for position in range(len(index)):
        objects = index.objects_of(position)
        boxes = np.repeat(index.boxes[objects], 2, axis=0)
        boxes += rng.normal(0, 3, boxes.shape).astype(np.float32)
        labels = np.where(rng.random(len(boxes)) < 0.8, np.repeat(index.labels[objects], 2), 1)
        height, width = index.sizes[position].tolist()
        masks = torch.zeros(len(boxes), 1, height, width)
        for mask, (left, top, right, bottom) in zip(masks, boxes.round().clip(0).astype(int).tolist(), strict=True):
            mask[0, top:bottom, left:right] = 0.9
        scores = torch.from_numpy(rng.random(len(boxes)).round(2)).float()  # some are equal
        output = {"boxes": torch.from_numpy(boxes), "scores": scores, "labels": torch.from_numpy(labels)}
        found.append(Detections.of(output | {"masks": masks}, torch.ones(4)))
    return found


@pytest.mark.parametrize(("kind", "prefix"), [("bbox", ""), ("segm", "mask_")])
def test_the_numbers_are_those_of_pycocotools(index: BoxIndex, kind: str, prefix: str) -> None:
    found = invent_detections(index)
    scores = evaluate_detections(index, found, NAMES)
    truth: Any = COCO()
    truth.dataset = coco_truth(index, NAMES, with_masks=True)
    truth.createIndex()
    results = [result for position, each in enumerate(found) for result in coco_results(each, position)]
    for result in results:
        if kind == "segm":
            del result["bbox"]  # as files of results for masks have it
    theirs = COCOeval(truth, truth.loadRes(results), kind)
    theirs.evaluate()
    theirs.accumulate()
    theirs.summarize()
    names = [
        "AP",
        "AP50",
        "AP75",
        "AP_small",
        "AP_medium",
        "AP_large",
        *(["AR1", "AR10", "AR100"] if not prefix else []),
    ]
    for name, value in zip(names, theirs.stats.tolist(), strict=False):
        if value == -1:  # there is no large object
            assert f"{prefix}{name}" not in scores.values
        else:
            assert scores.values[f"{prefix}{name}"] == pytest.approx(100 * value, abs=1e-9)
    assert 5 < scores.values[f"{prefix}AP"] < 90
    if not prefix:
        assert np.mean(list(scores.per_class.values())) == pytest.approx(scores.values["AP"])
        assert np.mean(scores.precision) == pytest.approx(scores.values["AP50"] / 100)


def test_perfect_detections_have_100_percent_and_none_have_0(index: BoxIndex) -> None:
    index = dataclasses.replace(index, outlines=None, crowd=np.zeros(len(index.boxes), bool))
    objects = [index.objects_of(position) for position in range(len(index))]
    perfect = [Detections(index.boxes[s], np.ones(len(index.boxes[s]), np.float32), index.labels[s]) for s in objects]
    values = evaluate_detections(index, perfect, NAMES).values
    assert values["AP"] == pytest.approx(100, abs=1e-9)
    assert values["AR100"] == pytest.approx(100, abs=1e-9)
    assert "AP_large" not in values
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert evaluate_detections(index, [nothing] * len(index), NAMES).values["AP"] == 0


def test_a_class_without_objects_does_not_count(index: BoxIndex) -> None:
    found = invent_detections(index)
    with_two = evaluate_detections(index, found, NAMES)
    with_three = evaluate_detections(index, found, (*NAMES, "star"))
    assert with_three.values == with_two.values
    assert with_three.per_class.keys() == {"disk", "square"}


def test_an_image_that_was_not_seen_is_noticed() -> None:
    with pytest.raises(AssertionError, match="validation saw 1 of 2 images"):
        gather_detections({0: Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))}, 2)


def test_files_of_results_have_left_top_width_and_height(tmp_path: Path) -> None:
    found = Detections(np.array([[1, 2, 4, 8]], np.float32), np.array([0.5], np.float32), np.array([2]))
    assert coco_results(found, 9) == [{"image_id": 9, "category_id": 2, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.5}]
    assert len(found.above(0.6).boxes) == 0
