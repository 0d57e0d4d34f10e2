import re
from pathlib import Path

import numpy as np
import pytest
from conftest import write_images

from rexnet.config.schema import DataConfig
from rexnet.data.digits import write_digits
from rexnet.data.index import Split, index_cub200, index_folders, load_index
from rexnet.errors import DataError

SHARED = Path(__file__).parents[3] / "shared" / "data"


def folder_root(root: Path, splits: dict[str, list[str]]) -> Path:
    for split, classes in splits.items():
        for name in classes:
            write_images(root / split / name, 2, hue=1, size=(8, 8))
    return root


@pytest.mark.parametrize("name", ["val", "validation", "test"])
def test_class_folders_are_indexed_in_the_order_of_their_names(name: str, tmp_path: Path) -> None:
    root = folder_root(tmp_path, {"train": ["b", "a"], name: ["a", "b"]})
    train, val = index_folders(root, "train"), index_folders(root, "val")
    assert train.class_names == val.class_names == ("a", "b")
    assert train.paths == ["a/000.png", "a/001.png", "b/000.png", "b/001.png"]
    np.testing.assert_array_equal(train.labels, [0, 0, 1, 1])
    assert val.root == root / name
    assert len(val) == 4


def test_test_is_a_split_of_its_own_where_there_is_one(tmp_path: Path) -> None:
    root = folder_root(tmp_path, {"train": ["a"], "val": ["a"], "test": ["a"]})
    assert index_folders(root, "val").root.name == "val"
    assert index_folders(root, "test").root.name == "test"


def test_hidden_files_and_leftovers_of_archives_are_no_classes(tmp_path: Path) -> None:
    root = folder_root(tmp_path, {"train": ["a", ".ipynb_checkpoints", "__MACOSX"], "val": ["a"]})
    (root / "train" / "a" / "._000.png").write_bytes(b"x")
    (root / "train" / "a" / "notes.txt").write_text("x")
    assert index_folders(root, "train").class_names == ("a",)
    assert len(index_folders(root, "train")) == 2


@pytest.mark.parametrize(
    ("splits", "split", "message"),
    [
        ({"val": ["a"]}, "train", r"has no train/ with one folder for each class; it holds val/"),
        ({"train": ["a"]}, "val", r"has no val/ or validation/ or test/; it holds train/"),
        ({"train": ["a", "b", "c"], "val": ["a"]}, "val", r"val: lacks 2 classes that .*train has: b, c"),
        ({"train": ["a"], "val": ["a", "z"]}, "val", r"val: has 1 classes that .*train lacks: z"),
        ({"train": []}, "train", r"has no train/"),
    ],
)
def test_a_folder_that_is_not_as_it_should_be_is_named(
    splits: dict[str, list[str]], split: Split, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        index_folders(folder_root(tmp_path, splits), split)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    root = folder_root(tmp_path, {"train": ["a"], "val": ["a"]})
    (root / "train" / "empty").mkdir()
    with pytest.raises(DataError, match=r"train/empty: this class holds no image"):
        index_folders(root, "train")


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    config = DataConfig(dataset="folder", root=tmp_path / "nowhere", image_size=32, batch_size=2)
    with pytest.raises(DataError, match=r"data\.root: .*nowhere is not a folder"):
        load_index(config, "train")


def birds(root: Path) -> Path:
    """Two classes of two images in the form of CUB-200-2011."""
    for name in ("001.Crow", "002.Jay"):
        write_images(root / "images" / name, 2, hue=1, size=(8, 8))
    files = {
        "classes.txt": "1 001.Crow\n2 002.Jay\n",
        "images.txt": "1 001.Crow/000.png\n2 001.Crow/001.png\n3 002.Jay/000.png\n4 002.Jay/001.png\n",
        "image_class_labels.txt": "1 1\n2 1\n3 2\n4 2\n",
        "train_test_split.txt": "1 0\n2 1\n3 1\n4 0\n",
    }
    for name, text in files.items():
        (root / name).write_text(text)
    return root


def test_birds_are_split_as_published(tmp_path: Path) -> None:
    root = birds(tmp_path / "CUB_200_2011")
    train, test = index_cub200(root, "train"), index_cub200(tmp_path, "val")
    assert train.class_names == ("Crow", "Jay")
    assert train.paths == ["001.Crow/001.png", "002.Jay/000.png"]
    assert test.paths == ["001.Crow/000.png", "002.Jay/001.png"]
    np.testing.assert_array_equal(train.labels, [0, 1])


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("classes.txt", None, r"classes\.txt: missing"),
        ("images.txt", "1 001.Crow/000.png\n2 001.Crow/gone.png\n", r"gone\.png is named in images\.txt but not there"),
        ("images.txt", "1 001.Crow/000.png\n2 ../../secret.png\n", r"leads out of the folder"),
        ("images.txt", "1\n", r"images\.txt, line 1: should be a number and a value, found '1'"),
        ("image_class_labels.txt", "1 1\n2 9\n3 2\n4 2\n", r"image_class_labels\.txt: image 2 is of unknown class"),
        ("train_test_split.txt", "1 0\n", r"image 2 .* is missing from"),
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


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not part of the project")
def test_real_birds_have_their_published_counts() -> None:
    root = SHARED / "cub15" / "CUB_200_2011"
    assert (len(index_cub200(root, "train")), len(index_cub200(root, "val"))) == (450, 387)
    assert index_cub200(root, "train").class_names[0] == "Black_footed_Albatross"


def test_the_digits_are_written_once_with_360_held_out(tmp_path: Path) -> None:
    root = write_digits(tmp_path / "digits")
    train, val = index_folders(root, "train"), index_folders(root, "val")
    assert (len(train), len(val)) == (1437, 360)
    assert train.class_names == tuple("0123456789")
    numbers = {re.sub(r"\D", "", Path(path).stem) for index in (train, val) for path in index.paths}
    assert len(numbers) == 1797
    stamp = (root / "train").stat().st_mtime_ns
    assert write_digits(root) == root
    assert (root / "train").stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_the_digits_do_not_touch_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="holds other files"):
        write_digits(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
