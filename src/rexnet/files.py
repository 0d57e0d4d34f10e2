"""Files that are there whole or not at all, and where those go that can be made or fetched again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rexnet.errors import ConfigError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Lends a temporary path beside `path`, which takes its place once the block has ended well.

    Raises:
        ConfigError: the folder cannot be written to or the disk is full; what was at `path` before is untouched.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")  # some writers go by the suffix
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):  # not there, or its folder is none
            temporary.unlink()


def require_writable(path: Path) -> None:
    """Checks before long work that a file can be written at `path`, and makes its folder.

    Raises:
        ConfigError: it cannot, or a folder is there.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; give the name of a file")
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def cache_folder() -> Path:
    """The user's folder for files that can be made or fetched again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rexnet"
