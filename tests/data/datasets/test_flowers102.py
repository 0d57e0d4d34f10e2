"""Flowers-102, made up and real."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from published import SHARED, real, touch
from scipy.io import savemat

from rexnet.data.datasets.flowers102 import index_flowers102
from rexnet.errors import DataError


def flowers(root: Path, labels: np.ndarray, splits: dict[str, np.ndarray]) -> Path:
    touch(root / "jpg", (f"image_{number:05d}.jpg" for number in range(1, len(labels) + 1)))
    savemat(root / "imagelabels.mat", {"labels": labels})
    savemat(root / "setid.mat", splits)
    return root


@pytest.fixture
def made_up_flowers(tmp_path: Path) -> Path:
    """As many flowers as were published; image n is of class n modulo 102."""
    numbers = np.arange(1, 8190)
    splits = {"trnid": numbers[:1020], "valid": numbers[1020:2040], "tstid": numbers[2040:]}
    return flowers(tmp_path / "flowers-102", (numbers - 1) % 102 + 1, splits)


def test_flowers_have_three_splits_and_the_names_of_their_page(made_up_flowers: Path, tmp_path: Path) -> None:
    sizes = {split: len(index_flowers102(tmp_path, split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 1020, "val": 1020, "test": 6149}
    index = index_flowers102(made_up_flowers, "val")
    assert (index.paths[0], index.labels[0], len(index.class_names)) == ("image_01021.jpg", 0, 102)
    assert (index.class_names[0], index.class_names[76]) == ("pink primrose", "passion flower")


def test_flowers_of_another_number_are_refused(made_up_flowers: Path) -> None:
    ids = {"trnid": [1, 2], "valid": [3], "tstid": [9000]}
    savemat(made_up_flowers / "setid.mat", ids)
    with pytest.raises(DataError, match="has 2 images of the train split, but Flowers-102 has 1,020"):
        index_flowers102(made_up_flowers, "train")
    with pytest.raises(DataError, match="lists images 1 to 9,000, but 8,189 have a label"):
        index_flowers102(made_up_flowers, "test")


@real
def test_all_real_flowers_have_their_published_counts(tmp_path: Path) -> None:
    for file in (SHARED / "annotations" / "flowers102").iterdir():
        shutil.copy(file, tmp_path)
    touch(tmp_path / "jpg", (f"image_{number:05d}.jpg" for number in range(1, 8190)))
    splits = {split: index_flowers102(tmp_path, split) for split in ("train", "val", "test")}
    assert [len(index) for index in splits.values()] == [1020, 1020, 6149]
    assert np.bincount(splits["train"].labels).tolist() == [10] * 102
    assert splits["train"].paths[0] == "image_06765.jpg"
    assert len({path for index in splits.values() for path in index.paths}) == 8189
