"""Oxford Flowers-102 (Nilsback and Zisserman, ICVGIP 2008): `jpg/`, `imagelabels.mat` and `setid.mat`."""

from pathlib import Path

import numpy as np

from rexnet.data.datasets.class_folders import folder_splits, index_folders
from rexnet.data.datasets.index import Index, Layout, Split
from rexnet.data.datasets.list_files import Published, check_counts, find_folder, index_listed, read_mat
from rexnet.errors import DataError

PUBLISHED = Published(
    "Flowers-102",
    102,
    {"train": 1020, "val": 1020, "test": 6149},
    "data.download=true downloads it, from https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
)
IDS = {"train": "trnid", "val": "valid", "test": "tstid"}


def index_flowers102(root: Path, split: Split) -> Index:
    """Indexes one of the three official splits; class folders with the same counts are accepted as well."""
    if (root / "train").is_dir():
        return check_counts(index_folders(root, split), split, PUBLISHED)
    base = find_folder(root, ["flowers-102", "102flowers"], "setid.mat", PUBLISHED)
    numbers = read_mat(base / "setid.mat", IDS[split]).astype(np.int64)
    labels = read_mat(base / "imagelabels.mat", "labels").astype(np.int64)
    if not 1 <= numbers.min() <= numbers.max() <= len(labels):
        raise DataError(f"{base / 'setid.mat'}: lists images 1 to {numbers.max():,}, but {len(labels):,} have a label")
    from torchvision.datasets import Flowers102  # has the names of the data set's web page; its files only numbers

    class_names = tuple(Flowers102.classes)
    if not 1 <= labels.min() <= labels.max() <= len(class_names):
        raise DataError(f"{base / 'imagelabels.mat'}: labels should be 1 to 102, found {labels.min()}, {labels.max()}")
    paths = [f"image_{number:05d}.jpg" for number in numbers.tolist()]
    chosen = (labels[numbers - 1] - 1).tolist()
    return check_counts(index_listed(base / "jpg", paths, chosen, class_names, base / "setid.mat"), split, PUBLISHED)


def _splits(root: Path) -> tuple[Split, ...]:
    return folder_splits(root) if (root / "train").is_dir() else ("train", "val", "test")


LAYOUT = Layout(index_flowers102, _splits, ("setid.mat", "flowers-102/setid.mat", "102flowers/setid.mat"))
