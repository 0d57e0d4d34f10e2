"""The images of a split in an object store."""

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
from rexnet.data.remote.fetcher import Extent, Fetcher
from rexnet.data.remote.store import base_of
from rexnet.data.sources.names import Names
from rexnet.data.sources.source import Source
from rexnet.errors import DataError
from rexnet.system.atomic_files import atomic_write


class RemoteSource(Source):
    """Images that are fetched by position; each process maps the catalog and opens its own connections.

    Args:
        root: the data set.
        catalog_path: its catalog.
        fetch: limits of the requests.
        positions: the images of this source in the catalog, int64 (n,); None for all.
        readers: processes of this machine that share `fetch.in_flight`.
    """

    root: RemotePath
    fork_safe = False  # threads of obstore do not survive a fork: the child hangs

    def __init__(
        self,
        root: RemotePath,
        catalog_path: Path,
        fetch: FetchConfig,
        positions: np.ndarray | None = None,
        readers: int = 1,
    ) -> None:
        self.root, self.catalog_path, self.fetch, self.readers = root, catalog_path, fetch, readers
        self.catalog, self.left_out = open_catalog(catalog_path), {}
        self.positions = np.arange(len(self.catalog.names)) if positions is None else positions
        self._pending: dict[int, Future[bytes]] = {}
        self._process = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteSource, (self.root, self.catalog_path, self.fetch, self.positions, self.readers)

    def __len__(self) -> int:
        return len(self.positions)

    @functools.cached_property
    def paths(self) -> Names:  # type: ignore[override]  # loader processes do without them
        """Path of each image below the root."""
        return self.catalog.names.select(self.positions)

    @property
    def labels(self) -> np.ndarray:
        """Classes in the catalog, int64 (n,); -1 if only the path tells."""
        return self.catalog.labels[self.positions]

    @functools.cached_property
    def tables(self) -> Path:
        """A copy of the table or tables on this machine."""
        folder = self.catalog_path.with_suffix(".tables")
        for name, text in self.catalog.files.items():
            with atomic_write(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return folder / self.root.name if self.root.suffix == ".csv" else folder

    def find(self, paths: Sequence[str]) -> "RemoteSource":
        """Returns a source of the images with these paths."""
        position_of = {path: position for position, path in enumerate(self.paths)}
        missing = next((path for path in paths if path not in position_of), None)
        if missing is not None:
            raise DataError(f"{base_of(self.root) / missing}: is listed in a table but does not exist")
        return self.select([position_of[path] for path in paths])

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
                self._pending[position] = self._fetcher.submit(self._extent(position))

    def select(self, positions: Sequence[int] | np.ndarray) -> "RemoteSource":
        return self._at(self.positions[np.asarray(positions, dtype=np.int64)])

    def join(self, other: Source) -> "RemoteSource":
        if not isinstance(other, RemoteSource) or other.catalog_path != self.catalog_path:
            raise DataError(f"{self.root} and {other.root}: images of two roots cannot be joined")
        return self._at(np.concatenate((self.positions, other.positions)))

    def stamp(self) -> str:
        catalog, sha256 = self.catalog, hashlib.sha256(str(self.root).encode())
        for array in (catalog.names.text, catalog.names.ends, catalog.tags.text, catalog.spans, self.positions):
            sha256.update(np.ascontiguousarray(array).data)
        return sha256.hexdigest()

    @functools.cached_property
    def _fetcher(self) -> Fetcher:
        return Fetcher(self.root, self.fetch, max(1, self.fetch.in_flight // self.readers))

    def _at(self, positions: np.ndarray) -> "RemoteSource":
        return RemoteSource(self.root, self.catalog_path, self.fetch, positions, self.readers)

    def _extent(self, position: int) -> Extent:
        number, catalog = int(self.positions[position]), self.catalog
        tag: str = catalog.tags[int(catalog.objects[number])]
        return Extent(catalog.key(number), tag, *catalog.spans[number].tolist())
