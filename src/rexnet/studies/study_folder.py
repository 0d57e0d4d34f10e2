"""The output folder of a study: locked by one process, bound to its assumptions, resumable."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rexnet.errors import ConfigError
from rexnet.runs.environment import describe_environment
from rexnet.runs.state import RunLock, read_state
from rexnet.system.atomic_files import atomic_write

STUDY_FILE = "study.json"


@contextmanager
def open_study(folder: Path, name: str, assumptions: dict[str, Any]) -> Iterator[None]:
    """Locks a folder for a study and writes `study.json`: name, assumptions, versions and, at the end, the time.

    Args:
        folder: made if it is missing; if it has a study, that is resumed.
        name: name of the study.
        assumptions: everything that its numbers depend on, as JSON values.

    Raises:
        ConfigError: another process uses the folder, it belongs to a study with other assumptions, or it cannot be
            written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made: {error.strerror}") from None
    before = _read(folder / STUDY_FILE)
    if before is not None:
        _require_same(folder, before, {"study": name, **assumptions})
    lock = RunLock(folder)
    try:
        content = {"study": name, "assumptions": assumptions, "environment": describe_environment()}
        _write(folder, content)
        yield
    except BaseException as error:
        lock.fail(error)
        raise
    lock.finish()
    _write(folder, {**content, "seconds": read_state(folder).seconds})


def _read(path: Path) -> dict[str, Any] | None:
    """Returns the name and the assumptions of the study in a folder, or None if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {"study": content["study"], **content["assumptions"]}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}: is not readable as a study; choose another folder") from None


def _require_same(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    now = json.loads(json.dumps(now))  # tuples become lists, as in the file
    changed = [
        f"{key} {before.get(key)} -> {now.get(key)}" for key in {**before, **now} if before.get(key) != now.get(key)
    ]
    if changed:
        raise ConfigError(f"{folder}: has a study with other assumptions ({', '.join(changed)}); choose another folder")


def _write(folder: Path, content: dict[str, Any]) -> None:
    with atomic_write(folder / STUDY_FILE) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
