from pathlib import Path

import pytest
from conftest import write_images

from rexnet.class_names import imagenet_class_names
from rexnet.config import Config
from rexnet.data.datasets.eval_images import find_images, fit_to_classes, is_imagenet
from rexnet.errors import DataError


def test_files_named_as_in_imagenet_are_found_by_their_numbers(tmp_path: Path, small_config: Config) -> None:
    write_images(tmp_path, 3, hue=0)
    for old, new in (("000", "n01491361_b"), ("001", "n01440764_a"), ("002", "n01440764_c")):
        (tmp_path / f"{old}.png").rename(tmp_path / f"{new}.png")
    index = find_images(small_config.data, "val", tmp_path)
    assert index.class_names == ("n01440764", "n01491361")
    fitted, remarks = fit_to_classes(index, imagenet_class_names(), "net")
    assert fitted.labels.tolist() == [0, 0, 3]  # tench, tench, tiger shark
    assert fitted.class_names[3] == "tiger shark"
    assert remarks == ("the images show 2 of the 1,000 classes; all of them compete",)
    write_images(tmp_path, 1, hue=0)
    with pytest.raises(DataError, match=r"holds 000\.png, whose class is unknown"):
        find_images(small_config.data, "val", tmp_path)


def test_class_folders_without_training_images_are_taken_as_they_are(tmp_path: Path, small_config: Config) -> None:
    write_images(tmp_path / "test" / "cow", 2, hue=0)
    index = find_images(small_config.data, "test", tmp_path)
    assert index.class_names == ("cow",)
    assert list(index.paths) == ["cow/000.png", "cow/001.png"]
    assert fit_to_classes(index, ("ant", "cow"), "net")[0].labels.tolist() == [1, 1]
    with pytest.raises(DataError, match=r"has 1 classes, which should be among the 2 of net; unknown: cow"):
        fit_to_classes(index, ("ant", "bee"), "net")
    with pytest.raises(DataError, match="nowhere: does not exist"):
        find_images(small_config.data, "val", tmp_path / "nowhere")


def test_classes_in_another_order_are_matched_by_name(image_root: Path, small_config: Config) -> None:
    index = find_images(small_config.data, "val", image_root)
    fitted, remarks = fit_to_classes(index, ("cow", "bee", "ant"), "net")
    assert fitted.labels.tolist() == [2] * 5 + [1] * 5 + [0] * 5
    assert remarks == ()


def test_the_classes_of_imagenet_are_recognised_by_their_order() -> None:
    names = imagenet_class_names()
    assert is_imagenet(names)
    assert not is_imagenet(names[::-1])
    assert not is_imagenet(names[:10])
