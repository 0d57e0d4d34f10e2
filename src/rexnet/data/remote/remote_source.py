"""The source of images in an object store."""

import functools
import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from rexnet.config.data_schema import FetchConfig
from rexnet.config.remote_path import RemotePath
from rexnet.data.remote.catalog import open_catalog
from rexnet.data.remote.fetcher import Fetcher
from rexnet.data.remote.store import base_of
from rexnet.data.sources.names import Names
from rexnet.data.sources.source import Source
from rexnet.errors import DataError


class RemoteSource(Source):
    """Fetches images by position; each process maps the catalog and opens its own connections.

    Args:
        root: the data set.
        folder: its catalog.
        fetch: limits of the requests.
        positions: the images of this source in the catalog, int64 (n,); None for all.
        readers: processes of this machine that share `fetch.in_flight`.
    """

    root: RemotePath
    fork_safe = False  # obstore's threads do not survive a fork, and the child would hang

    def __init__(
        self, root: RemotePath, folder: Path, fetch: FetchConfig, positions: np.ndarray | None = None, readers: int = 1
    ) -> None:
        self.root, self.folder, self.fetch, self.readers = root, folder, fetch, readers
        self.catalog = open_catalog(folder)
        self.positions = np.arange(len(self.catalog.names)) if positions is None else positions
        self._pending: dict[int, Future[bytes]] = {}
        self._process = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteSource, (self.root, self.folder, self.fetch, self.positions, self.readers)

    def __len__(self) -> int:
        return len(self.positions)

    @functools.cached_property
    def paths(self) -> Names:  # type: ignore[override]  # a property, since loader processes need no paths
        """Path of each image below the root."""
        return self.catalog.names.select(self.positions)

    @property
    def copies(self) -> Path:
        """Local copies of the small files of the data set: the table, or the folder of all of them."""
        return self.folder / self.root.name if self.root.suffix == ".csv" else self.folder

    def name(self, position: int) -> str:
        folder = base_of(self.root) if self.root.suffix == ".csv" else self.root
        return os.path.join(folder, self.catalog.names[int(self.positions[position])])

    def read(self, position: int) -> bytes:
        self.prefetch([position])
        return self._pending.pop(position).result()

    def prefetch(self, positions: Iterable[int]) -> None:
        if self._process != os.getpid():
            raise DataError(f"{self.root}: a forked process cannot read it; set data.start_method=forkserver or spawn")
        for position in positions:
            if position not in self._pending:
                number = int(self.positions[position])
                item = int(self.catalog.objects[number])
                key = self.catalog.keys[item] if len(self.catalog.keys) else self.catalog.names[number]
                span = self.catalog.spans[number].tolist()
                self._pending[position] = self._fetcher.submit(key, self.catalog.tags[item], *span)

    def select(self, positions: Sequence[int] | np.ndarray) -> "RemoteSource":
        chosen = self.positions[np.asarray(positions, dtype=np.int64)]
        return RemoteSource(self.root, self.folder, self.fetch, chosen, self.readers)

    def find(self, paths: Sequence[str]) -> "RemoteSource":
        """Returns a source of the images with these paths."""
        position_of = {path: position for position, path in enumerate(self.paths)}
        missing = next((path for path in paths if path not in position_of), None)
        if missing is not None:
            raise DataError(f"{base_of(self.root) / missing}: is listed in a table but does not exist")
        return self.select([position_of[path] for path in paths])

    def join(self, other: Source) -> "RemoteSource":
        if not isinstance(other, RemoteSource) or other.root != self.root:
            raise DataError(f"{self.root} and {other.root}: images of two roots cannot be joined")
        both = np.concatenate((self.positions, other.positions))
        return RemoteSource(self.root, self.folder, self.fetch, both, self.readers)

    def stamp(self) -> str:
        catalog, sha256 = self.catalog, hashlib.sha256(str(self.root).encode())
        for array in (catalog.names.text, catalog.names.ends, catalog.tags.text, catalog.spans, self.positions):
            sha256.update(np.ascontiguousarray(array).data)
        return sha256.hexdigest()

    @functools.cached_property
    def _fetcher(self) -> Fetcher:
        return Fetcher(self.root, self.fetch, max(1, self.fetch.in_flight // self.readers))
