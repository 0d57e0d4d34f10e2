"""The images of a split with their objects, without annotations that cannot be used."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from rexnet.data.datasets.list_files import index_listed
from rexnet.data.sources.image_files import join_names, printable
from rexnet.data.sources.names import Names
from rexnet.data.sources.source import Source
from rexnet.errors import DataError

OnDefect = Literal["error", "drop"]


class Annotations(NamedTuple):
    """Images and objects as they are in the files; numbers and sizes are in pixels."""

    class_names: Sequence[str]
    folder: Path
    paths: Sequence[str]  # of the images below `folder`
    sizes: np.ndarray  # int (n, 2) height and width
    image_ids: np.ndarray  # int64 (n,)
    ids: np.ndarray  # (m,) of the objects, which should differ
    positions: np.ndarray  # int64 (m,) of their images; -1 for an unknown image
    labels: np.ndarray  # int64 (m,) from 1; 0 for an unknown class
    boxes: np.ndarray  # float64 (m, 4) left, top, right, bottom
    crowd: np.ndarray  # bool (m,)
    areas: np.ndarray  # float64 (m,), NaN for the area of the box
    outlines: Names | None = None  # COCO's `segmentation` of each object as JSON; empty without a mask


@dataclass(frozen=True, eq=False)
class BoxIndex:
    """The images of one split in a fixed order, each with its objects.

    COCO's 118,287 images with 860,001 objects take 31 MB, and 260 MB with masks, which loader processes share.
    """

    source: Source
    class_names: tuple[str, ...]
    """Names of labels 1 to K; label 0 is the background."""
    image_ids: np.ndarray
    """Number of each image in the annotations, int64 (n,)."""
    sizes: np.ndarray
    """Height and width of each image, int32 (n, 2)."""
    starts: np.ndarray
    """Image i has objects `starts[i]` up to `starts[i + 1]`: int64 (n + 1,)."""
    boxes: np.ndarray
    """Left, top, right and bottom of each object in pixels, inside its image: float32 (m, 4)."""
    labels: np.ndarray
    """Class of each object, int64 (m,)."""
    crowd: np.ndarray
    """True for objects that training leaves out and evaluation ignores, bool (m,)."""
    areas: np.ndarray
    """Area of each object in square pixels, that of its mask if known: float32 (m,)."""
    outlines: Names | None = None
    """Masks as COCO's JSON, if they are needed."""
    remarks: tuple[str, ...] = ()
    """Sentences about annotations that were left out, and what else a user may not expect."""

    def __len__(self) -> int:
        return len(self.source)

    @property
    def root(self) -> Path:
        """Folder that the paths are relative to."""
        return self.source.root

    def name(self, position: int) -> str:
        """Returns the full path of an image, for messages."""
        return self.source.name(position)

    def objects_of(self, position: int) -> slice:
        """Returns the objects of an image, to index `boxes`, `labels`, `crowd`, `areas` and `outlines`."""
        return slice(int(self.starts[position]), int(self.starts[position + 1]))

    def object_counts(self) -> np.ndarray:
        """Returns the number of objects of each class, int64 (K,)."""
        return np.bincount(self.labels, minlength=len(self.class_names) + 1)[1:]

    def select(self, positions: np.ndarray) -> "BoxIndex":
        """Returns an index of the images at `positions` (k,), in that order."""
        counts = np.diff(self.starts)[positions]
        starts = np.concatenate(([0], np.cumsum(counts)))
        objects = np.arange(starts[-1]) + np.repeat(self.starts[:-1][positions] - starts[:-1], counts)
        chosen = {key: getattr(self, key)[positions] for key in ("image_ids", "sizes")}
        chosen |= {key: getattr(self, key)[objects] for key in ("boxes", "labels", "crowd", "areas")}
        outlines = None if self.outlines is None else self.outlines.select(objects)
        return replace(self, source=self.source.select(positions), starts=starts, outlines=outlines, **chosen)


def build_box_index(
    found: Annotations, listed_in: Path, on_bad_box: OnDefect = "error", on_missing_image: OnDefect = "error"
) -> BoxIndex:
    """Sorts annotations by image, clips boxes to their images, and leaves out what is missing or unusable.

    Raises:
        DataError: something has a defect that should not be left out, or nothing is left.
    """
    remarks = []
    is_present = np.ones(len(found.paths), bool)
    if on_missing_image == "drop":
        is_present[:] = [os.path.lexists(found.folder / path) for path in found.paths]
        if missing := [found.paths[position] for position in np.flatnonzero(~is_present).tolist()]:
            remarks.append(f"{listed_in}: left out {len(missing):,} images without a file ({join_names(missing)})")
    paths = [found.paths[position] for position in np.flatnonzero(is_present).tolist()]
    source = index_listed(found.folder, paths, [0] * len(paths), found.class_names, listed_in).source

    boxes = np.clip(found.boxes, 0, np.tile(found.sizes[found.positions, ::-1], 2)).astype(np.float32)
    is_first = np.zeros(len(boxes), bool)
    is_first[np.unique(found.ids, return_index=True)[1]] = True
    faults = {
        "of an unknown image": found.positions < 0,
        "of an unknown class": found.labels == 0,
        "with the number of another": ~is_first,
        "without area in its image": ~(boxes[:, 2:] > boxes[:, :2]).all(1),  # true for NaN, too
    }
    if found.outlines is not None:
        faults["without a mask"] = np.array([not outline for outline in found.outlines])
    is_bad = np.any(list(faults.values()), axis=0)
    if is_bad.any():
        counts = f"{is_bad.sum():,} of {len(is_bad):,} annotations cannot be used: " + ", ".join(
            f"{fault.sum():,} {name} ({_describe(found, int(fault.argmax()))})"
            for name, fault in faults.items()
            if fault.any()
        )
        if on_bad_box == "error":
            raise DataError(f"{listed_in}: {counts}; correct them, or leave them out with data.on_bad_box=drop")
        remarks.append(f"{listed_in}: {counts}; they are left out")
    is_clipped = ~is_bad & (np.abs(boxes - found.boxes).max(1, initial=0) > 1)  # pixel; less is rounding
    if is_clipped.any():
        where = _describe(found, int(is_clipped.argmax()))
        remarks.append(f"{listed_in}: clipped {is_clipped.sum():,} boxes that extend beyond their image ({where})")

    positions = np.where(is_present, np.cumsum(is_present) - 1, -1)[found.positions]
    kept = np.flatnonzero(~is_bad & (positions >= 0))
    kept = kept[np.argsort(positions[kept], kind="stable")]
    counts_of_images = np.bincount(positions[kept], minlength=len(paths))
    sides = (boxes[kept, 2:] - boxes[kept, :2]).prod(1)
    index = BoxIndex(
        source,
        tuple(found.class_names),
        found.image_ids[is_present],
        found.sizes[is_present],
        np.concatenate(([0], np.cumsum(counts_of_images))),
        boxes[kept],
        found.labels[kept],
        found.crowd[kept],
        np.where(np.isnan(found.areas[kept]), sides, found.areas[kept]).astype(np.float32),
        None if found.outlines is None else found.outlines.select(kept),
    )
    if not len(kept):
        raise DataError(f"{listed_in}: has no annotation that can be used")
    if len(empty := np.flatnonzero(counts_of_images == 0)):
        where = printable(paths[empty[0]])
        remarks.append(f"{listed_in}: {len(empty):,} of {len(paths):,} images have no object ({where})")
    if absent := [index.class_names[label] for label in np.flatnonzero(index.object_counts() == 0).tolist()]:
        remarks.append(f"{listed_in}: has no object of {join_names(absent)}")
    return replace(index, remarks=tuple(remarks))


def _describe(found: Annotations, number: int) -> str:
    """Identifies an annotation in a message."""
    if found.positions[number] < 0:
        return f"number {found.ids[number]:.0f}"
    box = " ".join(f"{edge:g}" for edge in found.boxes[number].tolist())
    return f"{printable(found.paths[found.positions[number]])}, box {box}"
