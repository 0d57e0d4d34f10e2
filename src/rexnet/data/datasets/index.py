"""The images of a split in a fixed order, with their labels, and the interface of a data set layout."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from rexnet.data.sources.names import Names
from rexnet.data.sources.source import FolderSource, Source
from rexnet.errors import DataError

Split = Literal["train", "val", "test"]
SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Names of folders, tables, entries of tables and shards, in any case."""
SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}


@dataclass(frozen=True, eq=False)
class Index:
    """The images of one split. A million of them take 64 MB, and 80 MB in a tar."""

    source: Source
    labels: np.ndarray
    """Class of each image, int64 (n,): a row of `class_names`."""
    class_names: tuple[str, ...]
    boxes: np.ndarray | None = None
    """Bounding box to crop each image to: int32 (n, 4) left, top, right, bottom in pixels; None for whole images."""
    left_out: tuple[str, ...] = ()
    """Paths at the same place that are not among the images; those of folders end with a slash."""

    def __len__(self) -> int:
        return len(self.source)

    @property
    def root(self) -> Path:
        """Folder that the paths are relative to, or the tar that contains the images."""
        return self.source.root

    @property
    def paths(self) -> Names:
        """Path of each image below `root`."""
        return self.source.paths

    def name(self, position: int) -> str:
        """Returns the full path of an image, for messages."""
        return self.source.name(position)

    def read(self, position: int) -> bytes:
        """Returns the encoded image at `position`."""
        return self.source.read(position)

    def class_counts(self) -> np.ndarray:
        """Returns the number of images of each class, int64 (classes,)."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def select(self, positions: Sequence[int] | np.ndarray) -> "Index":
        """Returns an index of the images at `positions`, in that order; repetitions are allowed."""
        chosen = np.asarray(positions, dtype=np.int64)
        boxes = None if self.boxes is None else self.boxes[chosen]
        return replace(self, source=self.source.select(chosen), labels=self.labels[chosen], boxes=boxes)


Labels = Sequence[int] | np.ndarray


def build_index(
    root: Path, paths: Iterable[str], labels: Labels, class_names: Sequence[str], boxes: np.ndarray | None = None
) -> Index:
    """Returns an index of files below `root`."""
    return label_source(FolderSource(root, Names.pack(paths)), labels, class_names, boxes)


def label_source(source: Source, labels: Labels, class_names: Sequence[str], boxes: np.ndarray | None = None) -> Index:
    """Returns an index of all images of a source."""
    return Index(source, np.array(labels, np.int64), tuple(class_names), boxes)


def join(first: Index, second: Index) -> Index:
    """Returns an index of the images of both, in this order."""
    if first.class_names != second.class_names:
        raise DataError(f"{first.root} and {second.root} have different classes and cannot be joined")
    boxes = None
    if first.boxes is not None and second.boxes is not None:
        boxes = np.concatenate((first.boxes, second.boxes))
    labels = np.concatenate((first.labels, second.labels))
    joined = label_source(first.source.join(second.source), labels, first.class_names, boxes)
    return replace(joined, left_out=first.left_out + second.left_out)


def assign_splits(names: Iterable[str], place: Path) -> dict[Split, str]:
    """Maps splits to those of `names` that are a name of theirs, ignoring case; `val` to that of `test` if it has none.

    Raises:
        DataError: two names mean the same split.
    """
    found: dict[Split, str] = {}
    for name in filter(lambda name: name.lower() in SPLIT_OF, names):
        if found.setdefault(SPLIT_OF[name.lower()], name) != name:
            other = found[SPLIT_OF[name.lower()]]
            raise DataError(f"{place}: has both {other} and {name}, which are names of one split; merge them")
    return {"val": found["test"], **found} if "test" in found else found


def distinct_splits(found: Mapping[Split, object]) -> tuple[Split, ...]:
    """Returns `train`, `val` and `test` of `assign_splits` as far as they are distinct."""
    if "test" not in found:
        return ("train", "val")
    return ("train", "test") if found["val"] == found["test"] else ("train", "val", "test")


class Layout(NamedTuple):
    """A data set layout. The module that is named like the data set defines it as `LAYOUT`."""

    index_images: Callable[..., Index]
    """Maps a root and a split, and True if images are cropped to their boxes, to an index."""
    splits: tuple[Split, ...] | Callable[..., tuple[Split, ...]]
    """The distinct splits, `train` first, or a function that reads them from a root."""
    marks: tuple[str, ...] = ()
    """Files that identify the data set."""
