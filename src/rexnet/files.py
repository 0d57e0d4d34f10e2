"""Files that are there whole or not at all, and where those go that can be made or fetched again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rexnet.errors import ConfigError


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
def written_whole(path: Path) -> Iterator[Path]:
    """Lends a temporary path beside `path`, which takes its place once the block has ended well.

    Raises:
        ConfigError: the folder cannot be written to or the disk is full; what was at `path` before is untouched.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")  # some writers go by the suffix
    try:
        with made(path.parent):
            try:
                yield temporary
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                with suppress(OSError):  # not there, or its folder is none
                    temporary.unlink()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def require_writable(path: Path) -> None:
    """Checks before long work that a file can be written at `path`; leaves nothing there.

    Raises:
        ConfigError: it cannot, or a folder is there.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; give the name of a file")
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with made(path.parent, keep=False):
            temporary.touch()
            temporary.unlink()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def cache_folder() -> Path:
    """The user's folder for files that can be made or fetched again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rexnet"
