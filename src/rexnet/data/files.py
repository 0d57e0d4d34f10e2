"""Reading whole files that may turn out to be anything."""

import os
import stat

from rexnet.errors import DataError


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


def printable(path: str | os.PathLike[str]) -> str:
    """`path` on one line of valid text: odd bytes and control characters are shown by their numbers."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
