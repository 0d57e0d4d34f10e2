"""The images of a remote data set as a folder of arrays, which every process maps into memory."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from rexnet.data.sources.names import Names

WHOLE = -1  # offset of an image that is an object of its own


class Catalog(NamedTuple):
    """Images by position. Copies of the small files of the data set (tables, `_info.json`) are in the same folder."""

    names: Names  # path of each image below the root
    keys: Names  # keys of the objects; empty if images are objects, whose keys are their names
    tags: Names  # ETag of each object; an empty text if the server sends none
    objects: np.ndarray  # object that holds each image, int64 (n,)
    spans: np.ndarray  # offset in the object, or WHOLE, and size in bytes of each image, int64 (n, 2)
    labels: np.ndarray  # class of each image, int64 (n,); -1 if only its path tells the class


def open_catalog(folder: Path) -> Catalog:
    """Maps a catalog into memory; only the parts of its arrays that are used are read from disk."""
    arrays = {path.stem: np.load(path, "r") for path in folder.glob("*.npy")}
    names, keys, tags = (Names(arrays[f"{name}-text"], arrays[f"{name}-ends"]) for name in Catalog._fields[:3])
    return Catalog(names, keys, tags, arrays["objects"], arrays["spans"], arrays["labels"])


def save_catalog(folder: Path, catalog: Catalog) -> None:
    """Writes a catalog into a folder."""
    for name, value in catalog._asdict().items():
        parts = {f"{name}-text": value.text, f"{name}-ends": value.ends} if isinstance(value, Names) else {name: value}
        for part, array in parts.items():
            np.save(folder / f"{part}.npy", array)
