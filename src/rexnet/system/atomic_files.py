"""Files that are there whole or not at all, and where those go that can be made or fetched again."""

import glob
import hashlib
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rexnet.errors import ConfigError

ABANDONED_S = 3600.0  # containers of one host name do not see each other's processes


@contextmanager
def made(folder: Path, keep: bool = True) -> Iterator[None]:
    """Makes a folder and its parents; those that were not there go again if the block fails, or by `keep=False`."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        keep = False
        raise
    finally:
        if not keep:
            with suppress(OSError):  # somebody else has put something there
                for place in new:
                    place.rmdir()


@contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """Lends a hidden path beside `path` for what is in the making, a file or a folder; nothing is there afterwards.

    What killed processes of this machine left there for the same `path` an hour ago or before goes as well.
    """
    mark = f".{path.stem}.{platform.node()}-"
    for left in path.parent.glob(f"{glob.escape(mark)}*{glob.escape(path.suffix)}"):
        process = left.name.removeprefix(mark).removesuffix(path.suffix)
        if process.isdecimal() and not _is_alive(int(process)) and _age(left) > ABANDONED_S:
            _remove(left)
    hidden = path.with_name(f"{mark}{os.getpid()}{path.suffix}")  # some writers go by the suffix
    try:
        yield hidden
    finally:
        _remove(hidden)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:  # gone meanwhile
        return 0.0


def _remove(path: Path) -> None:
    with suppress(OSError):  # not there, or its folder is none
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Lends a temporary path beside `path`, which takes its place once the block has ended well.

    Raises:
        ConfigError: the folder cannot be written to or the disk is full; what was at `path` before is untouched.
    """
    try:
        with made(path.parent), temporary_path(path) as temporary:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def require_writable(path: Path) -> None:
    """Checks before long work that a file can be written at `path`; leaves nothing there.

    Raises:
        ConfigError: it cannot, or a folder is there.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; give the name of a file")
    try:
        with made(path.parent, keep=False), temporary_path(path) as temporary:
            temporary.touch()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def cache_folder() -> Path:
    """The user's folder for files that can be made or fetched again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rexnet"


def sha256_of(path: Path) -> str:
    """The digest of a file's content, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
