"""Loads the index of a split for any data set of a configuration."""

import importlib
from pathlib import Path
from typing import get_args

from rexnet.config.data_schema import DatasetName, SourceConfig
from rexnet.config.remote_path import RemotePath
from rexnet.data.datasets.download import download_dataset, where_from
from rexnet.data.datasets.index import Index, Layout, Split, join
from rexnet.data.datasets.manifest import leave_out_broken
from rexnet.data.remote.indexing import open_remote
from rexnet.data.remote.remote_source import RemoteSource
from rexnet.errors import DataError

MODULES = {"folder": "datasets.class_folders", "csv": "datasets.csv_table", "webdataset": "remote.webdataset"}
"""Modules that are not named like their data set."""


def find_layout(name: DatasetName) -> Layout:
    """Returns the layout of a data set."""
    layout: Layout = importlib.import_module(f"rexnet.data.{MODULES.get(name, f'datasets.{name}')}").LAYOUT
    return layout


def load_index(config: SourceConfig, split: Split) -> Index:
    """Loads the images of `split` in the configured data set, without those listed as broken if so configured.

    With `train_on: train+val` the split `train` is both together, and `val` is `test`.

    Raises:
        DataError: something is missing or inconsistent.
    """
    if config.train_on == "train":
        return _load_sound(config, split)
    if splits_of(config) != ("train", "val", "test"):
        raise DataError(
            f"data.train_on: {config.root} has no split val besides train and test; set data.train_on=train"
        )
    if split != "train":
        return _load_sound(config, "test")
    return join(_load_sound(config, "train"), _load_sound(config, "val"))


def splits_of(config: SourceConfig) -> tuple[Split, ...]:
    """Returns the distinct splits of the configured data set, `train` first."""
    place, splits = _open_root(config), find_layout(config.dataset).splits
    return splits if isinstance(splits, tuple) else splits(place)


def detect_layout(root: Path) -> DatasetName:
    """Returns the name of the data set at `root`, by its files; `folder` if no file identifies it."""
    if root.suffix.lower() == ".csv":
        return "csv"
    if isinstance(root, RemotePath):
        return "folder"
    for name in sorted(get_args(DatasetName), key=lambda name: name == "csv"):  # others may have a table, too
        if any((root / mark).exists() for mark in find_layout(name).marks):
            found: DatasetName = name
            return found
    return "folder"


def _open_root(config: SourceConfig) -> Path | RemoteSource:
    """Returns the folder or file of the data set, which is downloaded if so configured, or its remote images."""
    if isinstance(config.root, RemotePath):
        return open_remote(config.root, config.dataset, config.fetch)
    if config.download:
        download_dataset(config.dataset, config.root)
    if not config.root.exists() and config.dataset != "digits":
        root, source = config.root.absolute(), where_from(config.dataset)
        where = f" ({source})" if source else ""
        raise DataError(f"data.root: {root} does not exist; it should contain the {config.dataset} data set{where}")
    return config.root


def _load_sound(config: SourceConfig, split: Split) -> Index:
    boxes = (True,) if config.crop_to_box else ()
    index = find_layout(config.dataset).index_images(_open_root(config), split, *boxes)
    return index if config.on_bad_image == "error" else leave_out_broken(index, config, split)
