"""The images of a remote data set in one file, which every process maps into memory.

It is a safetensors file, whose metadata hold the small text files of the data set.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rexnet.data.sources.names import Names

DTYPES = {"U8": "u1", "I64": "<i8"}


class Catalog(NamedTuple):
    """Images by position."""

    names: Names  # path of each image below the root
    keys: Names  # the objects; empty if each image is an object and is named like it
    tags: Names  # ETag of each object; empty if the server has none
    objects: np.ndarray  # object that holds each image, int64 (n,)
    spans: np.ndarray  # offset in the object (-1: the image is the whole object) and size in bytes, int64 (n, 2)
    labels: np.ndarray  # class of each image, int64 (n,); -1 if only its path tells
    files: dict[str, str]  # small text files of the data set by name

    def key(self, position: int) -> str:
        """Returns the object of an image."""
        key: str = self.keys[int(self.objects[position])] if len(self.keys) else self.names[position]
        return key


def open_catalog(path: Path) -> Catalog:
    """Maps a catalog; its arrays are read from the file where they are used."""
    whole = np.asarray(np.memmap(path, np.uint8, "r"))
    start = 8 + int(whole[:8].view("<u8")[0])
    header = json.loads(whole[8:start].tobytes())
    files = header.pop("__metadata__", {})
    arrays = {
        name: whole[start:][slice(*entry["data_offsets"])].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
    }
    names, keys, tags = (Names(arrays[f"{name}.text"], arrays[f"{name}.ends"]) for name in Catalog._fields[:3])
    return Catalog(names, keys, tags, arrays["objects"], arrays["spans"], arrays["labels"], files)


def save_catalog(path: Path, catalog: Catalog) -> None:
    """Writes a catalog."""
    from safetensors.numpy import save_file

    texts = zip(catalog._fields[:3], catalog[:3], strict=True)
    arrays = {f"{name}.{part}": getattr(text, part) for name, text in texts for part in ("text", "ends")}
    numbers = {"objects": catalog.objects, "spans": catalog.spans, "labels": catalog.labels}
    save_file(arrays | numbers, path, catalog.files)
