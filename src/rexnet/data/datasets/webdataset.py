"""Remote WebDataset shards: tars of `NAME.jpg` with its class in `NAME.cls`, whose names contain the split."""

import json
from pathlib import Path

import numpy as np

from rexnet.data.datasets.index import Index, Layout, Split, label_source
from rexnet.data.remote.remote_source import RemoteSource
from rexnet.errors import ConfigError, DataError

INFO = "_info.json"  # as timm reads it; `rexnet data pack` adds `class_names`
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def index_shards(place: Path | RemoteSource, split: Split) -> Index:
    """Indexes the images of a split, in the order of the shards; without `val` shards, `test` takes their place."""
    source = _require_remote(place)
    name: Split = split if split in shard_splits(source) else "test"
    shards = np.array([name in shard for shard in source.catalog.keys], bool)
    positions = np.flatnonzero(shards[source.catalog.objects])
    if not len(positions):
        raise DataError(f"{source.root}: has no shard of the split {split!r} (a .tar with {split} in its name)")
    chosen = source.select(positions)
    unlabeled = np.flatnonzero(chosen.labels < 0)
    if len(unlabeled):
        raise DataError(f"{chosen.name(int(unlabeled[0]))}: has no class: a member with the same name and .cls")
    classes = int(source.labels.max()) + 1
    names = json.loads(source.catalog.files.get(INFO, "{}")).get("class_names") or list(map(str, range(classes)))
    if len(names) < classes:
        raise DataError(f"{source.root}/{INFO}: names {len(names)} classes, but the shards have {classes}")
    return label_source(chosen, chosen.labels, names)


def shard_splits(place: Path | RemoteSource) -> tuple[Split, ...]:
    """Returns the splits that occur in the names of shards: `train`, and `val` or `test` or both."""
    found = {split for split in SPLITS for shard in _require_remote(place).catalog.keys if split in shard}
    return tuple(split for split in SPLITS if split in {"train", *(found or {"val"})})


def _require_remote(place: Path | RemoteSource) -> RemoteSource:
    if not isinstance(place, RemoteSource):
        raise ConfigError(
            f"data.root: {place} should be a URL for webdataset; for local shards file://{place.absolute()}"
        )
    return place


LAYOUT = Layout(index_shards, shard_splits)
