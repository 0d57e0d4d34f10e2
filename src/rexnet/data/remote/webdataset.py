"""Remote WebDataset shards: tars named after their split, with `NAME.jpg` and its class in `NAME.cls`."""

import json
import re
from pathlib import Path

import numpy as np

from rexnet.data.datasets.index import SPLIT_OF, Index, Layout, Split, distinct_splits, label_source
from rexnet.data.remote.remote_source import RemoteSource
from rexnet.data.remote.store import INFO
from rexnet.errors import ConfigError, DataError


def index_shards(source: Path | RemoteSource, split: Split) -> Index:
    """Indexes the images of a split, shard by shard; if there are no `val` shards, `test` takes their place."""
    name: Split = split if split in shard_splits(source) else "test"
    assert isinstance(source, RemoteSource)
    chosen = np.array([_split_of(shard) == name for shard in source.catalog.keys], bool)[source.catalog.objects]
    labels, classes = source.catalog.labels[chosen], int(source.catalog.labels.max(initial=-1)) + 1
    if not len(labels) or labels.min() < 0:
        raise DataError(f"{source.root}: has an image without class (NAME.cls), or no image, in its {name} shards")
    info = source.copies / INFO
    names = json.loads(info.read_bytes()).get("class_names") if info.exists() else None  # from `rexnet data pack`
    names = names or [str(number) for number in range(classes)]
    return label_source(source.select(np.flatnonzero(chosen)), labels, names)


def shard_splits(source: Path | RemoteSource) -> tuple[Split, ...]:
    """Returns the splits that occur in the names of the shards."""
    if not isinstance(source, RemoteSource):
        raise ConfigError(f"data.root: webdataset needs a URL, such as file://{source.absolute()}")
    found = {split: split for split in map(_split_of, source.catalog.keys) if split is not None}
    return distinct_splits({"val": "test", **found} if "test" in found else found)


def _split_of(shard: str) -> Split | None:
    """Returns the split that the last word of a shard's path names, such as `val` of `training/val-000.tar`."""
    return next((SPLIT_OF[word] for word in re.findall("[a-z]+", shard.lower())[::-1] if word in SPLIT_OF), None)


LAYOUT = Layout(index_shards, shard_splits)
