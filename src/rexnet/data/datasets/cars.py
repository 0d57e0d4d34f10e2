"""Stanford Cars (Krause et al., 3dRR 2013): the devkit's .mat files and image folders, or class folders."""

from pathlib import Path

import numpy as np

from rexnet.data.datasets.class_folders import index_folders
from rexnet.data.datasets.index import Index, Layout, Split
from rexnet.data.datasets.list_files import Published, check_counts, index_listed, read_mat
from rexnet.errors import DataError

PUBLISHED = Published(
    "Stanford Cars",
    196,
    {"train": 8144, "val": 8041, "test": 8041},
    "the official address is gone; mirrors on Kaggle and Hugging Face have it",
)
LABELS = {"train": "cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
EDGES = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def index_cars(root: Path, split: Split, with_boxes: bool = False) -> Index:
    """Indexes the official split in the devkit's layout or in class folders, the layout of mirrors.

    `val` and `test` are the same 8,041 images.
    """
    name = "train" if split == "train" else "test"
    base = next((root / folder for folder in ("", "stanford_cars") if (root / folder / f"cars_{name}").is_dir()), None)
    if base is not None:
        return check_counts(_index_devkit(base, name, with_boxes), split, PUBLISHED)
    if not (root / "train").is_dir():
        raise DataError(
            f"{root}: has neither cars_{name}/ with the devkit's .mat files nor train/ with class folders; "
            f"{PUBLISHED.source}"
        )
    if with_boxes:
        raise DataError(f"{root}: class folders have no bounding boxes; data.crop_to_box needs the .mat files")
    return check_counts(index_folders(root, split), split, PUBLISHED)


def _index_devkit(base: Path, name: str, with_boxes: bool) -> Index:
    file = _find(base, LABELS[name])
    class_names = [str(car) for car in read_mat(_find(base, "cars_meta.mat"), "class_names")]
    rows = read_mat(file, "annotations")
    if absent := {"class", "fname", *EDGES} - set(rows.dtype.names or ()):
        raise DataError(f"{file}: its annotations lack {', '.join(sorted(absent))}")
    labels = [int(label) - 1 for label in rows["class"]]
    if labels and not 0 <= min(labels) <= max(labels) < len(class_names):
        raise DataError(
            f"{file}: classes should be 1 to {len(class_names)}, found {min(labels) + 1}, {max(labels) + 1}"
        )
    folder = base / f"cars_{name}"
    if (folder / folder.name).is_dir():  # as Kaggle's archive unpacks
        folder = folder / folder.name
    boxes = np.array([[int(row[edge]) for edge in EDGES] for row in rows], np.int32) if with_boxes else None
    if boxes is not None:
        boxes[:, :2] -= 1  # MATLAB counts from 1 and includes the last pixel
    return index_listed(folder, [str(path) for path in rows["fname"]], labels, class_names, file, boxes)


def _find(base: Path, name: str) -> Path:
    for folder in (base / "devkit", base, base / "car_devkit" / "devkit"):
        if (folder / name).is_file():
            return folder / name
    hint = "; cars_test_annos.mat has no labels" if name == LABELS["test"] else ""
    raise DataError(f"{base}: lacks {name}, here or in devkit/{hint}; {PUBLISHED.source}")


LAYOUT = Layout(index_cars, ("train", "test"), ("cars_train", "stanford_cars/cars_train"))
