"""Loads the index of a split for any data set of a configuration."""

from pathlib import Path

from rexnet.config.data_schema import DatasetName, SourceConfig
from rexnet.data.datasets.aircraft import index_aircraft
from rexnet.data.datasets.cars import index_cars
from rexnet.data.datasets.class_folders import folder_splits, index_folders
from rexnet.data.datasets.csv_table import index_csv, table_splits
from rexnet.data.datasets.cub200 import index_cub200
from rexnet.data.datasets.digits import write_digits
from rexnet.data.datasets.download import download_dataset, where_from
from rexnet.data.datasets.flowers102 import index_flowers102
from rexnet.data.datasets.food101 import index_food101
from rexnet.data.datasets.imagenet import DEVKIT, DEVKIT_TAR, TRAIN_TAR, VAL_TAR, index_imagenet
from rexnet.data.datasets.index import Index, Split, join
from rexnet.data.datasets.manifest import leave_out_broken
from rexnet.errors import DataError

MARKS: dict[DatasetName, tuple[str, ...]] = {
    "cub200": ("images.txt", "CUB_200_2011/images.txt"),
    "cars": ("cars_train", "stanford_cars/cars_train"),
    "flowers102": ("setid.mat", "flowers-102/setid.mat", "102flowers/setid.mat"),
    "aircraft": ("variants.txt", "data/variants.txt", "fgvc-aircraft-2013b/data/variants.txt"),
    "food101": ("meta/classes.txt", "food-101/meta/classes.txt"),
    "imagenet": (TRAIN_TAR, VAL_TAR, DEVKIT, DEVKIT_TAR),
    "csv": ("train.csv",),
}
"""Files that identify a data set."""


def load_index(config: SourceConfig, split: Split) -> Index:
    """Loads the images of `split` in the configured data set, without those listed as broken if so configured.

    With `train_on: train+val` the split `train` is both together, and `val` is `test`.

    Raises:
        DataError: something is missing or inconsistent.
    """
    _require_root(config)
    if config.train_on == "train":
        return _load_sound(config, split)
    if splits_of(config) != ("train", "val", "test"):
        raise DataError(
            f"data.train_on: {config.root} has no split val besides train and test; set data.train_on=train"
        )
    if split != "train":
        return _load_sound(config, "test")
    return join(_load_sound(config, "train"), _load_sound(config, "val"))


def load_eval_index(config: SourceConfig, split: Split, root: Path | None = None) -> Index:
    """Loads the images of `split` in the configured data set, or in a data set of the same layout at `root`.

    Raises:
        DataError: they are missing or inconsistent.
    """
    if root is None:
        return load_index(config, split)
    if not root.exists():  # the digits would be created there
        raise DataError(f"{root}: does not exist")
    other = {"root": root, "manifest": None, "on_bad_image": "error", "download": False}
    return load_index(config.model_copy(update=other), split)


def splits_of(config: SourceConfig) -> tuple[Split, ...]:
    """Returns the distinct splits of the configured data set, `train` first.

    Raises:
        DataError: the root does not exist, or a table in it cannot be read.
    """
    _require_root(config)
    match config.dataset:
        case "folder":
            return folder_splits(config.root)
        case "csv":
            return table_splits(config.root)
        case "flowers102" if (config.root / "train").is_dir():
            return folder_splits(config.root)
        case "digits" | "imagenet":
            return ("train", "val")
        case "flowers102" | "aircraft":
            return ("train", "val", "test")
        case "cub200" | "cars" | "food101":
            return ("train", "test")


def detect_layout(root: Path) -> DatasetName:
    """Returns the name of the data set at `root`, by its files; `folder` if no file identifies it."""
    if root.suffix.lower() == ".csv":
        return "csv"
    return next((name for name, files in MARKS.items() if any((root / file).exists() for file in files)), "folder")


def _require_root(config: SourceConfig) -> None:
    if config.download:
        download_dataset(config.dataset, config.root)
    if not config.root.exists() and config.dataset != "digits":
        source = where_from(config.dataset)
        raise DataError(
            f"data.root: {config.root} does not exist; it should contain the {config.dataset} data set"
            f"{f' ({source})' if source else ''}"
        )


def _load_sound(config: SourceConfig, split: Split) -> Index:
    index = _load_all(config, split)
    return index if config.on_bad_image == "error" else leave_out_broken(index, config, split)


def _load_all(config: SourceConfig, split: Split) -> Index:
    root = config.root
    match config.dataset:
        case "folder":
            return index_folders(root, split)
        case "csv":
            return index_csv(root, split)
        case "imagenet":
            return index_imagenet(root, split)
        case "cub200":
            return index_cub200(root, split, config.crop_to_box)
        case "cars":
            return index_cars(root, split, config.crop_to_box)
        case "flowers102":
            return index_flowers102(root, split)
        case "aircraft":
            return index_aircraft(root, split)
        case "food101":
            return index_food101(root, split)
        case "digits":
            return index_folders(write_digits(root), split)
