"""Image files: detecting them by name, reading them, and printing their names."""

import os
import stat
from collections.abc import Iterable

from rexnet.errors import DataError

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".avif")
) | {".pbm", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k", ".jpx"}
NO_SUFFIX, HIDDEN, MISPLACED = "without suffix", "hidden", "outside of the class folders"
ADVICE = {
    ".heic": "convert .heic to JPEG, for which there is the package pillow-heif",
    ".heif": "convert .heif to JPEG, for which there is the package pillow-heif",
    NO_SUFFIX: "add a suffix, or list the files in a table (data.dataset=csv)",
    HIDDEN: "rename hidden files and folders",
}
NAMED = 5  # names in a message
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def is_hidden(name: str) -> bool:
    """True for hidden files and folders, and for the folder that archives made on a Mac contain."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(path: str) -> bool:
    """True if a file name has the suffix of an image and no folder in its path is hidden."""
    parts = path.split("/")
    return not any(map(is_hidden, parts)) and os.path.splitext(parts[-1])[1].lower() in IMAGE_SUFFIXES


LeftOut = dict[str, tuple[int, str]]
"""Files that are not taken as images: their number and the first of them, by suffix or other reason."""


def note_left_out(left_out: LeftOut, path: str) -> None:
    """Counts a file that is not taken as an image; of hidden ones only what would be an image."""
    name = path.rpartition("/")[2]
    suffix = os.path.splitext(name)[1].lower()
    reason = MISPLACED if is_image(path) else suffix or NO_SUFFIX
    if any(map(is_hidden, path.split("/"))):
        if suffix not in IMAGE_SUFFIXES or name.startswith("._") or "__MACOSX" in path:  # a Mac's own files
            return
        reason = HIDDEN
    count, first = left_out.get(reason, (0, path))
    left_out[reason] = count + 1, first


def describe_left_out(left_out: LeftOut) -> str:
    """Returns the numbers of files by reason, each with an example, and advice."""
    counts = (f"{count:,} {reason} ({printable(first)})" for reason, (count, first) in sorted(left_out.items()))
    return "; ".join([", ".join(counts), *(text for reason, text in ADVICE.items() if reason in left_out)])


def merge_left_out(one: LeftOut, other: LeftOut) -> LeftOut:
    """Returns the files of both."""
    empty = (0, "")
    return {
        reason: (one.get(reason, empty)[0] + other.get(reason, empty)[0], (one.get(reason) or other[reason])[1])
        for reason in one | other
    }


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
