"""Files that are not lost and do not change unnoticed: written beside the target, read back, renamed over it.

A digest lies beside each file in the format of `sha256sum`, so `sha256sum -c last.ckpt.sha256` checks it by hand.
"""

import contextlib
import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from rexnet.errors import CheckpointError
from rexnet.system.atomic_files import sha256_of

CHUNK = 1 << 20
SPARE = 1 << 20  # bytes that must stay free beside the file: for digests and what the file system itself writes


def write_durably(
    path: Path,
    write: Callable[[Any], object],
    size: int,
    check: Callable[[Path], object] | None = None,
    backup: str | None = None,
) -> None:
    """Replaces `path`, completely or not at all, at whatever moment the process is killed or the disk fills up.

    Args:
        path: the file.
        write: writes the content to the file object that it is given.
        size: bytes to come, about; they must be free, since the previous file stays until the new one is whole.
        check: raises an OSError where the finished file is not what it should be.
        backup: name, in the same folder, under which the replaced file is kept.

    Raises:
        CheckpointError: it could not be written or does not read back; what was there before is untouched.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < size + SPARE:
            raise OSError(f"it needs {size + SPARE:,} bytes, and {free:,} are free in {path.parent}")
        digest = _write_and_read_back(temporary, write)
        if check is not None:
            check(temporary)
        if backup is not None and path.is_file():
            _keep(path, path.with_name(backup))
        _install(temporary, path, digest)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path}: could not be written, the previous file is untouched: {error}") from error
    finally:
        with contextlib.suppress(OSError):  # of a read-only folder
            temporary.unlink(missing_ok=True)


def find_damage(path: Path) -> str | None:
    """What is wrong with a file, in words, or None: by the digest beside it, else by the checksums of its zip archive.

    A file without a digest was copied here alone; `torch.load` would not even notice a flipped bit in it.
    """
    if digest_path(path).is_file():
        if _read_digests(path) & {sha256_of(path)}:
            return None
        return f"damaged: its sha256 is not the one in {digest_path(path).name}"
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError):
        return "truncated or not one"
    return None if member is None else f"damaged: its part {member} does not match its checksum"


def remove_durable(path: Path) -> None:
    """Deletes a file and its digest."""
    path.unlink(missing_ok=True)
    digest_path(path).unlink(missing_ok=True)


def remove_stale_temporaries(folder: Path) -> list[str]:
    """Deletes what killed processes left half-written, and returns the names."""
    stale = [file for file in folder.glob(".*.tmp") if file.is_file()]
    stale += [file for file in folder.glob("*.sha256") if not file.with_suffix("").exists()]
    for file in stale:
        file.unlink(missing_ok=True)
    return sorted(file.name for file in stale)


def digest_path(path: Path) -> Path:
    """Where the digest of a file lies."""
    return path.with_name(f"{path.name}.sha256")


class _HashingFile:
    """A file that is hashed while it is written, and that remembers the error which its writer may hide."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest, self.error = file, hashlib.sha256(), None

    def write(self, data: Any) -> int:
        try:
            written = self.file.write(data)
        except OSError as error:
            self.error = error  # type: ignore[assignment]
            raise
        self.digest.update(data)
        return written

    def flush(self) -> None:
        self.file.flush()


def _write_and_read_back(path: Path, write: Callable[[Any], object]) -> str:
    """Writes a file through to the disk and returns its digest, once what is read equals what was written."""
    with open(path, "wb") as file:
        hashing = _HashingFile(file)
        try:
            write(hashing)
        except RuntimeError:  # torch.save turns a full disk into one
            raise (hashing.error or OSError("the content could not be turned into bytes")) from None
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):  # so that reading asks the disk, not the memory it was written from
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    digest = hashing.digest.hexdigest()
    if sha256_of(path) != digest:
        raise OSError("what was read back differs from what was written; the disk or the memory is faulty")
    return digest


def _install(temporary: Path, target: Path, digest: str) -> None:
    """Renames a finished file over its target.

    Two files cannot be replaced at once. So the digests of the old and the new one stand beside the target while it is
    renamed: whenever the process is killed, the file that is there has its digest.
    """
    old = _read_digests(target) if target.exists() else set()
    _write_digests(target, {digest} | old)
    os.replace(temporary, target)
    _sync_folder(target.parent)
    if old - {digest}:
        _write_digests(target, {digest})


def _keep(path: Path, previous: Path) -> None:
    """Makes `previous` another name of the file at `path`, which stays where it is."""
    digests, link = _read_digests(path), _temporary(previous)
    _write_digests(previous, digests | (_read_digests(previous) if previous.exists() else set()))
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
        os.replace(link, previous)
        link.unlink(missing_ok=True)  # renaming between two names of one file does nothing
    except OSError:  # a file system without links: for a moment there is only the previous file
        os.replace(path, previous)
    _write_digests(previous, digests)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _read_digests(path: Path) -> set[str]:
    """The digests that are noted for a file: one, or two while it is being replaced."""
    try:
        lines = digest_path(path).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    return {line.partition(" ")[0] for line in lines}


def _write_digests(path: Path, digests: set[str]) -> None:
    target = digest_path(path)
    temporary = _temporary(target)
    with open(temporary, "w", encoding="ascii") as file:
        file.writelines(f"{digest}  {path.name}\n" for digest in sorted(digests))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Makes the renaming itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
