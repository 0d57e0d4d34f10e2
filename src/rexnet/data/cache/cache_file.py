"""Pixels of a whole split in one file, which all loader processes map into memory.

    head     magic and number of images
    table    int64 (n, 3): offset in the file, height and width of each image
    pixels   uint8 (height, width, 3) of each image

One process writes the file from beginning to end; it gets its name only when it is complete, and is never changed.
"""

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

MAGIC = b"rexnet image cache 3\0\0\0\0"
HEAD = struct.Struct("<24sQ")
Shape = tuple[int, int, int]


class ImageCache(Sequence[np.ndarray]):
    """The images of a complete cache file, uint8 (height, width, 3), read-only; other processes map it again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pixels = np.asarray(np.memmap(path, np.uint8, "r"))
        _, count = HEAD.unpack_from(self._pixels.data)
        self._table = self._pixels[HEAD.size : HEAD.size + 24 * count].view("<i8").reshape(count, 3)

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, position: Any) -> Any:
        start, height, width = self._table[position].tolist()
        return self._pixels[start : start + height * width * 3].reshape(height, width, 3)

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageCache, (self.path,)


def open_cache(path: Path, count: int) -> ImageCache | None:
    """Opens a cache file; returns None if there is none, or if it is not a complete cache of `count` images."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD.size)
    except FileNotFoundError:
        return None
    size = path.stat().st_size
    if head != HEAD.pack(MAGIC, count) or size < HEAD.size + 24 * count:
        return None
    cache = ImageCache(path)
    start, height, width = cache._table[-1].tolist()
    return cache if start + height * width * 3 == size else None


def write_cache(file: BinaryIO, batches: Iterable[tuple[Sequence[Shape], np.ndarray]], count: int) -> None:
    """Writes `count` images from batches: the shapes of some images, and their pixels in a row, uint8 (bytes,)."""
    table = np.zeros((count, 3), "<i8")
    end, position = HEAD.size + table.nbytes, 0
    file.seek(end)
    for shapes, pixels in batches:
        file.write(pixels.data)
        for height, width, channels in shapes:
            table[position] = end, height, width
            end += height * width * channels
            position += 1
    assert position == count, "every image is cached"
    file.seek(0)
    file.write(HEAD.pack(MAGIC, count) + table.tobytes())
    file.flush()


def shrink(image: np.ndarray, short_side: int) -> np.ndarray:
    """Reduces `image` to a short side of `short_side` pixels by averaging; smaller images stay as they are."""
    height, width = image.shape[:2]
    factor = short_side / min(height, width)
    if factor >= 1:
        return image
    size = (max(short_side, round(width * factor)), max(short_side, round(height * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
