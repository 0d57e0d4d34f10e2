from pathlib import Path

import numpy as np
import pytest

from rexnet.data.dataset import ImageDataset
from rexnet.data.datasets.index import build_index, join
from rexnet.errors import DataError


def test_a_selection_keeps_labels_and_boxes_and_may_repeat() -> None:
    index = build_index(Path("r"), ["a", "b", "c"], [0, 1, 0], ("x", "y"), boxes=np.arange(12).reshape(3, 4))
    chosen = index.select([2, 0, 2])
    assert (list(chosen.paths), chosen.labels.tolist()) == (["c", "a", "c"], [0, 0, 0])
    assert chosen.boxes is not None
    assert chosen.boxes.tolist() == [[8, 9, 10, 11], [0, 1, 2, 3], [8, 9, 10, 11]]
    assert chosen.class_names == ("x", "y")


def test_two_splits_of_a_folder_become_one() -> None:
    train = build_index(Path("/r/train"), ["a/1.jpg"], [0], ("a", "b"))
    val = build_index(Path("/r/val"), ["b/2.jpg"], [1], ("a", "b"))
    both = join(train, val)
    assert [both.name(position) for position in range(2)] == ["/r/train/a/1.jpg", "/r/val/b/2.jpg"]
    assert both.labels.tolist() == [0, 1]
    with pytest.raises(DataError, match="different classes"):
        join(train, build_index(Path("/r/val"), ["b/2.jpg"], [0], ("b",)))


def test_a_missing_file_is_named_when_it_is_read(image_root: Path) -> None:
    index = build_index(image_root / "train", ["ant/000.png", "ant/gone.png"], [0, 0], ("ant",))
    dataset = ImageDataset(index, lambda image, key: image, seed=0)
    assert dataset.opened(0).shape == (40, 48, 3)
    with pytest.raises(DataError, match=r"train/ant/gone\.png: cannot be read: No such file"):
        dataset.opened(1)


def test_images_are_cropped_to_their_boxes_before_anything_else(image_root: Path) -> None:
    index = build_index(image_root / "train", ["ant/000.png"], [0], ("ant",), boxes=np.array([[10, 5, 30, 999]]))
    whole = ImageDataset(build_index(index.root, index.paths, [0], ("ant",)), lambda image, key: image, seed=0)
    part = ImageDataset(index, lambda image, key: image, seed=0).opened(0)
    np.testing.assert_array_equal(part, whole.opened(0)[5:40, 10:30])
