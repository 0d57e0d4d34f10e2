"""Caltech-UCSD Birds, made up and real."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from published import SHARED, real, seen, touch, write

from rexnet.data.datasets.cub200 import index_cub200
from rexnet.errors import DataError


def birds(root: Path) -> Path:
    """Two classes of two images in the form of CUB-200-2011."""
    touch(root / "images", ("001.Crow/000.jpg", "001.Crow/001.jpg", "002.Jay/000.jpg", "002.Jay/001.jpg"))
    files = {
        "classes.txt": "1 001.Crow\n2 002.Jay\n",
        "images.txt": "1 001.Crow/000.jpg\n2 001.Crow/001.jpg\n3 002.Jay/000.jpg\n4 002.Jay/001.jpg\n",
        "image_class_labels.txt": "1 1\n2 1\n3 2\n4 2\n",
        "train_test_split.txt": "1 0\n2 1\n3 1\n4 0\n",
        "bounding_boxes.txt": "1 1.0 2.0 3.0 4.0\n2 60.5 27.0 325.0 304.0\n3 0.0 0.0 9.0 9.0\n4 5.0 5.0 5.0 5.0\n",
    }
    return write(root, files)


def test_birds_are_split_as_published_and_found_one_folder_up(tmp_path: Path) -> None:
    root = birds(tmp_path / "CUB_200_2011")
    assert seen(index_cub200(root, "train")) == [("001.Crow/001.jpg", "Crow"), ("002.Jay/000.jpg", "Jay")]
    for split in ("val", "test"):
        assert seen(index_cub200(tmp_path, split)) == [("001.Crow/000.jpg", "Crow"), ("002.Jay/001.jpg", "Jay")]


def test_birds_boxes_are_left_top_right_bottom_around_all_of_the_bird(tmp_path: Path) -> None:
    index = index_cub200(birds(tmp_path), "train", with_boxes=True)
    assert index.boxes is not None
    assert index.boxes.tolist() == [[60, 27, 386, 331], [0, 0, 9, 9]]
    assert index_cub200(tmp_path, "train").boxes is None
    (tmp_path / "bounding_boxes.txt").write_text("1 1 1 1 1\n2 5 5 a 5\n3 1 1 1 1\n")
    with pytest.raises(DataError, match=r"bounding_boxes\.txt: should have four numbers for each image"):
        index_cub200(tmp_path, "train", with_boxes=True)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("classes.txt", None, r"classes\.txt: cannot be read: No such file"),
        ("images.txt", None, r"has no images\.txt, here or in CUB_200_2011/; .*data\.download=true downloads it"),
        ("images.txt", "1 001.Crow/000.jpg\n2 001.Crow/gone.jpg\n", r"gone\.jpg is listed in images\.txt but missing"),
        ("images.txt", "1\n", r"images\.txt, line 1: should be a number and a value, found '1'"),
        ("image_class_labels.txt", "1 1\n2 9\n3 2\n4 2\n", r"image_class_labels\.txt: image 2 is of unknown class"),
        ("train_test_split.txt", "1 0\n", r"image 2 .* is missing from"),
        ("train_test_split.txt", "1 0\n2 0\n3 0\n4 0\n", r"images\.txt: lists no image of the split"),
    ],
)
def test_bird_files_that_contradict_each_other_are_named(
    file: str, text: str | None, message: str, tmp_path: Path
) -> None:
    root = birds(tmp_path)
    (root / file).unlink()
    if text is not None:
        (root / file).write_text(text)
    with pytest.raises(DataError, match=message):
        index_cub200(root, "train")


@pytest.mark.parametrize("path", ["../../secret.jpg", "/etc/passwd", "001.Crow/../../../x"])
def test_a_list_file_cannot_lead_out_of_its_folder(path: str, tmp_path: Path) -> None:
    root = birds(tmp_path / "birds")
    (root / "images.txt").write_text(f"1 001.Crow/000.jpg\n2 {path}\n")
    with pytest.raises(DataError, match=r"images\.txt: lists an image outside of .*images: "):
        index_cub200(root, "train")


def test_images_may_be_links(tmp_path: Path) -> None:
    root = birds(tmp_path / "birds")
    (image, *_) = sorted((root / "images").rglob("*.jpg"))
    image.rename(tmp_path / "elsewhere.jpg")
    image.symlink_to(tmp_path / "elsewhere.jpg")  # as git-annex, DVC and the cache of the Hugging Face hub do
    assert len(index_cub200(root, "train")) == 2


def test_the_images_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    root = birds(tmp_path / "birds")
    (root / "images").rename(tmp_path / "elsewhere")
    (root / "images").symlink_to(tmp_path / "elsewhere")
    assert len(index_cub200(root, "train")) == 2


@real
def test_all_real_birds_have_their_published_counts(tmp_path: Path) -> None:
    for file in (SHARED / "annotations" / "cub200").iterdir():
        shutil.copy(file, tmp_path)
    lines = (tmp_path / "images.txt").read_text().splitlines()
    touch(tmp_path / "images", (line.partition(" ")[2] for line in lines))
    train, test = index_cub200(tmp_path, "train", with_boxes=True), index_cub200(tmp_path, "test", with_boxes=True)
    assert (len(train), len(test), len(train.class_names)) == (5994, 5794, 200)
    assert (train.class_names[0], train.class_names[199]) == ("Black_footed_Albatross", "Common_Yellowthroat")
    assert np.bincount(train.labels).min() == 29
    (tmp_path / "train_test_split.txt").write_text("".join(f"{n} 1\n" for n in range(1, 11789)))
    with pytest.raises(DataError, match="has 11,788 images of the train split, but CUB-200-2011 has 5,994"):
        index_cub200(tmp_path, "train")


@real
def test_the_subset_of_real_birds_is_taken_and_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    root = SHARED / "cub15" / "CUB_200_2011"
    assert (len(index_cub200(root, "train")), len(index_cub200(root, "val"))) == (450, 387)
    assert "a subset of CUB-200-2011: 450 images of 15 classes (5,994 of 200 were published as train)" in caplog.text


@real
def test_a_real_bird_is_cropped_to_its_box() -> None:
    from rexnet.data.dataset import ImageDataset

    index = index_cub200(SHARED / "cub15" / "CUB_200_2011", "train", with_boxes=True)
    images = ImageDataset(index, lambda image, key: image, seed=0)
    assert index.boxes is not None
    for position in range(0, len(index), 50):
        left, top, right, bottom = index.boxes[position].tolist()
        assert images.opened(position).shape == (bottom - top, right - left, 3)
