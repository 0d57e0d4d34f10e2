"""Image files: detecting them by name, reading them, and printing their names."""

import os
import stat
from collections.abc import Iterable

from rexnet.errors import DataError

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".avif")
)
NAMED = 5  # names in a message
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def is_hidden(name: str) -> bool:
    """True for hidden files and folders, and for the folder that archives made on a Mac contain."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(path: str) -> bool:
    """True if a file name has the suffix of an image and no folder in its path is hidden."""
    parts = path.split("/")
    return not any(map(is_hidden, parts)) and os.path.splitext(parts[-1])[1].lower() in IMAGE_SUFFIXES


def read_file(path: str) -> bytes:
    """Reads a regular file; its name may be in any encoding."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would block forever
            raise DataError(f"{printable(path)}: is not a regular file")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise DataError(f"{printable(path)}: cannot be read: {error.strerror}") from None


def size_text(size: float) -> str:
    """Formats a number of bytes, such as `1.3 GB`."""
    unit, name = next(((unit, name) for unit, name in UNITS if size >= unit), UNITS[-1])
    return f"{size / unit:,.1f} {name}"


def printable(path: str | os.PathLike[str]) -> str:
    """Formats a path as one line of valid text, with escapes for odd bytes and control characters."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def join_names(names: Iterable[str]) -> str:
    """Returns the first names for a message, and the number of the others."""
    shown = [printable(name) for name in names]
    rest = f" and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    return ", ".join(shown[:NAMED]) + rest if shown else "nothing"
