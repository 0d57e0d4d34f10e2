"""Pixels of a whole split in one file, which all loader processes map into memory.

    head     magic and number of images
    table    int64 (n, 3): offset in the file, height and width of each image
    pixels   uint8 (height, width, 3) of each image

One process writes the file from beginning to end; it gets its name only when it is complete, and is never changed.
"""

import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from rexnet.data.sources.shared_memory import map_shared

MAGIC = b"rexnet image cache 2"
HEAD = struct.Struct("<24sQ")
Shape = tuple[int, int, int]


class ImageCache(Sequence[np.ndarray]):
    """The images of a cache file, uint8 (height, width, 3), read-only.

    Args:
        content: the whole file, mapped by `map_shared`, so that spawned processes map it as well.
    """

    def __init__(self, content: np.ndarray) -> None:
        self.content = content
        _, count = HEAD.unpack_from(content.data)
        self._pixels = np.asarray(content)
        self._table = self._pixels[HEAD.size : HEAD.size + 24 * count].view("<i8").reshape(count, 3)

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, position: Any) -> Any:
        start, height, width = self._table[position].tolist()
        return self._pixels[start : start + height * width * 3].reshape(height, width, 3)

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageCache, (self.content,)


def open_cache(path: Path, count: int) -> ImageCache | None:
    """Opens a cache file; returns None if there is none, or if it is not a complete cache of `count` images."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    size = os.fstat(descriptor).st_size
    if size < HEAD.size + 24 * count or HEAD.unpack(os.pread(descriptor, HEAD.size, 0)) != (_magic(), count):
        os.close(descriptor)
        return None
    cache = ImageCache(map_shared(descriptor, "|u1", (size,)))
    start, height, width = cache._table[-1].tolist()
    return cache if start + height * width * 3 == size else None


def write_cache(file: BinaryIO, batches: Iterable[tuple[Sequence[Shape], np.ndarray]], count: int) -> None:
    """Writes a cache file of `count` images.

    Args:
        file: an empty file.
        batches: the shapes of some images and their pixels one after the other, uint8 (bytes,).
        count: number of images in all batches.
    """
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


def _magic() -> bytes:
    return MAGIC.ljust(24, b"\0")
