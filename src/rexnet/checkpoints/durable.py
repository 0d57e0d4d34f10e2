"""Saves checkpoints so that none is lost: written next to the target, synced, read back, then renamed over it."""

import contextlib
import math
import os
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from rexnet.errors import CheckpointError
from rexnet.models.safe_load import walk_tensors

SPARE = 1 << 20  # bytes that must stay free next to the file, for what the file system itself writes


def save_durably(content: Any, path: Path, backup: str | None = None) -> None:
    """Replaces a checkpoint completely or not at all, whenever the process is killed or the disk fills up.

    The content is plain values and tensors, for `torch.save`. `backup` names the replaced file, in the same folder.

    Raises:
        CheckpointError: the file could not be written, is damaged or does not load; the previous one is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _require_space(content, path.parent)
        _write(content, temporary)
        damage = find_damage(temporary)
        if damage is not None:
            raise OSError(f"what was read back differs from what was written ({damage}); the disk or memory is faulty")
        try:
            torch.load(temporary, map_location="cpu", mmap=True, weights_only=True)
        except Exception as error:  # such as one for content that would execute code
            raise OSError(f"it could not be loaded again: {error}") from None
        if backup is not None and path.is_file():
            _keep(path, path.with_name(backup))
        os.replace(temporary, path)
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # so that the renaming survives a power cut
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CheckpointError(f"{path}: could not be written, the previous file is untouched: {error}") from error
    finally:
        with contextlib.suppress(OSError):  # a read-only folder
            temporary.unlink(missing_ok=True)


def find_damage(path: Path) -> str | None:
    """Returns the fault of a checkpoint in words, or None for a whole file.

    The checksums of its zip archive find every changed value; `torch.load` does not compare them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # PyTorch writes 0 there; of a part on another volume, or of a folder, it would read uninitialized memory.
            odd = (member.filename for member in archive.infolist() if member.volume or member.external_attr)
            member = next(odd, None) or archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError):
        return "truncated or not one"
    return None if member is None else f"damaged: its part {member} does not match its checksum"


def remove_stale_temporaries(folder: Path) -> list[str]:
    """Deletes the unfinished files of killed processes and returns their names."""
    stale = [file for file in folder.glob(".*.tmp") if file.is_file()]
    for file in stale:
        file.unlink(missing_ok=True)
    return sorted(file.name for file in stale)


def _require_space(content: Any, folder: Path) -> None:
    size = sum(tensor.numel() * tensor.element_size() for _, tensor in walk_tensors(content))
    needed = math.ceil(1.02 * size) + SPARE  # 2 % for names and everything else that is no tensor
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"it needs {needed:,} bytes, and {free:,} are free in {folder}")


def _write(content: Any, path: Path) -> None:
    with open(path, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch.save replaces the file system's error by one of its own
            raise error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error)) from None
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):  # reading back must ask the disk, not the page cache
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _keep(path: Path, previous: Path) -> None:
    """Makes `previous` another name of the file at `path`."""
    link = previous.with_name(f".{previous.name}.{os.getpid()}.tmp")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
        os.replace(link, previous)
        link.unlink(missing_ok=True)  # renaming between two names of one file does nothing
    except OSError:  # a file system without links: for a moment only the previous file exists
        os.replace(path, previous)
