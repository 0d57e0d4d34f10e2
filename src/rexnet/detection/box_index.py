"""The images of a split with their objects, without annotations that cannot be used."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rexnet.data.datasets.list_files import index_listed
from rexnet.data.sources.decode import open_image
from rexnet.data.sources.image_files import join_names, printable
from rexnet.data.sources.names import Names
from rexnet.data.sources.source import Source
from rexnet.errors import DataError

OnDefect = Literal["error", "drop"]
OF_OBJECTS = ("images", "boxes", "labels", "crowd", "areas")


@dataclass(frozen=True, eq=False)
class BoxIndex:
    """The images of one split in a fixed order, and their objects in that of the images.

    COCO's 118,287 images with 860,001 objects take 37 MB, and 350 MB with masks, which loader processes share.
    """

    source: Source
    class_names: tuple[str, ...]
    """Names of the labels from 1."""
    image_ids: np.ndarray
    """Number of each image in the annotations, int64 (n,)."""
    sizes: np.ndarray
    """Height and width of each image, int32 (n, 2)."""
    images: np.ndarray
    """Position of each object's image, int64 (m,)."""
    boxes: np.ndarray
    """Left, top, right and bottom of each object in pixels, inside its image: float32 (m, 4)."""
    labels: np.ndarray
    """Class of each object, int64 (m,)."""
    crowd: np.ndarray
    """True for objects that training leaves out and evaluation ignores, bool (m,)."""
    areas: np.ndarray
    """Area of each object in square pixels, that of its mask if known: float32 (m,)."""
    outlines: Names | None = None
    """Mask of each object as JSON in COCO's form, if masks are needed."""
    defects: tuple[str, ...] = ()
    """Sentences about annotations and images that were left out."""
    remarks: tuple[str, ...] = ()
    """Sentences about other properties that a user may not expect."""

    def __len__(self) -> int:
        return len(self.source)

    @property
    def root(self) -> Path:
        """Folder that the paths are relative to."""
        return self.source.root

    def name(self, position: int) -> str:
        """Returns the full path of an image, for messages."""
        return self.source.name(position)

    def read_pixels(self, position: int) -> np.ndarray:
        """Returns an image, RGB uint8 (H, W, 3)."""
        return np.asarray(open_image(self.source.read(position), self.name(position)))

    def objects_of(self, position: int) -> slice:
        """Returns the objects of an image, to index `boxes`, `labels`, `crowd`, `areas` and `outlines`."""
        return slice(*np.searchsorted(self.images, (position, position + 1)).tolist())

    def object_counts(self) -> np.ndarray:
        """Returns the number of objects of each class, int64 (K,)."""
        return np.bincount(self.labels, minlength=len(self.class_names) + 1)[1:]

    def runs_of(self, position: int) -> list[dict[str, Any]]:
        """Returns the mask of each object of an image as COCO's run lengths, which `faster_coco_eval` decodes."""
        from faster_coco_eval.core import mask

        assert self.outlines is not None
        height, width = self.sizes[position].tolist()
        try:
            outlines = map(json.loads, self.outlines[self.objects_of(position)])
            runs = [mask.segmToRle(outline, width, height) for outline in outlines]
            mask.decode(runs)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"{printable(self.name(position))}: has a mask that cannot be decoded: {error}") from None
        return runs

    def take(self, objects: np.ndarray) -> "BoxIndex":
        """Returns an index of all images with only these objects."""
        outlines = None if self.outlines is None else self.outlines.select(objects)
        return replace(self, outlines=outlines, **{key: getattr(self, key)[objects] for key in OF_OBJECTS})

    def select(self, positions: np.ndarray) -> "BoxIndex":
        """Returns an index of the images at `positions` (k,), in that order."""
        first, end = (np.searchsorted(self.images, positions, side) for side in ("left", "right"))
        images = np.repeat(np.arange(len(positions)), end - first)
        taken = self.take(np.arange(len(images)) + np.repeat(end - np.cumsum(end - first), end - first))
        kept = {"image_ids": self.image_ids[positions], "sizes": self.sizes[positions], "images": images}
        return replace(taken, source=self.source.select(positions), **kept)


def clean_index(
    raw: BoxIndex, ids: np.ndarray, listed_in: Path, on_bad_box: OnDefect, on_missing_image: OnDefect
) -> BoxIndex:
    """Sorts objects by image, clips them to their images, and leaves out what is missing or unusable.

    Args:
        raw: objects in any order, in images of which -1 is unknown, of classes of which 0 is unknown, and with boxes
            that may be NaN or outside; an area of NaN means that of the box.
        ids: numbers of the objects (m,), which should differ.
        listed_in: the file with the annotations, for messages.
        on_bad_box: treatment of objects that cannot be used.
        on_missing_image: treatment of images without a file.

    Raises:
        DataError: something has a defect that should not be left out, or nothing is left.
    """
    defects, remarks = [], []
    boxes = np.clip(raw.boxes, 0, np.tile(raw.sizes[raw.images, ::-1], 2)).astype(np.float32)
    faults = {
        "of an unknown image": raw.images < 0,
        "of an unknown class": raw.labels == 0,
        "with the number of another": ~np.isin(np.arange(len(ids)), np.unique(ids, return_index=True)[1]),
        "without area in its image": ~(boxes[:, 2:] > boxes[:, :2]).all(1),  # true for NaN, too
    }
    if raw.outlines is not None:
        faults["without a mask"] = np.array([not outline for outline in raw.outlines])
    is_bad = np.any(list(faults.values()), axis=0)
    if is_bad.any():
        found = {name: np.flatnonzero(fault) for name, fault in faults.items() if fault.any()}
        counts = (f"{len(numbers):,} {name} ({_describe(raw, ids, numbers[0])})" for name, numbers in found.items())
        text = f"{listed_in}: {is_bad.sum():,} of {len(ids):,} annotations cannot be used: {', '.join(counts)}"
        if is_bad.all():
            raise DataError(text)
        if on_bad_box == "error":
            raise DataError(f"{text}; correct them, or leave them out with data.on_bad_box=drop")
        defects.append(f"{text}; they are left out")
    clipped = np.flatnonzero(~is_bad & (np.abs(boxes - raw.boxes).max(1) > 1))  # pixel; less is rounding
    if len(clipped):
        where = _describe(raw, ids, clipped[0])
        remarks.append(f"{listed_in}: clipped {len(clipped):,} boxes that extend beyond their image ({where})")
    good = np.flatnonzero(~is_bad)
    index = replace(raw, boxes=boxes).take(good[np.argsort(raw.images[good], kind="stable")])

    if on_missing_image == "drop":
        is_there = np.array([os.path.lexists(raw.name(position)) for position in range(len(raw))])
        if missing := [raw.source.paths[position] for position in np.flatnonzero(~is_there).tolist()]:
            defects.append(f"{listed_in}: left out {len(missing):,} images without a file ({join_names(missing)})")
            index = index.select(np.flatnonzero(is_there))
    paths = list(index.source.paths)
    index_listed(index.root, paths, [0] * len(paths), raw.class_names, listed_in)  # requires files inside the folder
    if not len(index.images):
        raise DataError(f"{listed_in}: has no annotation that can be used")
    if len(empty := np.setdiff1d(np.arange(len(index)), index.images)):
        where = printable(paths[empty[0]])
        remarks.append(f"{listed_in}: {len(empty):,} of {len(index):,} images have no object ({where})")
    if absent := [raw.class_names[label] for label in np.flatnonzero(index.object_counts() == 0).tolist()]:
        remarks.append(f"{listed_in}: has no object of {join_names(absent)}")
    sides = index.boxes[:, 2:] - index.boxes[:, :2]
    areas = np.where(np.isnan(index.areas), sides.prod(1), index.areas).astype(np.float32)
    return replace(index, areas=areas, defects=tuple(defects), remarks=tuple(remarks))


def _describe(raw: BoxIndex, ids: np.ndarray, number: int) -> str:
    """Identifies an object in a message."""
    if raw.images[number] < 0:
        return f"number {ids[number]:.0f}"
    box = " ".join(f"{edge:g}" for edge in raw.boxes[number].tolist())
    return f"{printable(raw.source.paths[int(raw.images[number])])}, box {box}"
