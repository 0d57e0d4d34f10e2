"""Finds the images to evaluate on and maps their classes to those of the classifier."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rexnet.class_names import IMAGENET_CLASSES, match_classes
from rexnet.config.data_schema import SourceConfig
from rexnet.config.remote_path import RemotePath
from rexnet.data.datasets import load_index
from rexnet.data.datasets.by_name import detect_layout
from rexnet.data.datasets.class_folders import class_folders, find_split, index_class_folders
from rexnet.data.datasets.index import Index, Split, build_index
from rexnet.data.remote.indexing import LAYOUTS
from rexnet.data.sources.image_files import is_image
from rexnet.errors import DataError

WORDNET = re.compile(r"(n\d{8})_")  # prefix of ImageNet's file names
WITH_CLASS_FOLDERS = ("imagenet", "cars", "flowers102")  # published data sets that may also lie in class folders


def find_images(own: SourceConfig | None, split: Split, root: Path | None = None) -> Index:
    """Returns the images of a split in the data set of the training, `own`, or at another `root`.

    There may be a data set of any layout; class folders, also without `val/` or `test/` around them; or files named as
    in ImageNet, `n01440764_tench.JPEG`.
    """
    if root is None:
        assert own is not None, "a network without a data set needs a root"
        return load_index(own, split)
    if not root.exists():
        raise DataError(f"{root}: does not exist")
    layout = detect_layout(root)
    if isinstance(root, RemotePath):
        layout = own.dataset if own is not None and own.dataset in LAYOUTS else layout
    elif layout == "folder" and not (root.is_file() or find_split(root, "train")):
        return _index_without_training(root, split)
    if layout == "folder" and own is not None and own.dataset in WITH_CLASS_FOLDERS:
        layout = own.dataset if own.dataset != "imagenet" or any(root.glob("train/n0*")) else "folder"
    if own is None or layout != own.dataset:
        return load_index(SourceConfig(dataset=layout, root=root), split)
    of_own_root = {"manifest": None, "on_bad_image": "error", "download": False}
    return load_index(own.model_copy(update={"root": root, **of_own_root}), split)


def _index_without_training(root: Path, split: Split) -> Index:
    """Returns the images of class folders without a training split, or of a folder with ImageNet's files."""
    folder = find_split(root, split) or root
    files = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and is_image(entry.name))
    if not files:
        return index_class_folders(folder, class_folders(folder), "the folder itself")
    numbers = [WORDNET.match(name) for name in files]
    unnamed = next((name for name, number in zip(files, numbers, strict=True) if number is None), None)
    if unnamed is not None:
        raise DataError(
            f"{folder}: holds {unnamed}, whose class is unknown; it should hold one folder per class, or files named "
            f"as in ImageNet (n01440764_NAME.JPEG)"
        )
    names, labels = np.unique([number[1] for number in numbers if number is not None], return_inverse=True)
    return build_index(folder, files, labels, [str(name) for name in names])


def fit_to_classes(index: Index, class_names: Sequence[str], model: str) -> tuple[Index, tuple[str, ...]]:
    """Returns `index` with labels that are rows of `class_names`, and a remark if it has some of these classes only."""
    if index.class_names == tuple(class_names):
        return index, ()
    rows = _match(index.class_names, class_names)
    if len(rows) < len(index.class_names) or len(set(rows.values())) < len(rows):
        unknown = [name for label, name in enumerate(index.class_names) if label not in rows]
        what = ", ".join(unknown[:3]) + f" and {len(unknown) - 3} more" * (len(unknown) > 3) or "two of the same name"
        raise DataError(
            f"{index.root}: has {len(index.class_names)} classes, which should be among the {len(class_names):,} of "
            f"{model}; unknown: {what}"
        )
    row_of = np.array([rows[label] for label in range(len(rows))], np.int64)
    fitted = replace(index, labels=row_of[index.labels], class_names=tuple(class_names))
    if len(rows) == len(class_names):
        return fitted, ()
    return fitted, (f"the images show {len(rows)} of the {len(class_names):,} classes; all of them compete",)


def _match(names: Sequence[str], class_names: Sequence[str]) -> dict[int, int]:
    """Returns the row in `class_names` of each of `names`; ImageNet's classes match by any of their names."""
    rows = dict(match_classes(names, class_names, len(class_names)))
    if len(rows) < len(names) and is_imagenet(class_names):
        rows = dict(match_classes(names, None, IMAGENET_CLASSES)) | rows
    return rows


def is_imagenet(class_names: Sequence[str]) -> bool:
    """Returns True for the classes of ImageNet-1k in their order, by WordNet numbers or English names."""
    if len(class_names) != IMAGENET_CLASSES:
        return False
    pairs = match_classes(class_names, None, IMAGENET_CLASSES)
    return len(pairs) > 0.98 * IMAGENET_CLASSES and all(row == source for row, source in pairs)
