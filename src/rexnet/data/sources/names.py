"""Lists of file names in little memory."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np


class Names(Sequence[str]):
    """Many file names as two arrays, which take a third of the memory of strings.

    Forked loader processes share the arrays: reading them changes no reference counts in their pages. Names that are
    not valid UTF-8 are preserved, as by `os.fsdecode`.
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
        return cls(np.frombuffer(text, np.uint8), np.array(ends, np.int64))

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
