"""The output folder of a study: locked by one process, tied to its assumptions, with tables that survive a kill."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from rexnet.errors import ConfigError
from rexnet.runs.environment import describe_environment
from rexnet.runs.state import RunLock, read_state
from rexnet.system.atomic_files import atomic_write, write_json

STUDY_FILE = "study.json"
Row = TypeVar("Row")


@contextmanager
def locked_study(folder: Path, assumptions: Mapping[str, object]) -> Iterator[None]:
    """Locks the folder of a study, and records its assumptions, versions and finally its total time over all sessions.

    Args:
        folder: Created if it is missing.
        assumptions: Name of the study and everything that its results depend on, as JSON values.

    Raises:
        ConfigError: another process uses the folder, the folder has other assumptions, or it cannot be written to.
    """
    wanted = json.loads(json.dumps(assumptions))  # tuples become lists, as in the file
    _require_same(folder / STUDY_FILE, wanted)
    with suppress(OSError):  # the lock reports it
        folder.mkdir(parents=True, exist_ok=True)
    lock = RunLock(folder)
    content = {"assumptions": wanted, "environment": describe_environment()}
    try:
        write_json(folder / STUDY_FILE, content)
        yield
    except BaseException as error:
        lock.fail(error)
        raise
    lock.finish()
    write_json(folder / STUDY_FILE, {**content, "seconds": read_state(folder).seconds})


def _require_same(path: Path, wanted: dict[str, object]) -> None:
    if not path.exists():
        return
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8"))["assumptions"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}: cannot be read; choose another folder") from None
    changed = [f"{key}={found.get(key)}" for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
    if changed:
        raise ConfigError(
            f"{path.parent}: has a study with {', '.join(changed)}; choose another folder or the same values"
        )


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV file atomically; raises ConfigError if it cannot."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def read_table(path: Path, parse: Callable[..., Row]) -> list[Row]:
    """Returns the parsed rows of a table, or none if the file does not exist; raises ConfigError if it is damaged."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [parse(*cells) for cells in list(csv.reader(file))[1:]]
    except FileNotFoundError:
        return []
    except (OSError, TypeError, ValueError, csv.Error):
        raise ConfigError(f"{path}: cannot be read; remove it to compute it again") from None
