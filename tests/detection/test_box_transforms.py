import random
from typing import Any

import albumentations as A  # noqa: N812
import numpy as np
import pytest
import torch

from rexnet.config.detection_schema import DetectionAugmentationConfig
from rexnet.detection.box_transforms import BoxTransform, ObjectCrop, View, build_train_transform

IMAGE = np.random.default_rng(0).integers(0, 256, (80, 100, 3)).astype(np.uint8)
BOXES = np.array([[10, 20, 40, 60], [60, 0, 90, 30], [0, 0, 30, 10]], np.float32)


def filled_masks(boxes: np.ndarray) -> list[np.ndarray]:
    masks = [np.zeros((80, 100), np.uint8) for _ in boxes]
    for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int).tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    return masks


def augmentation(**values: Any) -> DetectionAugmentationConfig:
    return DetectionAugmentationConfig(**{"flip": 0.5, "color_jitter": 0.4, "crop": "ssd"} | values)


def same(first: View, second: View) -> bool:
    return first.image.shape == second.image.shape and bool((first.image == second.image).all())


def test_boxes_follow_a_flip_and_a_resize() -> None:
    view = BoxTransform([A.HorizontalFlip(p=1.0)])(IMAGE, BOXES, [], 0)
    assert view.boxes.tolist() == [[60, 20, 90, 60], [10, 0, 40, 30], [70, 0, 100, 10]]
    assert np.array_equal(view.image, IMAGE[:, ::-1])
    view = BoxTransform([], square=50)(IMAGE, BOXES, [], 0)
    assert view.image.shape == (50, 50, 3)
    assert view.boxes.tolist() == [[5, 12.5, 20, 37.5], [30, 0, 45, 18.75], [0, 0, 15, 6.25]]
    assert view.boxes.dtype == np.float32
    assert view.kept.tolist() == [0, 1, 2]


def test_a_crop_keeps_the_objects_whose_centers_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    crop = {"crop_coords": (20, 10, 80, 70)}
    monkeypatch.setattr(ObjectCrop, "get_params_dependent_on_data", lambda *_: crop)
    view = BoxTransform([ObjectCrop(None)])(IMAGE, BOXES, filled_masks(BOXES), 0)
    wanted = [[0, 10, 20, 50], [40, 0, 60, 20]]  # the third has its center at (15, 5)
    np.testing.assert_allclose(view.boxes, wanted, atol=1e-5)
    assert view.kept.tolist() == [0, 1]
    assert np.array_equal(view.image, IMAGE[10:70, 20:80])
    assert [int(mask.sum()) for mask in view.masks] == [20 * 40, 20 * 20]
    assert view.masks[0][10:50, :20].all()


@pytest.mark.parametrize("crop", ["ssd", "resized"])
def test_masks_follow_their_boxes_and_no_box_is_empty(crop: str) -> None:
    transform = build_train_transform(augmentation(crop=crop), None)
    whole, counts = 0, []
    for key in range(200):
        view = transform(IMAGE, BOXES, filled_masks(BOXES), key)
        counts.append(len(view.boxes))
        whole += view.image.shape == IMAGE.shape
        height, width = view.image.shape[:2]
        assert max(height, width) <= 2 * min(height, width)
        for box, mask in zip(view.boxes.tolist(), view.masks, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert box == pytest.approx([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], abs=1e-4)
            assert mask.shape == (height, width)
    assert min(counts) == 1  # at least one object is kept
    assert max(counts) == 3
    assert (whole > 20) == (crop == "ssd")


def test_ssd_crops_overlap_an_object_as_much_as_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    for least in (0.5, 0.9):
        monkeypatch.setattr("rexnet.detection.box_transforms.OVERLAPS", (least,))
        large = np.array([[10, 10, 90, 75]], np.float32)
        for key in range(20):
            crop = ObjectCrop(None)
            crop.py_random = random.Random(key)
            rows = np.column_stack((large / (100, 80, 100, 80), [0]))
            params = crop.get_params_dependent_on_data({"shape": IMAGE.shape}, {"bboxes": rows})
            left, top, right, bottom = params["crop_coords"]
            common = (min(right, 90) - max(left, 10)) * (min(bottom, 75) - max(top, 10))
            assert common / ((right - left) * (bottom - top) + 80 * 65 - common) >= least


def test_small_boxes_are_lost_in_training_only() -> None:
    boxes = np.array([[10, 10, 12, 40], [10, 10, 13, 40]], np.float32)  # 0.8 and 1.2 pixels wide in 40
    train = build_train_transform(augmentation(flip=0, color_jitter=0, crop="none"), 40)
    assert train(IMAGE, boxes, [], 0).kept.tolist() == [1]
    assert BoxTransform([], 40)(IMAGE, boxes, [], 0).kept.tolist() == [0, 1]


def test_images_without_objects_and_thin_images_are_not_cropped_by_ssd() -> None:
    transform = build_train_transform(augmentation(flip=0, color_jitter=0), None)
    view = transform(IMAGE, BOXES[:0], [], 1)
    assert view.boxes.shape == (0, 4)
    assert np.array_equal(view.image, IMAGE)
    thin = np.zeros((4, 400, 3), np.uint8)
    assert transform(thin, np.array([[10, 0, 20, 4]], np.float32), [], 1).image.shape == (4, 400, 3)


def test_augmentation_depends_only_on_the_key() -> None:
    transform = build_train_transform(augmentation(), 64)
    first = transform(IMAGE, BOXES, [], 5)
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    transform(IMAGE, BOXES, [], 6)
    assert same(transform(IMAGE, BOXES, [], 5), first)
    assert same(build_train_transform(augmentation(), 64)(IMAGE, BOXES, [], 5), first)
    assert sum(same(transform(IMAGE, BOXES, [], key), first) for key in range(20, 40)) == 0
