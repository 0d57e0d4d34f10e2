"""What a data set contains: one function for each layout on disk, from a folder to an `Index`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from rexnet.config.schema import DataConfig
from rexnet.data.digits import write_digits
from rexnet.errors import DataError

Split = Literal["train", "val", "test"]
FOLDER_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "validation", "test"),
    "test": ("test",),
}
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"))


@dataclass(frozen=True)
class Index:
    """The images of one split in a fixed order."""

    root: Path
    """Folder that the paths start from."""
    paths: Sequence[str]
    """Path of each image below `root`."""
    labels: np.ndarray
    """Class of each image, int64 (n,), counted from 0 in the order of `class_names`."""
    class_names: tuple[str, ...]
    """One name for each class."""

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, positions: np.ndarray) -> "Index":
        """An index of the images at `positions`, in that order."""
        return replace(self, paths=[self.paths[i] for i in positions.tolist()], labels=self.labels[positions])


def load_index(config: DataConfig, split: Split) -> Index:
    """The images of `split` in the configured data set.

    Raises:
        DataError: something is missing or inconsistent, named with what was expected.
    """
    if not config.root.is_dir() and config.dataset != "digits":
        raise DataError(f"data.root: {config.root} is not a folder; it should hold the {config.dataset} data set")
    match config.dataset:
        case "folder":
            return index_folders(config.root, split)
        case "cub200":
            return index_cub200(config.root, split)
        case "digits":
            return index_folders(write_digits(config.root), split)


def index_folders(root: Path, split: Split) -> Index:
    """Class folders below `train/` and below `val/`, `validation/` or `test/`; the classes are those of `train/`.

    Raises:
        DataError: a folder is missing, a class is empty, or the two splits have different classes.
    """
    train = root / "train"
    if not train.is_dir():
        raise DataError(f"{root}: has no train/ with one folder for each class; it holds {_list(_entries(root))}")
    class_names = _class_folders(train)
    if not class_names:
        raise DataError(f"{train}: holds no class folders, only {_list(_entries(train))}")
    folder = _split_folder(root, split)
    if folder != train:
        _require_same_classes(class_names, _class_folders(folder), train, folder)
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        images = _images(folder / name)
        if not images:
            raise DataError(f"{folder / name}: this class holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
        paths += [f"{name}/{image}" for image in images]
        labels += [label] * len(images)
    return Index(folder, paths, np.array(labels, dtype=np.int64), class_names)


def index_cub200(root: Path, split: Split) -> Index:
    """Caltech-UCSD Birds 200-2011 as published: `images/` and four text files, with the official split.

    The whole set has 5,994 training and 5,794 test images of 200 classes; a subset whose text files agree is taken
    as it is. Class names lose their number: `001.Black_footed_Albatross` is `Black_footed_Albatross`.

    Raises:
        DataError: a file is missing, malformed, or names an image or class that the others do not know.
    """
    if not (root / "images.txt").is_file() and (root / "CUB_200_2011" / "images.txt").is_file():
        root = root / "CUB_200_2011"
    names = _read_table(root / "classes.txt")
    images = _read_table(root / "images.txt")
    image_classes = _read_table(root / "image_class_labels.txt")
    is_training = _read_table(root / "train_test_split.txt")
    label_of = {number: label for label, number in enumerate(names)}
    wanted = "1" if split == "train" else "0"
    paths: list[str] = []
    labels: list[int] = []
    for number, path in images.items():
        if number not in image_classes or number not in is_training:
            raise DataError(f"{root}: image {number} ({path}) is missing from image_class_labels.txt or the split")
        if image_classes[number] not in label_of:
            raise DataError(f"{root / 'image_class_labels.txt'}: image {number} is of unknown class")
        if ".." in Path(path).parts or Path(path).is_absolute():
            raise DataError(f"{root / 'images.txt'}: image {number} leads out of the folder: {path}")
        if is_training[number] == wanted:
            paths.append(path)
            labels.append(label_of[image_classes[number]])
    folder = root / "images"
    absent = next((path for path in paths if not (folder / path).is_file()), None)
    if absent is not None or not paths:
        raise DataError(f"{folder}: {absent or 'any image of the split'} is named in images.txt but not there")
    class_names = tuple(name.partition(".")[2] or name for name in names.values())
    return Index(folder, paths, np.array(labels, dtype=np.int64), class_names)


def _read_table(path: Path) -> dict[str, str]:
    """A text file of `number value` lines, as in CUB-200-2011."""
    if not path.is_file():
        raise DataError(f"{path}: missing; the folder should be CUB_200_2011 as published")
    table: dict[str, str] = {}
    for line_number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        key, _, value = line.strip().partition(" ")
        if not value:
            raise DataError(f"{path}, line {line_number}: should be a number and a value, found {line!r}")
        table[key] = value.strip()
    return table


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, in order of name, without hidden files and what archives leave behind."""
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith((".", "__MACOSX"))), key=lambda entry: entry.name)


def _class_folders(folder: Path) -> tuple[str, ...]:
    return tuple(entry.name for entry in _entries(folder) if entry.is_dir())


def _images(folder: Path) -> list[str]:
    return [e.name for e in _entries(folder) if os.path.splitext(e.name)[1].lower() in IMAGE_SUFFIXES]


def _split_folder(root: Path, split: Split) -> Path:
    for name in FOLDER_NAMES[split]:
        if (root / name).is_dir():
            return root / name
    wanted = " or ".join(f"{name}/" for name in FOLDER_NAMES[split])
    raise DataError(f"{root}: has no {wanted}; it holds {_list(_entries(root))}")


def _require_same_classes(train: tuple[str, ...], other: tuple[str, ...], train_folder: Path, folder: Path) -> None:
    missing, unknown = sorted(set(train) - set(other)), sorted(set(other) - set(train))
    if missing:
        raise DataError(f"{folder}: lacks {len(missing)} classes that {train_folder} has: {_join(missing)}")
    if unknown:
        raise DataError(f"{folder}: has {len(unknown)} classes that {train_folder} lacks: {_join(unknown)}")


def _list(entries: Sequence[os.DirEntry[str]]) -> str:
    return _join([e.name + "/" * e.is_dir() for e in entries]) if entries else "nothing"


def _join(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
