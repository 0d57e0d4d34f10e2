"""The state of a run: running, finished, stopped or failed.

A training process locks a file in its run folder. The kernel releases the lock however the process ends, so a run whose
`state.json` says `running` without a lock was killed.
"""

import contextlib
import fcntl
import json
import os
import platform
import time
from pathlib import Path
from typing import IO, Literal, NamedTuple

from rexnet.errors import ConfigError, RexnetError, first_sentence
from rexnet.system.atomic_files import write_json

StateName = Literal["running", "finished", "stopped", "failed", "unknown"]
STATE_FILE, LOCK_FILE = "state.json", ".lock"
LOCK_ATTEMPTS, PAUSE_S = 20, 0.05  # a process that reads the state holds the lock briefly


class RunState(NamedTuple):
    """State of a run, from its folder."""

    state: StateName
    detail: str
    """Reason for a stop or failure, or the process that trains."""
    seconds: float
    """Training time over all sessions."""


class RunLock:
    """Locks a run folder for this process and records its state, until `finish` or `fail`.

    Only rank 0 of a run does so.

    Raises:
        ConfigError: another process trains in this folder, or it cannot be written to.
    """

    def __init__(self, folder: Path, is_rank_zero: bool = True) -> None:
        self.folder, self._lock = folder, None
        if not is_rank_zero:
            return
        self._before = read_state(folder)
        self._started = time.time()
        try:
            lock = (folder / LOCK_FILE).open("w")
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be written to: {error.strerror}") from None
        if not _claim(lock):
            lock.close()
            raise ConfigError(f"{folder}: is in use by {self._before.detail}; wait for it or stop it")
        self._lock = lock
        self._write("running", f"process {os.getpid()} on {platform.node()}")

    def finish(self) -> None:
        """Records that training finished."""
        self._end("finished", "")

    def fail(self, error: BaseException) -> None:
        """Records the error that ended training, or the signal after which it can be resumed."""
        signal = getattr(error, "signal", None)
        if signal is not None:
            self._end("stopped", f"by {signal.name}, after a checkpoint")
        elif isinstance(error, KeyboardInterrupt):
            self._end("stopped", "by Ctrl-C, without a checkpoint")
        else:
            message = str(error) if isinstance(error, RexnetError) else first_sentence(error)
            self._end("failed", " ".join(message.split()))

    def _end(self, state: StateName, detail: str) -> None:
        if self._lock is None:
            return
        with contextlib.suppress(ConfigError):  # a full disk must not hide how the run ended
            self._write(state, detail)
        self._lock.close()
        self._lock = None

    def _write(self, state: StateName, detail: str) -> None:
        seconds = self._before.seconds + (time.time() - self._started if state != "running" else 0.0)
        content = {"state": state, "detail": detail, "pid": os.getpid(), "host": platform.node()}
        content |= {"started": self._started, "seconds": seconds}
        write_json(self.folder / STATE_FILE, content)


def read_state(folder: Path) -> RunState:
    """Reads the state of a run from its folder and checks it against the lock."""
    try:
        content = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        state, detail, pid, host = (content[key] for key in ("state", "detail", "pid", "host"))
        started, seconds = float(content["started"]), float(content["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return RunState("unknown", f"has no readable {STATE_FILE}", 0.0)
    if state != "running":
        return RunState(state, detail, seconds)
    here = host == platform.node()
    if (here and pid == os.getpid()) or _is_locked(folder / LOCK_FILE):
        return RunState("running", detail, seconds + max(0.0, time.time() - started))
    if here:
        return RunState("failed", "its process was killed, or the machine went down", seconds)
    return RunState("unknown", f"was running on {host}, which cannot be checked from here", seconds)


def describe_duration(seconds: float) -> str:
    """Returns a time in its two largest units."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _claim(file: IO[str]) -> bool:
    """Returns True if this process holds the lock now, or the file system has no locks."""
    for _ in range(LOCK_ATTEMPTS):
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock, not inherited by loader processes
            return True
        except (BlockingIOError, PermissionError):
            time.sleep(PAUSE_S)
        except OSError:
            return True
    return False


def _is_locked(path: Path) -> bool:
    """Returns True if another process holds the lock."""
    try:
        with path.open("rb") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError | PermissionError)
    return False
