"""Builds the catalog of a remote data set, as a process of its own: `python -m rexnet.data.remote.catalog_builder`."""

import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import obstore

from rexnet.config.data_schema import DatasetName, FetchConfig
from rexnet.config.remote_path import RemotePath
from rexnet.data.remote.catalog import Catalog, save_catalog
from rexnet.data.remote.fetcher import WHOLE
from rexnet.data.remote.store import CHANGED, base_of, condition, explained, open_store
from rexnet.data.sources.image_files import is_image
from rexnet.data.sources.names import Names
from rexnet.data.sources.tar import Members, by_folder, index_name, read_index, scan
from rexnet.errors import DataError, RexnetError
from rexnet.system.terminal import progress_bar

WITHOUT_LISTING = ("https", "http")
INFO = "_info.json"
"""File of a shard set, as timm reads it: the file names of each split, and our `class_names`."""
BLOCK = 64 << 10  # bytes of a tar in one request while its headers are read
Item = TypeVar("Item")
Result = TypeVar("Result")


class Stored(NamedTuple):
    """An object as a listing or a HEAD request describes it."""

    key: str
    size: int
    tag: str


def build_catalog(root: RemotePath, dataset: DatasetName, fetch: FetchConfig, store: Any) -> Catalog:
    """Lists the images of the data set at `root`; `store` begins at its base."""
    reader = _Reader(store, base_of(root), fetch)
    match dataset:
        case "csv":
            return _index_table(reader, root)
        case "webdataset":
            return _index_shards(reader)
    return _index_tars(reader, [root.name]) if root.suffix == ".tar" else _index_class_folders(reader)


class _Reader:
    """Requests to the store of a data set."""

    def __init__(self, store: Any, base: RemotePath, fetch: FetchConfig) -> None:
        self.store, self.base, self.fetch = store, base, fetch

    def map(self, work: Callable[[Item], Result], items: Sequence[Item], unit: str) -> list[Result]:
        """Returns the results for all items, with as many requests at once as allowed."""
        with ThreadPoolExecutor(self.fetch.in_flight) as pool, progress_bar(len(items), unit, delay=1) as bar:
            return [result for result in pool.map(work, items) if bar.update() or True]

    def listing(self, folder: str | None = None) -> list[Stored]:
        self._require_listing()
        with explained(self.base / (folder or ""), self.fetch):
            return [_stored(item) for page in obstore.list(self.store, folder) for item in page]

    def folders(self, folder: str | None = None) -> list[str]:
        self._require_listing()
        with explained(self.base / (folder or ""), self.fetch):
            return sorted(obstore.list_with_delimiter(self.store, folder)["common_prefixes"])

    def _require_listing(self) -> None:
        if self.base.scheme in WITHOUT_LISTING:
            raise DataError(f"{self.base}: has no listing; give data.root a .tar or .csv, or use `rexnet data pack`")

    def head(self, key: str) -> Stored:
        with explained(self.base / key, self.fetch):
            return _stored(obstore.head(self.store, key))._replace(key=key)

    def read(self, key: str) -> bytes | None:
        """Returns the content of an object, or None if there is none."""
        with explained(self.base / key, self.fetch):
            try:
                return bytes(obstore.get(self.store, key).bytes())
            except FileNotFoundError:
                return None


class _RemoteFile(io.RawIOBase):
    """An object as a file, for reading the headers of a tar."""

    def __init__(self, reader: _Reader, item: Stored) -> None:
        self.reader, self.item, self.at = reader, item, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + (0, self.at, self.item.size)[whence]
        return self.at

    def readinto(self, buffer: Any) -> int:
        start, end = self.at, min(self.at + len(buffer), self.item.size)
        if start >= end:
            return 0
        path, options = self.reader.base / self.item.key, {"range": (start, end), **condition(self.item.tag)}
        with explained(path, self.reader.fetch):
            content = bytes(obstore.get(self.reader.store, self.item.key, options=options).bytes())
        if len(content) != end - start:
            raise DataError(f"{path}: {CHANGED}")
        buffer[: len(content)] = content
        self.at = end
        return len(content)


def _stored(item: Any) -> Stored:
    return Stored(item["path"], item["size"], item["e_tag"] or "")


def _index_class_folders(reader: _Reader) -> Catalog:
    """Lists each class folder of all splits with its own request."""
    classes = [folder for split in reader.folders() for folder in reader.folders(split)]
    listed = [item for items in reader.map(reader.listing, classes, " classes") for item in items if is_image(item.key)]
    if not listed:
        raise DataError(f"{reader.base}: has no images in SPLIT/CLASS/, such as train/cat/1.jpg")
    return _catalog_of_objects(sorted(listed, key=lambda item: by_folder(item.key)), {})


def _index_table(reader: _Reader, root: RemotePath) -> Catalog:
    """Looks up the images of a table or of those in a folder; over HTTP, which has no listing, one by one."""
    listed = {} if reader.base.scheme in WITHOUT_LISTING else {item.key: item for item in reader.listing()}
    tables = [root.name] if root.suffix == ".csv" else [key for key in listed if re.fullmatch(r"[^/]*\.csv", key)]
    files = {name: text.decode("utf-8-sig", "replace") for name in tables if (text := reader.read(name)) is not None}
    if not files:
        raise DataError(f"{root}: does not exist, or is a folder without train.csv")
    rows = (row for text in files.values() for row in csv.DictReader(io.StringIO(text, newline="")))
    keys = list(dict.fromkeys(path for row in rows if (path := (row.get("path") or "").strip())))
    found = [listed[key] for key in keys if key in listed] if listed else reader.map(reader.head, keys, " images")
    return _catalog_of_objects(found, files)


def _index_shards(reader: _Reader) -> Catalog:
    info = reader.read(INFO)
    if info is None:
        shards = sorted(item.key for item in reader.listing() if item.key.endswith(".tar"))
    else:
        shards = [str(name) for split in json.loads(info)["splits"].values() for name in split["filenames"]]
    if not shards:
        raise DataError(f"{reader.base}: has no shard (*.tar)")
    catalog = _index_tars(reader, shards)
    named = (f"{catalog.key(number)}/{name}" for number, name in enumerate(catalog.names))
    return catalog._replace(names=Names.pack(named), files={} if info is None else {INFO: info.decode()})


def _index_tars(reader: _Reader, keys: Sequence[str]) -> Catalog:
    """Finds the images in tars from the index next to each, or else from its headers."""

    def index(key: str) -> tuple[Stored, Members]:
        item, (folder, name) = reader.head(key), os.path.split(key)
        beside = reader.read(os.path.join(folder, index_name(name)))
        members = None if beside is None else read_index(beside, item.size)
        file = io.BufferedReader(_RemoteFile(reader, item), BLOCK)
        return item, members or scan(file, reader.base / key, item.size)

    items, tars = zip(*reader.map(index, keys, " tars"), strict=True)
    names, tags = (name for tar in tars for name in tar.paths), (item.tag for item in items)
    objects = np.repeat(np.arange(len(tars)), [len(tar.paths) for tar in tars])
    spans, labels = np.concatenate([tar.spans for tar in tars]), np.concatenate([tar.labels for tar in tars])
    return Catalog(Names.pack(names), Names.pack(keys), Names.pack(tags), objects, spans, labels, {})


def _catalog_of_objects(items: Sequence[Stored], files: dict[str, str]) -> Catalog:
    """Returns a catalog of images that are objects."""
    spans = np.array([(WHOLE, item.size) for item in items], np.int64).reshape(-1, 2)
    names, tags, count = Names.pack(item.key for item in items), Names.pack(item.tag for item in items), len(items)
    return Catalog(names, Names.pack([]), tags, np.arange(count), spans, np.full(count, -1), files)


def main(root: str, dataset: DatasetName, fetch: str, path: str) -> int:
    """Writes the catalog to `path`, or prints the error for the parent process."""
    remote, settings = RemotePath(root), FetchConfig.model_validate_json(fetch)
    try:
        save_catalog(Path(path), build_catalog(remote, dataset, settings, open_store(remote, settings)))
    except RexnetError as error:
        print(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))  # type: ignore[arg-type]
