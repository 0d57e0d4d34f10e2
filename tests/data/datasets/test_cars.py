"""Stanford Cars, made up and real."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from published import SHARED, real, seen, touch
from scipy.io import savemat

from rexnet.data.datasets.cars import index_cars
from rexnet.errors import DataError


def annotations(path: Path, rows: list[tuple[object, ...]], with_class: bool = True) -> None:
    """A .mat file in the form of the Stanford Cars devkit."""
    names = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", *(["class"] if with_class else []), "fname"]
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"annotations": np.array(rows, [(name, "O") for name in names]).reshape(1, -1)})


def cars(root: Path, devkit: str = "devkit") -> Path:
    """Two models, three training and two test images in the devkit's form."""
    touch(root / "cars_train", ("00001.jpg", "00002.jpg", "00003.jpg"))
    touch(root / "cars_test", ("00001.jpg", "00002.jpg"))
    train = [(39, 116, 569, 375, 2, "00001.jpg"), (36, 1, 868, 587, 1, "00002.jpg"), (1, 1, 4, 4, 2, "00003.jpg")]
    annotations(root / devkit / "cars_train_annos.mat", train)
    annotations(root / "cars_test_annos_withlabels.mat", [(1, 1, 9, 9, 1, "00002.jpg"), (1, 1, 9, 9, 2, "00001.jpg")])
    class_names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012"], object).reshape(1, -1)
    savemat(root / devkit / "cars_meta.mat", {"class_names": class_names})
    return root


@pytest.mark.parametrize("devkit", ["devkit", "."])
def test_cars_take_labels_and_names_from_the_devkit(devkit: str, tmp_path: Path) -> None:
    root = cars(tmp_path / "stanford_cars", devkit)
    hummer, acura = "AM General Hummer SUV 2000", "Acura RL Sedan 2012"
    train = index_cars(tmp_path, "train", with_boxes=True)
    assert seen(train) == [("00001.jpg", acura), ("00002.jpg", hummer), ("00003.jpg", acura)]
    assert train.boxes is not None
    assert train.boxes.tolist() == [[38, 115, 569, 375], [35, 0, 868, 587], [0, 0, 4, 4]]
    for split in ("val", "test"):
        assert seen(index_cars(root, split)) == [("00002.jpg", hummer), ("00001.jpg", acura)]


def test_cars_images_may_lie_a_folder_deeper_as_kaggle_packs_them(tmp_path: Path) -> None:
    cars(tmp_path)
    (tmp_path / "cars_train").rename(tmp_path / "x")
    (tmp_path / "cars_train").mkdir()
    (tmp_path / "x").rename(tmp_path / "cars_train" / "cars_train")
    assert index_cars(tmp_path, "train").root == tmp_path / "cars_train" / "cars_train"


def test_cars_as_class_folders(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("Acura RL Sedan 2012", "Audi S4 Sedan 2012"):
            touch(tmp_path / split / name, ("1.jpg",))
    assert seen(index_cars(tmp_path, "val"))[0] == ("Acura RL Sedan 2012/1.jpg", "Acura RL Sedan 2012")
    with pytest.raises(DataError, match="class folders have no bounding boxes"):
        index_cars(tmp_path, "train", with_boxes=True)


def break_cars(root: Path, fault: str) -> None:
    match fault:
        case "unlabelled":
            (root / "cars_test_annos_withlabels.mat").unlink()
            annotations(root / "devkit" / "cars_test_annos.mat", [(1, 1, 9, 9, "00001.jpg")], with_class=False)
        case "no class":
            annotations(root / "cars_test_annos_withlabels.mat", [(1, 1, 9, 9, "00001.jpg")], with_class=False)
        case "class 3":
            annotations(root / "cars_test_annos_withlabels.mat", [(1, 1, 9, 9, 3, "00001.jpg"), (1,) * 5 + ("2.jpg",)])
        case "text":
            (root / "cars_test_annos_withlabels.mat").write_text("not MATLAB")
        case "other":
            savemat(root / "cars_test_annos_withlabels.mat", {"x": 1})
        case "no images":
            shutil.rmtree(root / "cars_test")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("unlabelled", r"lacks cars_test_annos_withlabels\.mat.*cars_test_annos\.mat has no labels"),
        ("no class", "its annotations lack class"),
        ("class 3", "classes should be 1 to 2, found 1, 3"),
        ("text", "cannot be read as a MATLAB file"),
        ("other", "has no variable 'annotations'"),
        ("no images", r"has neither cars_test/ .* nor train/ with class folders; the official address is gone"),
    ],
)
def test_cars_that_are_not_as_they_should_be_are_named(fault: str, message: str, tmp_path: Path) -> None:
    break_cars(cars(tmp_path), fault)
    with pytest.raises(DataError, match=message):
        index_cars(tmp_path, "test")


@real
def test_all_real_cars_have_their_published_counts(tmp_path: Path) -> None:
    shutil.copytree(SHARED / "annotations" / "cars", tmp_path / "devkit")
    touch(tmp_path / "cars_train", (f"{number:05d}.jpg" for number in range(1, 8145)))
    (tmp_path / "cars_test").mkdir()
    train = index_cars(tmp_path, "train", with_boxes=True)
    assert (len(train), len(train.class_names)) == (8144, 196)
    assert (train.paths[0], train.class_names[train.labels[0]]) == ("00001.jpg", "Audi TTS Coupe 2012")
    assert train.boxes is not None
    assert train.boxes[0].tolist() == [38, 115, 569, 375]
    with pytest.raises(DataError, match=r"cars_test_annos\.mat has no labels"):
        index_cars(tmp_path, "test")
