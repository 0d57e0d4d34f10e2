"""Encoded images by position: the interface of all sources, and files in a folder. `tar.py` reads from a tar."""

import hashlib
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from rexnet.data.sources.image_files import read_file
from rexnet.data.sources.names import Names
from rexnet.errors import DataError


class Source(ABC):
    """The encoded images of a split in a fixed order."""

    root: Path  # folder that the paths are relative to, or the archive that contains them
    paths: Names
    fork_safe = True  # False if loader processes must not be forked
    readers = 1  # processes of this machine that read at the same time

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, position: int) -> str:
        """Returns the full path of an image, for messages."""
        return os.path.join(self.root, self.paths[position])

    @abstractmethod
    def read(self, position: int) -> bytes:
        """Returns the encoded image at `position`; one that cannot be read is a `DataError`."""

    def prefetch(self, positions: Iterable[int]) -> None:  # noqa: B027 - nothing to do for local files
        """Announces images that will be read soon; sources with a high latency begin to fetch them."""

    def read_many(self, positions: Sequence[int]) -> list[bytes]:
        """Returns several encoded images."""
        self.prefetch(positions)
        return [self.read(position) for position in positions]

    @abstractmethod
    def select(self, positions: Sequence[int] | np.ndarray) -> "Source":
        """Returns a source of the images at `positions`, in that order; repetitions are allowed."""

    @abstractmethod
    def join(self, other: "Source") -> "Source":
        """Returns a source of these images followed by those of `other`."""

    @abstractmethod
    def stamp(self) -> str:
        """Returns a digest that changes with the path, size or modification time of any image."""


class FolderSource(Source):
    """Image files below a folder."""

    def __init__(self, root: Path, paths: Names) -> None:
        self.root, self.paths = root, paths

    def read(self, position: int) -> bytes:
        return read_file(self.name(position))

    def select(self, positions: Sequence[int] | np.ndarray) -> "FolderSource":
        return FolderSource(self.root, self.paths.select(positions))

    def join(self, other: Source) -> "FolderSource":
        if not isinstance(other, FolderSource):
            raise DataError(f"{self.root} and {other.root}: a folder and an archive cannot be joined")
        root = Path(os.path.commonpath((self.root, other.root)))
        below = [(source.root.relative_to(root), source.paths) for source in (self, other)]
        names = (os.path.normpath(os.path.join(folder, path)) for folder, paths in below for path in paths)
        return FolderSource(root, Names.pack(names))

    def stamp(self) -> str:
        return digest(f"{path}\0{_state(os.path.join(self.root, path))}" for path in self.paths)


def digest(lines: Iterable[str]) -> str:
    """Returns the SHA-256 of some lines of text, in which any file name may occur."""
    sha256 = hashlib.sha256()
    for line in lines:
        sha256.update(f"{line}\n".encode("utf-8", "surrogateescape"))
    return sha256.hexdigest()


def _state(path: str) -> str:
    """Returns size and modification time of a file, and an empty string if it is not a regular file."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}" if stat.S_ISREG(status.st_mode) else ""
