"""Images read directly from a tar: its members are indexed once, then read by position.

The format is POSIX.1-1988 ustar with the GNU and pax extensions, as `tarfile` reads it. Tars inside the tar, as in
ImageNet's training archive, count as folders.
"""

import hashlib
import io
import logging
import os
import tarfile
import weakref
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from rexnet.data.sources.image_files import describe_left_out, is_image, printable, size_text
from rexnet.data.sources.names import Names
from rexnet.data.sources.source import Source, digest
from rexnet.errors import ConfigError, DataError, first_sentence
from rexnet.system.atomic_files import atomic_write, cache_folder
from rexnet.system.terminal import progress_bar

log = logging.getLogger(__name__)

FORMAT = 2
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK\3\4")  # gzip, bzip2, xz, zstd, zip
BLOCK = 512
LARGE = 1 << 30
FileState = tuple[int, int]  # size and modification time (ns)


class Members(NamedTuple):
    """The images in a tar, folder by folder in the order of their names."""

    paths: Names
    spans: np.ndarray  # offset and size in bytes, int64 (n, 2)
    labels: np.ndarray  # content of `NAME.cls` next to `NAME.jpg` (WebDataset), int64 (n,); -1 without one


class TarSource(Source):
    """Images in a tar, read by position from any number of processes, each with its own file descriptor.

    `spans` are offset and size of each image in bytes, int64 (n, 2); `state` is that of the tar when it was indexed.
    """

    def __init__(self, root: Path, paths: Names, spans: np.ndarray, state: FileState) -> None:
        self.root, self.paths, self.spans, self.state = root, paths, spans, state
        try:
            self.descriptor = os.open(root, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"{root}: cannot be read: {error.strerror}") from None
        weakref.finalize(self, os.close, self.descriptor)
        if _state_of(os.fstat(self.descriptor)) != state:
            raise DataError(f"{root}: has changed since it was indexed; start again")

    def __reduce__(self) -> tuple[Any, ...]:
        return TarSource, (self.root, self.paths, self.spans, self.state)

    def read(self, position: int) -> bytes:
        offset, size = self.spans[position].tolist()
        content = os.pread(self.descriptor, size, offset)
        if len(content) != size:
            raise DataError(f"{self.root}: ends at byte {offset + len(content):,}, inside an image")
        return content

    def select(self, positions: Sequence[int] | np.ndarray) -> "TarSource":
        chosen = np.asarray(positions, dtype=np.int64)
        return TarSource(self.root, self.paths.select(chosen), self.spans[chosen], self.state)

    def join(self, other: Source) -> "TarSource":
        if not isinstance(other, TarSource) or other.root != self.root:
            raise DataError(f"{self.root} and {other.root}: images of two archives cannot be joined")
        names = Names.pack(path for source in (self, other) for path in source.paths)
        return TarSource(self.root, names, np.concatenate((self.spans, other.spans)), self.state)

    def stamp(self) -> str:
        return digest([f"{self.state}", *self.paths])


def open_tar(path: Path) -> TarSource:
    """Opens the images in a tar, folder by folder in the order of their names.

    Uses the index file next to the tar, which is created if it is missing or out of date. If the folder of the tar is
    read-only, the index goes to the user's cache folder.
    """
    try:
        state = _state_of(path.stat())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    name, key = index_name(path.name), hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]
    places = (path.with_name(name), cache_folder() / f"{key}{name}")
    for place in places:
        if os.access(place, os.R_OK) and place.is_file() and (members := read_index(place.read_bytes(), *state)):
            return TarSource(path, members.paths, members.spans, state)
    if state[0] > LARGE:
        log.info(f"{path}: indexing {size_text(state[0])}, once")
    with open(path, "rb") as file, progress_bar(state[0], "B", unit_scale=True, delay=1) as bar:
        members = scan(file, path, state[0], lambda offset: bar.update(offset - bar.n))
    if not any(_write_index(place, members, state) for place in places):
        log.warning(f"{path}: its index could not be saved, so the next run creates it again")
    return TarSource(path, members.paths, members.spans, state)


def index_name(name: str) -> str:
    """Returns the name of the index file next to a tar."""
    return f".{name}.index.npz"


def scan(file: BinaryIO, path: Path, size: int, progress: Callable[[int], object] = lambda offset: None) -> Members:
    """Finds the images in a tar of `size` bytes by reading its headers."""
    if file.read(6).startswith(COMPRESSED):
        raise DataError(f"{path}: is compressed, so images cannot be read by position; decompress it to a .tar")
    rows: list[tuple[str, int, int]] = []
    labels: dict[str, int] = {}
    left_out: list[str] = []
    for name, offset, length in _walk(file, path, 0, size, ""):
        progress(offset)
        if is_image(name):
            rows.append((name, offset, length))
        elif name.endswith(".cls"):
            file.seek(offset)
            content = file.read(length).strip()
            labels[os.path.splitext(name)[0]] = int(content) if content.isdigit() else -1
        else:
            left_out.append(name)
    if text := describe_left_out(left_out):
        log.warning(f"{path}: left out {text}")
    rows.sort(key=lambda row: by_folder(row[0]))
    spans = np.array([row[1:] for row in rows], np.int64).reshape(-1, 2)
    found = np.array([labels.get(os.path.splitext(row[0])[0], -1) for row in rows], np.int64)
    return Members(Names.pack(row[0] for row in rows), spans, found)


def by_folder(name: str) -> str:
    """Returns a key that sorts paths folder by folder: `a/x` comes before `a-b/x`."""
    return name.replace("/", "\0")


def _state_of(status: os.stat_result) -> FileState:
    return status.st_size, status.st_mtime_ns


def _walk(file: BinaryIO, path: Path, start: int, end: int, prefix: str) -> Iterator[tuple[str, int, int]]:
    """Yields name, offset and size of each file in the tar between two bytes of `file`."""
    file.seek(start)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            kept: list[tarfile.TarInfo] = tar.members  # type: ignore[attr-defined]  # missing in typeshed
            while (member := tar.next()) is not None:
                kept.clear()  # they would take a kilobyte each
                inner_start, inner_end = member.offset_data, member.offset_data + member.size
                if member.isreg() and inner_end > end:
                    raise _truncated(path, inner_start, end)
                name = prefix + member.name.removeprefix("./")
                if member.isreg() and not prefix and name.lower().endswith(".tar"):
                    yield from _walk(file, path, inner_start, inner_end, f"{name[: -len('.tar')]}/")
                elif member.isreg() or (is_image(name) and not member.isdir()):
                    if is_image(name):
                        _require_plain(member, path)
                    yield name, inner_start, member.size
            # `tarfile` takes any damaged header after the first for the end, which is a block of zeros.
            file.seek(tar.offset)
            if tar.offset + BLOCK > end or file.read(BLOCK) != bytes(BLOCK):
                raise _truncated(path, tar.offset, end)
    except tarfile.TarError as error:
        raise DataError(f"{path}: is not a valid tar, or truncated or damaged: {first_sentence(error)}") from None


def _require_plain(member: tarfile.TarInfo, path: Path) -> None:
    if not member.isreg() or member.issparse():
        kind = "a sparse file" if member.issparse() else "a link" if member.linkname else "not a file"
        raise DataError(f"{path}: {printable(member.name)} is {kind}; pack the images themselves (tar --dereference)")


def _truncated(path: Path, offset: int, size: int) -> DataError:
    return DataError(f"{path}: is truncated or damaged at byte {offset:,} of {size:,}; copy it again")


def read_index(content: bytes, *state: int) -> Members | None:
    """Returns the images in the content of an index file, or None if it is damaged or out of date.

    `state` is the size of the tar and, unless it was copied since, its modification time.
    """
    try:
        with io.BytesIO(content) as file, np.load(file, allow_pickle=False) as index:
            if index["stamp"][: 1 + len(state)].tolist() != [FORMAT, *state]:
                return None
            return Members(Names(index["text"], index["ends"]), index["spans"], index["labels"])
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write_index(place: Path, members: Members, state: FileState) -> bool:
    """Writes the index file atomically; returns False if it cannot be written."""
    (names, spans, labels), stamp = members, np.array([FORMAT, *state], np.int64)
    try:
        with atomic_write(place) as temporary:
            np.savez(temporary, text=names.text, ends=names.ends, spans=spans, labels=labels, stamp=stamp)
    except ConfigError:
        return False
    return True
