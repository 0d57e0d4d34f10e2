"""Large arrays and lists of file names in memory that loader processes share."""

import mmap
import os
import sys
import weakref
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np


class SharedArray(np.ndarray):
    """A read-only array that child processes map instead of copying, whether they are forked or spawned.

    The values are in an anonymous memory file, which the size of /dev/shm does not limit; a spawned process gets its
    descriptor. Views and results of arithmetic are pickled like ordinary arrays.
    """

    descriptor: int | None

    def __array_finalize__(self, parent: Any) -> None:
        self.descriptor = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.descriptor is None or get_spawning_popen() is None:
            return np.asarray(self).__reduce_ex__(protocol)
        return _receive, (DupFd(self.descriptor), self.dtype.str, self.shape)


def share(values: np.ndarray) -> np.ndarray:
    """Returns a read-only copy of `values` in memory that all child processes share."""
    if not values.nbytes or not hasattr(os, "memfd_create"):  # macOS: spawned processes get copies
        values.setflags(write=False)
        return values
    descriptor = os.memfd_create("rexnet-index")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(np.ascontiguousarray(values).data)
    return map_shared(descriptor, values.dtype.str, values.shape)


def map_shared(descriptor: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Maps an open file as a read-only array, which closes the descriptor at its end."""
    memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    array = np.frombuffer(memory, dtype).reshape(shape).view(SharedArray)
    array.descriptor = descriptor
    weakref.finalize(array, os.close, descriptor)
    return array


def _receive(duplicate: Any, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return map_shared(duplicate.detach(), dtype, shape)


class Names(Sequence[str]):
    """Many file names as two shared arrays, which take a third of the memory of strings.

    Names that are not valid UTF-8 are preserved, as by `os.fsdecode`.
    """

    def __init__(self, text: np.ndarray, ends: np.ndarray) -> None:
        self.text, self.ends = text, ends

    @classmethod
    def pack(cls, names: Iterable[str]) -> "Names":
        """Packs the given names."""
        text, ends = bytearray(), []
        for name in names:
            text += os.fsencode(name)
            ends.append(len(text))
        return cls(share(np.frombuffer(text, np.uint8)), share(np.array(ends, np.int64)))

    def select(self, positions: Sequence[int] | np.ndarray) -> "Names":
        """Returns the names at `positions`, in that order."""
        return Names.pack(self[position] for position in np.asarray(positions).tolist())

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[str]:
        text, encoding, start = self.text.tobytes(), sys.getfilesystemencoding(), 0
        for end in self.ends.tolist():
            yield text[start:end].decode(encoding, "surrogateescape")
            start = end

    def __getitem__(self, position: Any) -> Any:
        if isinstance(position, slice):
            return [self[number] for number in range(*position.indices(len(self)))]
        number = range(len(self))[position]
        start = self.ends[number - 1] if number else 0
        return os.fsdecode(self.text[start : self.ends[number]].tobytes())
