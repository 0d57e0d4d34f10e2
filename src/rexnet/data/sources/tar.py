"""Images straight out of a tar: an index of its members, made once, and reading by position.

The format is POSIX.1-1988 ustar with the GNU and pax extensions, as `tarfile` reads it. Tars inside the tar, as in
ImageNet's training archive, are entered as if they were folders.
"""

import hashlib
import logging
import os
import tarfile
import weakref
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from rexnet.data.sources.image_files import is_image, printable, size_text
from rexnet.data.sources.shared_memory import Names, share
from rexnet.errors import ConfigError, DataError, first_sentence
from rexnet.system.atomic_files import atomic_write, cache_folder
from rexnet.system.terminal import progress_bar

log = logging.getLogger(__name__)

FORMAT = 1
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK\3\4")  # gzip, bzip2, xz, zstd, zip
BLOCK = 512
LARGE = 1 << 30


class Members(NamedTuple):
    """The images in a tar, folder by folder in order of name."""

    names: Names
    """Path of each; a tar inside the tar counts as a folder of its name."""
    spans: np.ndarray
    """Offset and size in bytes, int64 (n, 2)."""
    stamp: tuple[int, int]
    """Size and modification time (ns) of the tar."""


class Archive:
    """An open tar, read by position; any number of processes may read at once.

    Raises:
        DataError: the file is gone, or is not the one that was indexed.
    """

    def __init__(self, path: Path, stamp: tuple[int, int]) -> None:
        self.path, self.stamp = path, stamp
        try:
            self.descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        weakref.finalize(self, os.close, self.descriptor)
        status = os.fstat(self.descriptor)
        if (status.st_size, status.st_mtime_ns) != stamp:
            raise DataError(f"{path}: has changed since it was indexed; start again")

    def __reduce__(self) -> tuple[type["Archive"], tuple[Path, tuple[int, int]]]:
        return Archive, (self.path, self.stamp)  # each process opens its own

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on.

        Raises:
            DataError: the tar ends before.
        """
        content = os.pread(self.descriptor, size, offset)
        if len(content) != size:
            raise DataError(f"{self.path}: ends at byte {offset + len(content):,}, inside an image")
        return content


def load_members(path: Path) -> Members:
    """The images in the tar at `path`, from the index beside it, which is made if it is missing or out of date.

    Where the tar's folder cannot be written, the index goes to the user's cache folder.

    Raises:
        DataError: the tar is missing, compressed, truncated or damaged.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    stamp = (status.st_size, status.st_mtime_ns)
    places = _index_places(path)
    for place in places:
        members = _read_index(place, stamp)
        if members is not None:
            return members
    if status.st_size > LARGE:
        log.info(f"{path}: making an index of its {size_text(status.st_size)}, once")
    members = scan(path, stamp)
    if not any(_write_index(place, members) for place in places):
        log.warning(f"{path}: its index could not be kept, so the next run makes it again")
    return members


def scan(path: Path, stamp: tuple[int, int]) -> Members:
    """The images in a tar, by its headers.

    Raises:
        DataError: it is compressed, truncated or damaged, or holds links or sparse files in the place of images.
    """
    rows: list[tuple[str, int, int]] = []
    with open(path, "rb") as file, progress_bar(stamp[0], "B", unit_scale=True, delay=1) as bar:
        if file.read(6).startswith(COMPRESSED):
            raise DataError(
                f"{path}: is compressed; images are read by position, so unpack it, or make it a plain .tar"
            )
        for row in _walk(file, path, 0, stamp[0], ""):
            rows.append(row)
            bar.update(row[1] - bar.n)
    rows.sort(key=lambda row: by_folder(row[0]))
    spans = np.array([row[1:] for row in rows], np.int64).reshape(-1, 2)
    return Members(Names.pack(row[0] for row in rows), share(spans), stamp)


def by_folder(name: str) -> str:
    """A key that sorts paths folder by folder, where `a/x` comes before `a-b/x`."""
    return name.replace("/", "\0")


def _walk(file: BinaryIO, path: Path, start: int, end: int, prefix: str) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each image between two bytes of `file` that hold a tar."""
    file.seek(start)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            kept: list[tarfile.TarInfo] = tar.members  # type: ignore[attr-defined]  # missing in typeshed
            while (member := tar.next()) is not None:
                kept.clear()  # they would take a kilobyte each
                if member.isreg() and member.offset_data + member.size > end:
                    raise _truncated(path, member.offset_data)
                name = prefix + member.name.removeprefix("./")
                if member.isreg() and not prefix and name.lower().endswith(".tar"):
                    inner_end = member.offset_data + member.size
                    yield from _walk(file, path, member.offset_data, inner_end, f"{name[: -len('.tar')]}/")
                elif is_image(name) and not member.isdir():
                    yield name, *_span(member, path)
            _require_end(file, path, tar.offset, end)
    except tarfile.TarError as error:
        raise DataError(f"{path}: is not a sound tar, truncated or damaged: {first_sentence(error)}") from None


def _span(member: tarfile.TarInfo, path: Path) -> tuple[int, int]:
    if not member.isreg() or member.issparse():
        kind = "a sparse file" if member.issparse() else "a link" if member.linkname else "not a file"
        raise DataError(f"{path}: {printable(member.name)} is {kind}; pack the images themselves (tar --dereference)")
    return member.offset_data, member.size


def _require_end(file: BinaryIO, path: Path, offset: int, end: int) -> None:
    """A tar ends with a block of zeros; `tarfile` takes any damaged header after the first for its end."""
    file.seek(offset)
    if offset + BLOCK > end or file.read(BLOCK) != bytes(BLOCK):
        raise _truncated(path, offset)


def _truncated(path: Path, offset: int) -> DataError:
    return DataError(f"{path}: is truncated or damaged at byte {offset:,} of {path.stat().st_size:,}; copy it again")


def _index_places(path: Path) -> tuple[Path, Path]:
    name = f".{path.name}.index.npz"
    of_path = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]
    return path.with_name(name), cache_folder() / f"{of_path}{name}"


def _read_index(place: Path, stamp: tuple[int, int]) -> Members | None:
    """The index at `place`, or None if it is missing, damaged, or of another state of the tar."""
    try:
        with open(place, "rb") as file, np.load(file, allow_pickle=False) as content:
            if content["stamp"].tolist() != [FORMAT, *stamp]:
                return None
            names = Names(share(content["text"]), share(content["ends"]))
            return Members(names, share(content["spans"]), stamp)
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write_index(place: Path, members: Members) -> bool:
    """Whether the index could be written; others see all of it or nothing."""
    stamp = np.array([FORMAT, *members.stamp], np.int64)
    try:
        with atomic_write(place) as temporary:
            np.savez(temporary, text=members.names.text, ends=members.names.ends, spans=members.spans, stamp=stamp)
    except ConfigError:
        return False
    return True
