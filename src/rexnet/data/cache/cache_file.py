"""Decoded images that all loader processes of a node share: one file, in memory or on disk, filled as images come.

The file begins with a head, then has one word for each image, then the pixels in the order in which they came:

    head     magic, number of images, end of the used space (guarded by a lock), the boot of the machine
    words    8 bytes an image: place of its pixels / 16 (36 bits), height (14), width (14); 0: not there yet
    pixels   height * width * 3 bytes an image, from a multiple of 16 on

A word is written after its pixels, in one piece; so whatever is killed at whatever moment, an image is either whole or
not there. Two processes that decode the same image at once write it twice, and either is right. Writing goes through
system calls, so that a full disk is an error and not a signal; reading through a memory map, without a copy.
"""

import contextlib
import fcntl
import logging
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rexnet.errors import DataError

log = logging.getLogger(__name__)

MAGIC = b"rexnet image cache 1"
HEAD = struct.Struct("<20sxxxxQQ40s")  # magic, images, end of the used space, boot
HEAD_BYTES, END_OFFSET, BOOT_OFFSET, BOOT_BYTES = 128, 32, 40, 40
ANY_BOOT = b"any"
WORD_BYTES = 8
ALIGNMENT = 16
SIDE_BITS = 14
MOST_BYTES = ALIGNMENT << 64 - 2 * SIDE_BITS  # 1 TiB, what a word can point to


class ImageCache:
    """An open cache file.

    Args:
        path: the file; made, or begun anew where it does not fit.
        count: images of the data set.
        capacity: bytes for pixels in a new file; what comes after is not kept.

    Raises:
        DataError: the file cannot be made.
    """

    def __init__(self, path: Path, count: int, capacity: int) -> None:
        self.path, self.count = path, count
        self._warned = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _open(path, count, capacity)
            self._map()
        except OSError as error:
            raise DataError(f"data.cache: {path} cannot be made: {error.strerror}") from None

    def take(self, position: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The image at `position`, uint8 (height, width, 3), read-only; made and kept where it is not there yet."""
        word = int(self._words[position])
        if word == 0:
            image = make()
            self.put(position, image)
            return image
        width, height = word & _mask(SIDE_BITS), word >> SIDE_BITS & _mask(SIDE_BITS)
        start = (word >> 2 * SIDE_BITS) * ALIGNMENT
        return self._bytes[start : start + height * width * 3].reshape(height, width, 3)

    def put(self, position: int, image: np.ndarray) -> None:
        """Keeps an image, if there is room for it."""
        height, width = image.shape[:2]
        start = self._reserve(image.nbytes) if max(height, width) < 1 << SIDE_BITS else None
        if start is None or not _write(self._file, np.ascontiguousarray(image), start):
            self._warn()
            return
        word = (start // ALIGNMENT) << 2 * SIDE_BITS | height << SIDE_BITS | width
        os.pwrite(self._file, struct.pack("<Q", word), HEAD_BYTES + position * WORD_BYTES)

    @property
    def filled(self) -> int:
        """Images that are there."""
        return int(np.count_nonzero(self._words))

    @property
    def used_bytes(self) -> int:
        """Size of what is there."""
        (end,) = struct.unpack("<Q", os.pread(self._file, 8, END_OFFSET))
        return int(end)

    def finish(self) -> None:
        """Puts a file on disk that holds all images into safety; from then on it also outlives a crash."""
        assert self.filled == self.count
        os.fsync(self._file)
        os.pwrite(self._file, ANY_BOOT.ljust(BOOT_BYTES, b"\0"), BOOT_OFFSET)
        os.fsync(self._file)

    def unlink(self) -> None:
        """Removes the name, so that the space is free as soon as the last process ends, even by force."""
        self.path.unlink(missing_ok=True)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def _map(self) -> None:
        view = mmap.mmap(self._file, 0, access=mmap.ACCESS_READ)
        self._bytes = np.frombuffer(view, np.uint8)
        self._words = np.frombuffer(view, "<u8", count=self.count, offset=HEAD_BYTES)

    def _reserve(self, size: int) -> int | None:
        """Start of `size` bytes that are now this process's own, or None where the file is full."""
        with _locked(self._file):
            (start,) = struct.unpack("<Q", os.pread(self._file, 8, END_OFFSET))
            end = _align(start + size)
            if end > min(len(self._bytes), MOST_BYTES):
                return None
            os.pwrite(self._file, struct.pack("<Q", end), END_OFFSET)
        return int(start)

    def _warn(self) -> None:
        if not self._warned:
            log.warning("data.cache: %s is full; the other images are decoded each time", self.path)
        self._warned = True

    def __getstate__(self) -> dict[str, Any]:
        """For loader processes that are not forked: the file by way of this process, since it may have no name."""
        source = f"/proc/{os.getpid()}/fd/{self._file}"
        return {"path": self.path, "count": self.count, "_warned": False, "source": source}

    def __setstate__(self, state: dict[str, Any]) -> None:
        source = state.pop("source")
        self.__dict__.update(state)
        self._file = os.open(source, os.O_RDWR | os.O_CLOEXEC)
        self._map()


def _open(path: Path, count: int, capacity: int) -> int:
    """A descriptor of a file for `count` images, whoever else opens or replaces it at the same time."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with _locked(file):
            is_named = _is_at(path, file)
            is_new = os.fstat(file).st_size == 0
            if is_named and is_new:
                first = _align(HEAD_BYTES + count * WORD_BYTES)
                os.ftruncate(file, first + capacity)  # takes no space until it is written to
                os.pwrite(file, HEAD.pack(MAGIC, count, first, _boot()), 0)
            if is_named and (is_new or _is_usable(file, count, {ANY_BOOT, _boot()})):
                return file
            if is_named:
                path.unlink(missing_ok=True)  # not cut short, since another process may have it mapped
        os.close(file)


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:  # another process has just removed it
        return False


def is_finished(path: Path, count: int) -> bool:
    """Whether the file at `path` was filled with `count` images and put into safety, for any machine to read."""
    try:
        with open(path, "rb") as file:
            return _is_usable(file.fileno(), count, {ANY_BOOT})
    except OSError:
        return False


def _is_usable(file: int, count: int, boots: set[bytes]) -> bool:
    head = os.pread(file, HEAD.size, 0)
    if len(head) < HEAD.size:
        return False
    magic, images, end, boot = HEAD.unpack(head)
    is_whole = HEAD_BYTES + count * WORD_BYTES <= end <= os.fstat(file).st_size
    return magic == MAGIC and images == count and is_whole and boot.rstrip(b"\0") in boots


def shrink(image: np.ndarray, short_side: int) -> np.ndarray:
    """`image` reduced to a short side of `short_side` pixels, by averaging; smaller ones stay as they are."""
    height, width = image.shape[:2]
    factor = short_side / min(height, width)
    if factor >= 1:
        return image
    size = (max(short_side, round(width * factor)), max(short_side, round(height * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


@contextlib.contextmanager
def _locked(file: int) -> Iterator[None]:
    """Holds the file's head for one process; the kernel frees the lock of a process that dies."""
    fcntl.lockf(file, fcntl.LOCK_EX, HEAD_BYTES)
    try:
        yield
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN, HEAD_BYTES)


def _write(file: int, image: np.ndarray, start: int) -> bool:
    """Whether all of the pixels found room."""
    try:
        return os.pwrite(file, image.data.cast("B"), start) == image.nbytes
    except OSError:  # the disk or the memory is full
        return False


def _boot() -> bytes:
    """The name of this boot: what was written but not flushed before a crash of the machine cannot be trusted."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        return b"unknown"


def _align(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _mask(bits: int) -> int:
    return (1 << bits) - 1
