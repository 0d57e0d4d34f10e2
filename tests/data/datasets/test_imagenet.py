import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import write_images
from scipy.io import savemat

from rexnet.data.datasets.imagenet import DEVKIT, DEVKIT_TAR, TRAIN_TAR, VAL_TAR, index_imagenet
from rexnet.errors import DataError

WNIDS = ("n01440764", "n02012849", "n03126707")  # tench, crane (the bird), crane (the machine)
NUMBERS = {2: 0, 3: 1, 1: 2}  # ILSVRC2012_ID -> class
ANSWERS = (3, 1, 2, 2, 3)  # of the five validation images
WORDS = ("tench, Tinca tinca", "crane", "crane")
SYNSET = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images")


def pixels(number: int) -> bytes:
    """The content of an image; every one is different."""
    import cv2

    return cv2.imencode(".png", np.full((4, 4, 3), number, np.uint8))[1].tobytes()


def write_devkit(folder: Path, counts: tuple[int, ...] = (3, 3, 3)) -> None:
    """`data/` of a devkit: three leaves in the order of their numbers, and a synset above them."""
    leaf = {label: number for number, label in NUMBERS.items()}
    rows = [(leaf[n], WNIDS[n], WORDS[n], "", 0, np.zeros(0), 0, counts[n]) for n in sorted(leaf, key=leaf.__getitem__)]
    rows.append((1001, "n00001740", "entity", "", 3, np.array([1, 2, 3]), 1, 0))
    (folder / "data").mkdir(parents=True)
    dtype = np.dtype([(name, "O") for name in SYNSET])
    savemat(folder / "data" / "meta.mat", {"synsets": np.array(rows, dtype).reshape(-1, 1)})
    answers = "".join(f"{answer}\n" for answer in ANSWERS)
    (folder / "data" / "ILSVRC2012_validation_ground_truth.txt").write_text(answers)


def pack(folder: Path, tar: Path, mode: str = "w", top: str = "") -> None:
    with tarfile.open(tar, mode) as file:  # type: ignore[call-overload]
        for path in sorted(folder.iterdir()):
            file.add(path, arcname=f"{top}{path.name}")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """train/ with 3 images of each of 3 classes, a flat val/ of 5, and the unpacked devkit."""
    root = tmp_path / "imagenet"
    for label, wnid in enumerate(WNIDS):
        (root / "train" / wnid).mkdir(parents=True)
        for number in range(3):
            (root / "train" / wnid / f"{wnid}_{number}.JPEG").write_bytes(pixels(10 * label + number))
    (root / "val").mkdir()
    for number in range(1, 6):
        (root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(pixels(100 + number))
    write_devkit(root / DEVKIT)
    return root


@pytest.fixture
def tars(folders: Path, tmp_path: Path) -> Path:
    """The same as what is downloaded: a tar of tars, a flat tar, and the compressed devkit."""
    root = tmp_path / "tars"
    (root / "inner").mkdir(parents=True)
    for wnid in reversed(WNIDS):
        pack(folders / "train" / wnid, root / "inner" / f"{wnid}.tar")
    pack(root / "inner", root / TRAIN_TAR)
    pack(folders / "val", root / VAL_TAR)
    pack(folders / DEVKIT, root / DEVKIT_TAR, "w:gz", top=f"{DEVKIT}/")
    shutil.rmtree(root / "inner")
    return root


def test_a_flat_val_folder_gets_its_labels_from_the_devkit(folders: Path) -> None:
    train, val = index_imagenet(folders, "train"), index_imagenet(folders, "val")
    assert train.class_names == val.class_names == ("tench", "crane (n02012849)", "crane (n03126707)")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert val.labels.tolist() == [NUMBERS[answer] for answer in ANSWERS] == [1, 2, 0, 0, 1]


def test_the_tars_give_the_same_images_as_the_folders(folders: Path, tars: Path) -> None:
    for split in ("train", "val"):
        here, there = index_imagenet(folders, split), index_imagenet(tars, split)
        assert list(there.paths) == list(here.paths)
        assert there.labels.tolist() == here.labels.tolist()
        assert there.class_names == here.class_names
        assert [there.read(n) for n in range(len(there))] == [here.read(n) for n in range(len(here))]


def test_a_sorted_val_folder_needs_no_devkit_and_names_come_from_wordnet(folders: Path) -> None:
    shutil.rmtree(folders / DEVKIT)
    shutil.rmtree(folders / "val")
    for wnid in WNIDS:
        write_images(folders / "val" / wnid, 2, hue=0)
    index = index_imagenet(folders, "val")
    assert index.class_names == ("tench", "crane (n02012849)", "crane (n03126707)")
    assert index.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_the_devkit_alone_says_the_classes_where_only_val_is_there(tars: Path) -> None:
    (tars / TRAIN_TAR).unlink()
    assert index_imagenet(tars, "val").labels.tolist() == [1, 2, 0, 0, 1]
    with pytest.raises(DataError, match=r"has neither train/ nor ILSVRC2012_img_train\.tar; ImageNet is at https"):
        index_imagenet(tars, "train")


def test_without_the_devkit_a_flat_val_is_refused(folders: Path, tars: Path) -> None:
    shutil.rmtree(folders / DEVKIT)
    (tars / DEVKIT_TAR).unlink()
    for root in (folders, tars):
        with pytest.raises(DataError, match=r"its labels come from the devkit; put ILSVRC2012_devkit_t12\.tar\.gz"):
            index_imagenet(root, "val")


def test_the_test_split_has_no_labels(folders: Path) -> None:
    with pytest.raises(DataError, match="test images are not public"):
        index_imagenet(folders, "test")


def test_missing_images_are_found_by_the_devkits_counts(folders: Path) -> None:
    (folders / "train" / WNIDS[1] / f"{WNIDS[1]}_0.JPEG").unlink()
    with pytest.raises(DataError, match="has 2 images of class n02012849; the devkit has 3"):
        index_imagenet(folders, "train")
    (folders / "val" / "ILSVRC2012_val_00000003.JPEG").unlink()
    with pytest.raises(DataError, match="has 4 images; the devkit has 5"):
        index_imagenet(folders, "val")
    (folders / "val" / "ILSVRC2012_val_00000009.JPEG").write_bytes(b"x")
    with pytest.raises(DataError, match="has no label of ILSVRC2012_val_00000009; it has 5"):
        index_imagenet(folders, "val")


def test_a_class_that_is_missing_is_found_by_the_devkit(folders: Path) -> None:
    shutil.rmtree(folders / "train" / WNIDS[2])
    with pytest.raises(DataError, match=r"train: lacks one class of the devkit: n03126707"):
        index_imagenet(folders, "train")


def test_a_thousand_classes_without_a_devkit_must_be_complete(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / "train" / f"n{number:08d}").mkdir(parents=True)
        (tmp_path / "train" / f"n{number:08d}" / "x.JPEG").touch()
    with pytest.raises(DataError, match=r"has 1,000 images of the train split, but ImageNet-1k has 1,281,167"):
        index_imagenet(tmp_path, "train")


def test_a_truncated_tar_or_devkit_is_named(tars: Path) -> None:
    for name in (VAL_TAR, DEVKIT_TAR):
        content = (tars / name).read_bytes()
        (tars / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError, match=rf"{name}: (is truncated|cannot be unpacked|is not a valid|lacks)"):
            index_imagenet(tars, "val")
        (tars / name).write_bytes(content)


def test_a_devkit_of_something_else_is_named(tars: Path) -> None:
    with tarfile.open(tars / DEVKIT_TAR, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x/readme.txt"), io.BytesIO())
    with pytest.raises(DataError, match=r"lacks data/meta\.mat and data/ILSVRC2012_validation"):
        index_imagenet(tars, "val")
