"""Reading whole files that may turn out to be anything, and how their names and sizes are printed."""

import os
import stat

from rexnet.errors import DataError

UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


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
