"""Masks of objects in little memory: polygons, or COCO's run lengths."""

from collections.abc import Iterable
from typing import Any

import numpy as np

POLYGONS, RUNS = b"P", b"R"


class Outlines:
    """The masks of many objects as two arrays, which forked loader processes share.

    The code of an object is empty, or `P` with the coordinates of its polygons as float32, separated by NaN, or `R`
    with COCO's compressed run lengths.
    """

    def __init__(self, codes: np.ndarray, ends: np.ndarray) -> None:
        self.codes, self.ends = codes, ends

    @classmethod
    def pack(cls, codes: Iterable[bytes]) -> "Outlines":
        """Packs the results of `encode_outline`."""
        parts = list(codes)
        return cls(np.frombuffer(b"".join(parts), np.uint8), np.cumsum([len(part) for part in parts], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def is_empty(self) -> np.ndarray:
        """Returns True for each object without a mask, bool (m,)."""
        return np.diff(self.ends, prepend=0) == 0

    def select(self, numbers: np.ndarray) -> "Outlines":
        """Returns the masks of the objects `numbers` (n,), in that order."""
        return Outlines.pack(self._code(number) for number in numbers.tolist())

    def masks(self, objects: slice, height: int, width: int) -> np.ndarray:
        """Returns the masks of some objects of one image, uint8 (n, height, width) of 0 and 1."""
        numbers = range(*objects.indices(len(self)))
        masks = [decode_outline(self._code(number), height, width) for number in numbers]
        return np.stack(masks) if masks else np.zeros((0, height, width), np.uint8)

    def _code(self, number: int) -> bytes:
        start = self.ends[number - 1] if number else 0
        return self.codes[start : self.ends[number]].tobytes()


def encode_outline(segmentation: Any) -> bytes:
    """Encodes COCO's `segmentation`: polygons, or run lengths with their size; empty if it is neither."""
    from faster_coco_eval.core import mask

    try:
        if isinstance(segmentation, dict):
            runs = mask.segmToRle(segmentation, *segmentation["size"][::-1])["counts"]
            return RUNS + (runs.encode() if isinstance(runs, str) else runs)
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6 and len(polygon) % 2 == 0]
        values = [value for polygon in polygons for value in (*polygon, np.nan)]
        return POLYGONS + np.array(values[:-1], np.float32).tobytes() if values else b""
    except Exception:  # a dozen types for damaged masks
        return b""


def decode_outline(code: bytes, height: int, width: int) -> np.ndarray:
    """Returns the mask of an object by its code, uint8 (height, width)."""
    from faster_coco_eval.core import mask

    if code.startswith(RUNS):
        runs = {"size": [height, width], "counts": code[1:]}
    else:
        values = np.frombuffer(code[1:], np.float32)
        polygons = np.split(values, np.flatnonzero(np.isnan(values)))
        lists = [polygon[np.isfinite(polygon)].tolist() for polygon in polygons]
        runs = mask.merge(mask.frPyObjects(lists, height, width))
    decoded: np.ndarray = mask.decode(runs)
    return decoded
