"""Finds the image files that paths, folders and patterns name."""

import glob
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rexnet.data.sources.image_files import is_hidden, is_image, printable
from rexnet.errors import DataError


class Found(NamedTuple):
    """A file that may be an image."""

    path: str
    is_named: bool
    """True if the user or the suffix says that it is an image; other files are left out if they are not."""
    fault: str = ""
    """The error of listing its folder."""


def require_inputs(inputs: Sequence[str]) -> None:
    """Checks that every argument names a file.

    Raises:
        DataError: a path does not exist, a pattern matches nothing, or a folder has no files.
    """
    for given in inputs:
        if not os.path.lexists(given) and not glob.has_magic(given):
            raise DataError(f"{printable(given)}: no such file or folder")
        if next(find_files([given]), None) is None:
            what = "is a folder without files" if os.path.isdir(given) else "is a pattern that no file matches"
            raise DataError(f"{printable(given)}: {what}")


def find_files(inputs: Sequence[str]) -> Iterator[Found]:
    """Yields the files that the arguments name; folders with all files below them, sorted by name."""
    for given in inputs:
        if os.path.isdir(given):
            yield from _below(given, ())
        elif os.path.lexists(given):
            yield Found(given, is_named=True)
        else:
            yield from (Found(path, is_named=True) for path in _matching(given))


def _matching(pattern: str) -> list[str]:
    """Returns the files that match, sorted by name; each once, by its shortest path, if links make circles."""
    found: dict[tuple[str, str], str] = {}
    for path in sorted(glob.iglob(pattern, recursive=True), key=len):
        if not os.path.isdir(path):
            folder, name = os.path.split(path)
            found.setdefault((os.path.realpath(folder), name), path)
    return sorted(found.values())


def _below(folder: str, above: tuple[str, ...]) -> Iterator[Found]:
    """Yields the files below a folder, without hidden ones; links to folders are followed, but not in circles."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        yield Found(folder, True, f"{printable(folder)}: cannot be listed: {error.strerror}")
        return
    for entry in sorted(shown, key=lambda entry: entry.name):
        if os.path.isdir(entry.path):
            yield from _below(entry.path, (*above, real))
        else:
            yield Found(entry.path, is_image(entry.name))
