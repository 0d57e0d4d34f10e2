"""Caltech-UCSD Birds 200-2011 (Wah et al., CNS-TR-2011-001) as published: `images/` and text files."""

from pathlib import Path

import numpy as np

from rexnet.data.datasets.index import Index, Layout, Split
from rexnet.data.datasets.list_files import Published, check_counts, find_folder, index_listed, read_lines
from rexnet.errors import DataError

PUBLISHED = Published(
    "CUB-200-2011",
    200,
    {"train": 5994, "val": 5794, "test": 5794},
    "data.download=true downloads it, from https://data.caltech.edu/records/65de6-vp158",
)


def index_cub200(root: Path, split: Split, with_boxes: bool = False) -> Index:
    """Indexes the official split; `val` and `test` are the same 5,794 images.

    A subset is accepted if the text files agree on it. Class names lose their number: `001.Black_footed_Albatross` is
    `Black_footed_Albatross`.
    """
    base = find_folder(root, ["CUB_200_2011"], "images.txt", PUBLISHED)
    names = _read_table(base / "classes.txt")
    image_classes = _read_table(base / "image_class_labels.txt")
    is_training = _read_table(base / "train_test_split.txt")
    boxes = _read_table(base / "bounding_boxes.txt") if with_boxes else {}
    label_of = {number: label for label, number in enumerate(names)}
    wanted = "1" if split == "train" else "0"
    paths: dict[str, str] = {}
    for number, path in _read_table(base / "images.txt").items():
        if number not in image_classes or number not in is_training:
            raise DataError(f"{base}: image {number} ({path}) is missing from image_class_labels.txt or the split")
        if image_classes[number] not in label_of:
            raise DataError(f"{base / 'image_class_labels.txt'}: image {number} is of unknown class")
        if is_training[number] == wanted:
            paths[number] = path
    labels = [label_of[image_classes[number]] for number in paths]
    class_names = [name.partition(".")[2] or name for name in names.values()]
    edges = _edges(base / "bounding_boxes.txt", boxes, list(paths)) if with_boxes else None
    index = index_listed(base / "images", list(paths.values()), labels, class_names, base / "images.txt", edges)
    return check_counts(index, split, PUBLISHED)


def _edges(path: Path, boxes: dict[str, str], numbers: list[str]) -> np.ndarray:
    """Returns left, top, right, bottom of each bounding box, from the file's left, top, width, height."""
    try:
        rows = np.array([boxes[number].split() for number in numbers], np.float64).reshape(-1, 4)
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: should have four numbers for each image; found {error}") from None
    return np.concatenate((np.floor(rows[:, :2]), np.ceil(rows[:, :2] + rows[:, 2:])), axis=1).astype(np.int32)


def _read_table(path: Path) -> dict[str, str]:
    """Reads a text file of `number value` lines."""
    table: dict[str, str] = {}
    for line_number, line in enumerate(read_lines(path, "a file of CUB-200-2011 as published"), 1):
        key, _, value = line.partition(" ")
        if not value:
            raise DataError(f"{path}, line {line_number}: should be a number and a value, found {line!r}")
        table[key] = value.strip()
    return table


LAYOUT = Layout(index_cub200, ("train", "test"), ("images.txt", "CUB_200_2011/images.txt"))
