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
from rexnet.data.remote.catalog import WHOLE, Catalog, save_catalog
from rexnet.data.remote.store import INFO, base_of, explained, open_store
from rexnet.data.sources.image_files import is_image
from rexnet.data.sources.names import Names
from rexnet.data.sources.tar import Members, by_folder, index_name, read_index, scan
from rexnet.errors import DataError, RexnetError
from rexnet.system.terminal import progress_bar

BLOCK = 8 << 10  # bytes of a tar in one request while its headers are read
Result = TypeVar("Result")


class Stored(NamedTuple):
    """An object as a listing or a HEAD request describes it."""

    key: str
    size: int
    tag: str


class Builder:
    """Lists the images of the data set at `root`; `store` begins at its base."""

    def __init__(self, root: RemotePath, fetch: FetchConfig, store: Any) -> None:
        self.root, self.fetch, self.store = root, fetch, store
        self.files: dict[str, bytes] = {}  # small files that belong to the catalog

    def build(self, dataset: DatasetName) -> Catalog:
        """Returns the catalog."""
        if dataset == "webdataset":
            return self.index_shards()
        if dataset == "csv":
            return self.index_tables()
        if self.root.suffix == ".tar":
            return self.index_tars([self.root.name])
        images = sorted((item for item in self.list() if is_image(item.key)), key=lambda item: by_folder(item.key))
        return catalog_of_objects(images)

    def index_tables(self) -> Catalog:
        """Looks up the images of a table or of the tables in a folder; one by one over HTTP, which has no listing."""
        is_table = self.root.suffix == ".csv"
        listed = {} if is_table and str(self.root).startswith("http") else {item.key: item for item in self.list()}
        tables = [self.root.name] if is_table else [key for key in listed if re.fullmatch(r"\w+\.csv", key)]
        self.files = {name: content for name in tables if (content := self.read(name)) is not None}
        if not self.files:
            raise DataError(f"{self.root}: does not exist, or is a folder without train.csv")
        texts = [content.decode("utf-8-sig", "replace") for content in self.files.values()]
        rows = [row for text in texts for row in csv.DictReader(io.StringIO(text, newline=""))]
        keys = list(dict.fromkeys(path for row in rows if (path := (row.get("path") or "").strip())))
        found = [listed[key] for key in keys if key in listed] if listed else self.map(self.head, keys)
        return catalog_of_objects(found)

    def index_shards(self) -> Catalog:
        """Finds the images in all shards that `_info.json` or a listing names."""
        info = self.read(INFO)
        if info is None:
            shards = sorted(item.key for item in self.list() if item.key.endswith(".tar"))
        else:
            self.files[INFO] = info
            shards = [str(name) for split in json.loads(info)["splits"].values() for name in split["filenames"]]
        if not shards:
            raise DataError(f"{self.root}: has no shard (*.tar)")
        catalog = self.index_tars(shards)
        named = (f"{shards[item]}/{name}" for item, name in zip(catalog.objects, catalog.names, strict=True))
        return catalog._replace(names=Names.pack(named))

    def index_tars(self, keys: Sequence[str]) -> Catalog:
        """Finds the images in tars by the index next to each tar, or by its headers if there is no index."""

        def index(key: str) -> tuple[Stored, Members]:
            item, (folder, name) = self.head(key), os.path.split(key)
            beside = self.read(os.path.join(folder, index_name(name)))
            members = None if beside is None else read_index(beside, item.size)
            if members is None:
                with explained(self.root.parent / key, self.fetch):
                    opened: Any = _RemoteFile(obstore.open_reader(self.store, key, buffer_size=BLOCK))
                    members = scan(opened, base_of(self.root) / key, item.size)
            return item, members

        items, tars = zip(*self.map(index, keys), strict=True)
        names, tags = (name for tar in tars for name in tar.paths), (item.tag for item in items)
        objects = np.repeat(np.arange(len(tars)), [len(tar.paths) for tar in tars])
        spans, labels = np.concatenate([tar.spans for tar in tars]), np.concatenate([tar.labels for tar in tars])
        return Catalog(Names.pack(names), Names.pack(keys), Names.pack(tags), objects, spans, labels)

    def map(self, work: Callable[[str], Result], keys: Sequence[str]) -> list[Result]:
        """Calls `work` for all keys with `in_flight` threads, and returns the results in order."""
        with ThreadPoolExecutor(self.fetch.in_flight) as pool, progress_bar(len(keys), " objects", delay=1) as bar:
            return [result for result in pool.map(work, keys) if bar.update() or True]

    def list(self) -> "list[Stored]":
        """Lists all objects, a thousand per request."""
        if str(self.root).startswith("http"):
            raise DataError(f"{self.root}: has no listing; name a .tar or .csv, or use shards of `rexnet data pack`")
        with explained(self.root, self.fetch), progress_bar(None, " objects", delay=1) as bar:
            pages = (page for page in obstore.list(self.store) if bar.update(len(page)) or True)
            return [Stored(item["path"], item["size"], item["e_tag"] or "") for page in pages for item in page]

    def head(self, key: str) -> Stored:
        """Returns an object with its size and ETag."""
        with explained(base_of(self.root) / key, self.fetch):
            item = obstore.head(self.store, key)
            return Stored(key, item["size"], item["e_tag"] or "")

    def read(self, key: str) -> bytes | None:
        """Returns the content of an object, or None if there is none."""
        with explained(base_of(self.root) / key, self.fetch):
            try:
                return bytes(obstore.get(self.store, key).bytes())
            except FileNotFoundError:
                return None


class _RemoteFile:
    """An object with the file interface that `tarfile` needs."""

    def __init__(self, reader: Any) -> None:
        self.reader, self.seek, self.tell = reader, reader.seek, reader.tell

    def read(self, size: int) -> bytes:
        return bytes(self.reader.read(size))


def catalog_of_objects(items: Sequence[Stored]) -> Catalog:
    """Returns a catalog of images that are objects of their own."""
    spans = np.array([(WHOLE, item.size) for item in items], np.int64).reshape(-1, 2)
    names, tags, count = Names.pack(item.key for item in items), Names.pack(item.tag for item in items), len(items)
    return Catalog(names, Names.pack([]), tags, np.arange(count), spans, np.full(count, -1))


def main(root: str, dataset: DatasetName, fetch: str, folder: str) -> int:
    """Writes the catalog into `folder`, or prints the error for the parent process."""
    remote, settings = RemotePath(root), FetchConfig.model_validate_json(fetch)
    try:
        builder = Builder(remote, settings, open_store(remote, settings))
        save_catalog(Path(folder), builder.build(dataset))
    except RexnetError as error:
        print(error)
        return error.exit_code
    for name, content in builder.files.items():
        Path(folder, name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))  # type: ignore[arg-type]
