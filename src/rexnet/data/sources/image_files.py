"""Files of a data set: which are images by their names, reading what may be anything, and how they are printed."""

import os
import stat

from rexnet.errors import DataError

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".avif")
)
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that nobody means: of the system, or what archives of a Mac add."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(path: str) -> bool:
    """Whether a file is an image by its name; nothing in a hidden folder is."""
    parts = path.split("/")
    return not any(map(is_hidden, parts)) and os.path.splitext(parts[-1])[1].lower() in IMAGE_SUFFIXES


def read_file(path: str) -> bytes:
    """The content of a regular file; its name may be in any encoding.

    Raises:
        DataError: the file is missing, unreadable or not a regular file.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would wait for ever
            raise DataError(f"{printable(path)}: is not a regular file")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise DataError(f"{printable(path)}: cannot be read: {error.strerror}") from None


def size_text(size: float) -> str:
    """`size` bytes for people, in the unit that fits."""
    unit, name = next(((unit, name) for unit, name in UNITS if size >= unit), UNITS[-1])
    return f"{size / unit:,.1f} {name}"


def printable(path: str | os.PathLike[str]) -> str:
    """`path` on one line of valid text: odd bytes and control characters are shown by their numbers."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
