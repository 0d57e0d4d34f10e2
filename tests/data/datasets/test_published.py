"""The data sets with list files: made-up ones of the published form, and the real annotations where they are."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from rexnet.data.datasets.aircraft import index_aircraft
from rexnet.data.datasets.cars import index_cars
from rexnet.data.datasets.cub200 import index_cub200
from rexnet.data.datasets.flowers102 import index_flowers102
from rexnet.data.datasets.food101 import index_food101
from rexnet.data.index import Index
from rexnet.errors import DataError

SHARED = Path(__file__).parents[4] / "shared" / "data"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not part of the project")


def touch(folder: Path, paths: Iterable[str]) -> None:
    """Stand-ins for images; indexing does not read them."""
    names = [os.path.join(folder, path) for path in paths]
    for parent in {os.path.dirname(name) for name in names}:
        os.makedirs(parent, exist_ok=True)
    for name in names:
        open(name, "w").close()


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


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


def aircraft(root: Path) -> Path:
    lists = {
        "train": "0000001 707-320\n0000002 A300B4\n",
        "val": "0000003 Boeing 717\n",
        "test": "0000004 A300B4\n0000005 707-320\n",
    }
    touch(root / "data" / "images", (f"000000{number}.jpg" for number in range(1, 6)))
    files = {f"data/images_variant_{split}.txt": text for split, text in lists.items()}
    return write(root, files | {"data/variants.txt": "707-320\nBoeing 717\nA300B4\n"})


def food(root: Path) -> Path:
    touch(root / "images", ("apple_pie/1.jpg", "apple_pie/2.jpg", "waffles/1.jpg", "waffles/2.jpg"))
    files = {"train.txt": "waffles/1\napple_pie/1\n", "test.txt": "apple_pie/2\nwaffles/2\n"}
    return write(
        root, {f"meta/{name}": text for name, text in files.items()} | {"meta/classes.txt": "apple_pie\nwaffles"}
    )


def seen(index: Index) -> list[tuple[str, str]]:
    return [(path, index.class_names[label]) for path, label in zip(index.paths, index.labels.tolist(), strict=True)]


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
        ("images.txt", None, r"holds no images\.txt, here or in CUB_200_2011/; .*data\.download=true fetches it"),
        ("images.txt", "1 001.Crow/000.jpg\n2 001.Crow/gone.jpg\n", r"gone\.jpg is named in images\.txt but not there"),
        ("images.txt", "1\n", r"images\.txt, line 1: should be a number and a value, found '1'"),
        ("image_class_labels.txt", "1 1\n2 9\n3 2\n4 2\n", r"image_class_labels\.txt: image 2 is of unknown class"),
        ("train_test_split.txt", "1 0\n", r"image 2 .* is missing from"),
        ("train_test_split.txt", "1 0\n2 0\n3 0\n4 0\n", r"images\.txt: names no image of the split"),
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


@pytest.mark.parametrize("path", ["../../secret.jpg", "/etc/passwd", "001.Crow/../../../x", "link.jpg", "out/x.jpg"])
def test_a_list_file_cannot_lead_out_of_its_folder(path: str, tmp_path: Path) -> None:
    root = birds(tmp_path / "birds")
    touch(tmp_path, ("secret.jpg", "other/x.jpg"))
    (root / "images" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "images" / "out").symlink_to(tmp_path / "other")
    (root / "images.txt").write_text(f"1 001.Crow/000.jpg\n2 {path}\n")
    with pytest.raises(DataError, match=r"images\.txt: names an image that leads out of .*images: "):
        index_cub200(root, "train")


def test_the_images_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    root = birds(tmp_path / "birds")
    (root / "images").rename(tmp_path / "elsewhere")
    (root / "images").symlink_to(tmp_path / "elsewhere")
    assert len(index_cub200(root, "train")) == 2


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
    with pytest.raises(DataError, match="class folders come without bounding boxes"):
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
        ("unlabelled", r"lacks cars_test_annos_withlabels\.mat.*cars_test_annos\.mat, which is there, has no labels"),
        ("no class", "its annotations lack class"),
        ("class 3", "classes should be 1 to 2, found 1, 3"),
        ("text", "cannot be read as a MATLAB file"),
        ("other", "has no variable 'annotations'"),
        ("no images", r"holds neither cars_test/ .* nor train/ with class folders; its own address .* is gone"),
    ],
)
def test_cars_that_are_not_as_they_should_be_are_named(fault: str, message: str, tmp_path: Path) -> None:
    break_cars(cars(tmp_path), fault)
    with pytest.raises(DataError, match=message):
        index_cars(tmp_path, "test")


def test_aircraft_have_three_splits_and_variants_of_several_words(tmp_path: Path) -> None:
    root = aircraft(tmp_path / "fgvc-aircraft-2013b")
    for place in (tmp_path, root, root / "data"):
        assert seen(index_aircraft(place, "val")) == [("0000003.jpg", "Boeing 717")]
    assert seen(index_aircraft(root, "train")) == [("0000001.jpg", "707-320"), ("0000002.jpg", "A300B4")]
    (root / "data" / "images_variant_test.txt").write_text("0000004 Concorde\n")
    with pytest.raises(
        DataError, match=r"images_variant_test\.txt: has 0000004\.jpg of 'Concorde', which is none of the"
    ):
        index_aircraft(root, "test")


def test_food_is_split_as_published(tmp_path: Path) -> None:
    root = food(tmp_path / "food-101")
    assert seen(index_food101(tmp_path, "train")) == [("waffles/1.jpg", "waffles"), ("apple_pie/1.jpg", "apple_pie")]
    assert seen(index_food101(root, "val")) == [("apple_pie/2.jpg", "apple_pie"), ("waffles/2.jpg", "waffles")]
    (root / "meta" / "test.txt").write_text("soup/1\n")
    with pytest.raises(
        DataError, match=r"test\.txt: has soup/1\.jpg of 'soup', which is none of the published classes"
    ):
        index_food101(root, "test")


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
    with pytest.raises(DataError, match="names images 1 to 9,000; 8,189 have a label"):
        index_flowers102(made_up_flowers, "test")


@pytest.mark.parametrize("index", [index_cub200, index_cars, index_flowers102, index_aircraft, index_food101])
def test_an_empty_folder_is_answered_with_where_the_data_are_to_be_had(
    index: Callable[..., Index], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"download=true fetches it, from https|mirrors on Kaggle and Hugging Face"):
        index(tmp_path, "train")


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
def test_all_real_cars_have_their_published_counts(tmp_path: Path) -> None:
    shutil.copytree(SHARED / "annotations" / "cars", tmp_path / "devkit")
    touch(tmp_path / "cars_train", (f"{number:05d}.jpg" for number in range(1, 8145)))
    (tmp_path / "cars_test").mkdir()
    train = index_cars(tmp_path, "train", with_boxes=True)
    assert (len(train), len(train.class_names)) == (8144, 196)
    assert (train.paths[0], train.class_names[train.labels[0]]) == ("00001.jpg", "Audi TTS Coupe 2012")
    assert train.boxes is not None
    assert train.boxes[0].tolist() == [38, 115, 569, 375]
    with pytest.raises(DataError, match=r"cars_test_annos\.mat, which is there, has no labels"):
        index_cars(tmp_path, "test")


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


@real
def test_a_real_bird_is_cropped_to_its_box() -> None:
    from rexnet.data.dataset import ImageDataset

    index = index_cub200(SHARED / "cub15" / "CUB_200_2011", "train", with_boxes=True)
    images = ImageDataset(index, lambda image, key: image, seed=0)
    assert index.boxes is not None
    for position in range(0, len(index), 50):
        left, top, right, bottom = index.boxes[position].tolist()
        assert images.decoded(position).shape == (bottom - top, right - left, 3)
