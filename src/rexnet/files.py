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


def cache_folder() -> Path:
    """The user's folder for files that can be made or fetched again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rexnet"
