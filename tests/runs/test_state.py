import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rexnet.errors import ConfigError, DivergenceError
from rexnet.runs.state import LOCK_FILE, RunLock, describe_duration, read_state
from rexnet.training.signals import Stopped

TRAINS = (
    "import sys; from pathlib import Path; from rexnet.runs.state import RunLock\n"
    "lock = RunLock(Path(sys.argv[1])); print('begun', flush=True); sys.stdin.read(); lock.finish()"
)


@pytest.fixture
def training(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that locks the run folder `tmp_path` until its input ends."""
    command = [sys.executable, "-c", TRAINS, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    yield process
    process.kill()
    process.communicate()


def test_a_run_is_running_while_its_process_lives(tmp_path: Path, training: subprocess.Popen[str]) -> None:
    state = read_state(tmp_path)
    assert (state.state, state.detail) == ("running", f"process {training.pid} on {platform.node()}")
    with pytest.raises(ConfigError, match=f"is in use by process {training.pid} on .*; wait for it or"):
        RunLock(tmp_path)
    training.communicate("")
    assert read_state(tmp_path).state == "finished"


def test_a_killed_run_is_not_running(tmp_path: Path, training: subprocess.Popen[str]) -> None:
    training.send_signal(signal.SIGKILL)
    training.communicate()
    assert json.loads((tmp_path / "state.json").read_text())["state"] == "running"
    assert read_state(tmp_path)[:2] == ("failed", "its process was killed, or the machine went down")
    RunLock(tmp_path).finish()  # it can be taken up again
    assert read_state(tmp_path).state == "finished"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Stopped(signal.SIGTERM), ("stopped", "by SIGTERM, after a checkpoint")),
        (KeyboardInterrupt(), ("stopped", "by Ctrl-C, without a checkpoint")),
        (DivergenceError("the loss\nis NaN"), ("failed", "the loss is NaN")),
        (ZeroDivisionError("x"), ("failed", "ZeroDivisionError: x")),
    ],
)
def test_the_state_tells_how_a_run_ended(error: BaseException, state: tuple[str, str], tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    assert read_state(tmp_path).state == "running"
    lock.fail(error)
    assert read_state(tmp_path)[:2] == state


def test_time_adds_up_over_sessions(tmp_path: Path) -> None:
    content = {"state": "stopped", "detail": "", "pid": 1, "host": "x", "started": 0, "seconds": 1000}
    (tmp_path / "state.json").write_text(json.dumps(content))
    RunLock(tmp_path).finish()
    assert 1000 < read_state(tmp_path).seconds < 1100


def test_other_ranks_of_a_run_write_no_state(tmp_path: Path) -> None:
    lock = RunLock(tmp_path, is_rank_zero=False)
    lock.fail(RuntimeError())
    assert os.listdir(tmp_path) == []


def test_a_run_on_another_machine_has_an_unknown_state(tmp_path: Path) -> None:
    content = {"state": "running", "detail": "", "pid": 1, "host": "elsewhere", "started": 0, "seconds": 5}
    (tmp_path / "state.json").write_text(json.dumps(content))
    (tmp_path / LOCK_FILE).touch()
    assert read_state(tmp_path)[:2] == ("unknown", "was running on elsewhere, which cannot be checked from here")


def test_durations_have_two_units_at_most() -> None:
    assert [describe_duration(seconds) for seconds in (0, 119, 120, 7199, 7200, 90000)] == [
        "0 s",
        "119 s",
        "2 min",
        "2 h 0 min",
        "2 h 0 min",
        "25 h 0 min",
    ]
