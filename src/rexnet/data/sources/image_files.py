"""Image files: detecting them by name, reading them, and printing their names."""

import os
import stat
from collections.abc import Iterable

from rexnet.errors import DataError

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".avif")
) | {".pbm", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k", ".jpx"}
ADVICE = {
    ".heic": "convert .heic to JPEG, for which there is the package pillow-heif",
    "without suffix": "add a suffix, or list the files in a table (data.dataset=csv)",
    "hidden": "rename hidden files and folders",
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


def images_below(folder: str) -> tuple[list[str], str]:
    """Returns the paths of the images below a folder, sorted, and words for what is left out; follows no links."""

    def fail(error: OSError) -> None:
        raise DataError(f"{printable(error.filename)}: cannot be listed: {error.strerror}") from None

    paths = [os.path.join(below, name) for below, _, names in os.walk(folder, onerror=fail) for name in names]
    inner = [os.path.relpath(path, folder) for path in sorted(paths)]
    return [name for name in inner if is_image(name)], describe_left_out(name for name in inner if not is_image(name))


def describe_left_out(paths: Iterable[str]) -> str:
    """Counts paths that are not taken as images by suffix or reason, with an example of each and advice.

    Hidden files count if they would be images, and hidden folders, whose paths end with a slash.
    """
    found: dict[str, list[str]] = {}
    for path in paths:
        suffix = os.path.splitext(path)[1].lower()
        reason = "broken or outside of the class folders" if is_image(path) else suffix or "without suffix"
        if any(map(is_hidden, path.split("/"))):
            if "__MACOSX" in path or "/._" in f"/{path}" or not (path.endswith("/") or suffix in IMAGE_SUFFIXES):
                continue
            reason = "hidden"
        found.setdefault(reason, []).append(path)
    counts = (f"{len(paths):,} {reason} ({printable(paths[0])})" for reason, paths in sorted(found.items()))
    return "; ".join(filter(None, [", ".join(counts), *(ADVICE[reason] for reason in ADVICE if reason in found)]))


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
