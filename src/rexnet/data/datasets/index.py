"""What a split contains, in a fixed order, and where each image lies."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from rexnet.data.sources.image_files import read_file
from rexnet.data.sources.shared_memory import Names, share
from rexnet.data.sources.tar import Archive
from rexnet.errors import DataError

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, eq=False)
class Index:
    """The images of one split. A million of them take 80 MB, which loader processes share."""

    root: Path
    """Folder that the paths start from, or the tar that holds the images."""
    paths: Sequence[str]
    """Path of each image below `root`."""
    labels: np.ndarray
    """Class of each image, int64 (n,), counted from 0 in the order of `class_names`."""
    class_names: tuple[str, ...]
    """One name for each class."""
    boxes: np.ndarray | None = None
    """What to crop each image to: int32 (n, 4) left, top, right, bottom in pixels, or None for all of it."""
    archive: Archive | None = None
    """The open tar, where `root` is one."""
    spans: np.ndarray | None = None
    """Offset and size of each image in the tar, int64 (n, 2)."""

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, position: int) -> str:
        """Where the image at `position` lies, for messages."""
        return os.path.join(self.root, self.paths[position])

    def read(self, position: int) -> bytes:
        """The bytes of the image file at `position`.

        Raises:
            DataError: it is missing, unreadable or not a regular file.
        """
        if self.archive is None or self.spans is None:
            return read_file(self.name(position))
        offset, size = self.spans[position].tolist()
        return self.archive.read(offset, size)

    def class_counts(self) -> np.ndarray:
        """Images of each class, int64 (classes,)."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def select(self, positions: Sequence[int] | np.ndarray) -> "Index":
        """An index of the images at `positions`, in that order; repetitions are allowed."""
        chosen = np.asarray(positions, dtype=np.int64)
        return replace(
            self,
            paths=Names.pack(self.paths[position] for position in chosen.tolist()),
            labels=share(self.labels[chosen]),
            boxes=None if self.boxes is None else share(self.boxes[chosen]),
            spans=None if self.spans is None else share(self.spans[chosen]),
        )


def build_index(
    root: Path,
    paths: Iterable[str],
    labels: Sequence[int] | np.ndarray,
    class_names: Sequence[str],
    boxes: np.ndarray | None = None,
) -> Index:
    """An index of files, packed so that processes share it; see `Index` for the arguments."""
    return Index(
        root,
        paths if isinstance(paths, Names) else Names.pack(paths),
        share(np.array(labels, np.int64)),
        tuple(class_names),
        None if boxes is None else share(np.asarray(boxes, np.int32)),
    )


def join(first: Index, second: Index) -> Index:
    """The images of both, in this order.

    Raises:
        DataError: they have different classes, or lie in different archives.
    """
    if first.class_names != second.class_names:
        raise DataError(f"{first.root} and {second.root} have different classes and cannot be joined")
    if first.archive is None and second.archive is None:
        root = Path(os.path.commonpath((first.root, second.root)))
        names = (os.path.join(index.root.relative_to(root), path) for index in (first, second) for path in index.paths)
    elif first.root == second.root:
        root = first.root
        names = (path for index in (first, second) for path in index.paths)
    else:
        raise DataError(f"{first.root} and {second.root}: images of two archives cannot be joined")
    return Index(
        root,
        Names.pack(names),
        share(np.concatenate((first.labels, second.labels))),
        first.class_names,
        _joined(first.boxes, second.boxes),
        first.archive,
        _joined(first.spans, second.spans),
    )


def _joined(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    return None if first is None or second is None else share(np.concatenate((first, second)))
