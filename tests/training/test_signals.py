import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from rexnet.training import signals
from rexnet.training.signals import Stopped, end_other_processes


def test_the_exit_code_is_that_of_a_shell() -> None:
    assert [Stopped(number).code for number in (15, 2, 10)] == [143, 130, 138]


@pytest.mark.parametrize(("error", "ends_by_itself"), [(Stopped(15), True), (RuntimeError("planted"), False)])
def test_other_processes_may_stop_by_themselves_only_after_a_signal(
    error: BaseException, ends_by_itself: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "GRACE_SECONDS", 30.0)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.2)"])
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(launcher=SimpleNamespace(procs=[process])))
    end_other_processes(trainer, error)
    assert process.wait(timeout=10) == (0 if ends_by_itself else -9)


def test_a_process_that_hangs_is_killed_after_the_grace_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "GRACE_SECONDS", 0.1)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(launcher=SimpleNamespace(procs=[process])))
    began = time.monotonic()
    end_other_processes(trainer, Stopped(15))
    assert process.wait(timeout=10) == -9
    assert time.monotonic() - began < 5
