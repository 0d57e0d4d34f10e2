from pathlib import Path

import pytest
from conftest import write_images
from pydantic import ValidationError

from rexnet.config.data_schema import DatasetName, SourceConfig
from rexnet.data.datasets import load_index
from rexnet.data.datasets.by_name import detect_layout, splits_of
from rexnet.errors import DataError


@pytest.mark.parametrize(
    ("name", "source"),
    [("cub200", r" \(data\.download=true downloads it\)"), ("cars", r" \(.*mirrors on Kaggle.*\)"), ("folder", "")],
)
def test_a_missing_root_is_named_with_where_the_data_are_to_be_had(
    name: DatasetName, source: str, tmp_path: Path
) -> None:
    message = rf"data\.root: .*nowhere does not exist; it should contain the {name} data set{source}$"
    with pytest.raises(DataError, match=message):
        load_index(SourceConfig(dataset=name, root=tmp_path / "nowhere"), "train")


def test_training_on_train_and_val_measures_on_test(tmp_path: Path) -> None:
    for split, count in {"train": 3, "val": 2, "test": 1}.items():
        write_images(tmp_path / split / "a", count, hue=0, size=(4, 4))
    config = SourceConfig(dataset="folder", root=tmp_path, train_on="train+val")
    both = load_index(config, "train")
    assert (both.root, both.paths[0], both.paths[3]) == (tmp_path, "train/a/000.png", "val/a/000.png")
    assert len(both) == 5
    assert load_index(config, "val").root == load_index(config, "test").root == tmp_path / "test"


@pytest.mark.parametrize("name", ["folder", "flowers102"])
def test_training_on_train_and_val_needs_three_splits(name: DatasetName, tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_images(tmp_path / split / "a", 1, hue=0, size=(4, 4))
    with pytest.raises(
        DataError, match=r"data\.train_on: .* has no split val besides train and test; set data\.train_on=train"
    ):
        load_index(SourceConfig(dataset=name, root=tmp_path, train_on="train+val"), "train")
    assert splits_of(SourceConfig(dataset=name, root=tmp_path)) == ("train", "test")  # test is no leak of val


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("images.txt", "cub200"),
        ("CUB_200_2011/images.txt", "cub200"),
        ("cars_train/00001.jpg", "cars"),
        ("setid.mat", "flowers102"),
        ("fgvc-aircraft-2013b/data/variants.txt", "aircraft"),
        ("food-101/meta/classes.txt", "food101"),
        ("ILSVRC2012_img_val.tar", "imagenet"),
        ("train.csv", "csv"),
        ("train/a/1.jpg", "folder"),
    ],
)
def test_a_layout_is_recognised_by_its_files(file: str, name: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    assert detect_layout(tmp_path) == name


def test_a_table_is_recognised_by_its_suffix_and_a_tar_is_a_folder(tmp_path: Path) -> None:
    assert (detect_layout(tmp_path / "x.csv"), detect_layout(tmp_path / "x.tar")) == ("csv", "folder")


def test_boxes_are_for_the_data_sets_that_have_them() -> None:
    with pytest.raises(ValidationError, match="crop_to_box needs cub200 or cars; food101 has no bounding boxes"):
        SourceConfig(dataset="food101", root=Path(), crop_to_box=True)


def test_splits_are_those_that_differ(tmp_path: Path) -> None:
    assert splits_of(SourceConfig(dataset="cub200", root=tmp_path)) == ("train", "test")
    assert splits_of(SourceConfig(dataset="imagenet", root=tmp_path)) == ("train", "val")
    assert splits_of(SourceConfig(dataset="flowers102", root=tmp_path)) == ("train", "val", "test")
