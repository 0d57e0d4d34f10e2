"""Signals to whole processes, as a terminal, a scheduler and the kernel send them."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL_RUN

from rexnet.training.callbacks.graceful_stop import GracefulStop

ROOT = Path(__file__).parents[3]


def start(tmp_path: Path, image_root: Path, *overrides: str) -> subprocess.Popen[str]:
    """`train.py` of a run that would take minutes, as a user starts it."""
    settings = [*SMALL_RUN, f"data.root={image_root}", f"trainer.runs_dir={tmp_path / 'runs'}", "schedule.epochs=999"]
    return subprocess.Popen(
        [sys.executable, "train.py", "--config", "finetune/folder.yaml", *settings, *overrides],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"ended with {process.wait()} before it said {words!r}")


@pytest.mark.slow
def test_a_signal_to_all_processes_ends_the_run_with_a_checkpoint(tmp_path: Path, image_root: Path) -> None:
    """SLURM and terminals signal the loader processes too."""
    process = start(tmp_path, image_root, "data.num_workers=2")
    wait_for(process, "epoch   1/")
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    (last,) = (tmp_path / "runs").glob("*/checkpoints/last.ckpt")
    assert "Stopped by SIGTERM after step " in said
    assert f"saved as {last}" in said
    assert f"Resume with  rexnet train --resume {last.parent.parent}" in said
    assert "Traceback" not in said
    assert subprocess.run(["pgrep", "-g", str(process.pid)], check=False, capture_output=True).stdout == b""


@pytest.mark.slow
def test_before_the_first_step_a_signal_ends_the_process_at_once(tmp_path: Path, image_root: Path) -> None:
    process = start(tmp_path, image_root, "data.num_workers=0")
    wait_for(process, "Run folder")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT)  # a shell shows both as 130
    assert "Traceback" not in said


def test_a_second_press_of_ctrl_c_does_not_wait_for_the_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sent: list[tuple[int, int]] = []
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    monkeypatch.setattr(signal, "signal", lambda number, handler: sent.append((number, handler)))
    stop = GracefulStop(tmp_path)
    stop._receive(signal.SIGINT, None)
    now[0] += 0.1
    stop._receive(signal.SIGINT, None)  # a terminal and a launcher that pass on one press
    stop._receive(signal.SIGTERM, None)
    assert sent == []
    assert stop.received == signal.SIGINT
    now[0] += 2
    stop._receive(signal.SIGINT, None)
    assert sent == [(signal.SIGINT, signal.SIG_DFL), (os.getpid(), signal.SIGINT)]


def test_handlers_are_given_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    stop, trainer = GracefulStop(tmp_path), Any
    trainer = type("Trainer", (), {"world_size": 1})()
    stop.on_train_start(trainer, None)  # type: ignore[arg-type]
    assert signal.getsignal(signal.SIGTERM) == stop._receive
    stop.on_train_end(trainer, None)  # type: ignore[arg-type]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before
    thread = threading.Thread(target=stop.on_train_start, args=(trainer, None))  # a notebook's, which may set none
    thread.start()
    thread.join()
    assert stop._before == {}
