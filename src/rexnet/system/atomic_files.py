"""Writes files completely or not at all, and locates the user's cache."""

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rexnet.errors import ConfigError


@contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """Yields a hidden path in the same folder, for a file or a folder, and removes it on exit."""
    hidden = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")  # some writers go by the suffix
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        with suppress(OSError):
            hidden.unlink()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder, which replaces `path` if the block succeeds.

    Raises:
        ConfigError: the folder cannot be written to or the disk is full; the file at `path` is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_path(path) as temporary:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def write_file(path: Path, content: str | bytes) -> None:
    """Writes a file atomically, text as UTF-8; the errors are those of `atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically; the errors are those of `atomic_write`."""
    write_file(path, json.dumps(plain_json(content), indent=2) + "\n")


def plain_json(value: Any) -> Any:
    """Returns `value` as JSON would return it: tuples become lists, and nan, which JSON lacks, becomes None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: plain_json(entry) for name, entry in value.items()}
    return [plain_json(entry) for entry in value] if isinstance(value, list | tuple) else value


def require_writable(path: Path) -> None:
    """Checks before long work that a file can be written at `path`; leaves nothing there.

    Raises:
        ConfigError: it cannot be written, or is a folder.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; give the name of a file")
    existing = next(folder for folder in path.parents if folder.exists())
    try:
        with temporary_path(existing / path.name) as temporary:
            temporary.touch()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def cache_folder() -> Path:
    """Returns the user's folder for files that can be computed or downloaded again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rexnet"


def sha256_of(path: Path) -> str:
    """Returns the sha256 of a file as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
