"""Starts small training runs and compares their results."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
SMALL = (
    "name=small model.width_mult=0.2 data.image_size=32 data.batch_size=8 data.num_workers=0 optimizer.lr=0.05 "
    "schedule.epochs=3 schedule.warmup_epochs=0.5 trainer.accelerator=cpu trainer.precision=fp32 "
    "trainer.log_every_steps=2 trainer.report=false augmentation.mixup=0.2 augmentation.cutmix=1.0 model.drop_path=0.2"
).split()
TIME_LIMIT = 300
MARK = "TORTURE_START"  # in the environment of all that one start leads to
MARKS: dict[int, bytes] = {}


def command(folder: Path, images: Path, *overrides: str) -> list[str]:
    """Returns the command of a training run of 9 steps in 3 epochs, with its run folder in `folder`."""
    where = [f"data.root={images}", f"trainer.runs_dir={folder}"]
    return [sys.executable, "-m", "torture.child", *SMALL, *where, *overrides]


def environment(**more: Any) -> dict[str, str]:
    """Returns the environment of a user with one thread and the given entries, as JSON unless they are text."""
    added = {name: value if isinstance(value, str) else json.dumps(value) for name, value in more.items()}
    inherited = {name: value for name, value in os.environ.items() if name != "REXNET_RUN_FOLDER"}
    return inherited | {"OMP_NUM_THREADS": "1"} | added


def train(folder: Path, images: Path, *overrides: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Runs a training to its end, successful or not."""
    return subprocess.run(
        command(folder, images, *overrides),
        cwd=ROOT,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )


def start(arguments: list[str], words: str, **more: Any) -> subprocess.Popen[str]:
    """Starts a command and waits until it prints `words`."""
    mark = f"{MARK}={uuid.uuid4()}"
    env = environment(**more) | dict([mark.split("=")])
    process = subprocess.Popen(arguments, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)
    MARKS[process.pid] = mark.encode()
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return process
    raise AssertionError(f"ended with {process.wait()} before it said {words!r}")


def end(process: subprocess.Popen[str]) -> tuple[int, float, str]:
    """Returns exit code, seconds and last output of a process that was told to end, with all its descendants."""
    began = time.monotonic()
    try:
        _, said = process.communicate(timeout=40)
    except subprocess.TimeoutExpired:
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)
        return -1, 40.0, "hung"
    seconds = time.monotonic() - began
    deadline = time.monotonic() + 8  # loader processes of a killed one notice within five seconds
    while time.monotonic() < deadline and members(process.pid):
        time.sleep(0.2)
    return process.returncode, seconds, f"{said}{' ORPHANS' if members(process.pid) else ''}"


def members(started: int) -> dict[int, list[bytes]]:
    """Returns the environments of the living descendants of a process.

    torchrun gives each of its workers a session of its own, so that the process group does not tell.
    """
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            entries = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended, or is another user's
            continue
        if MARKS[started] in entries:
            found[int(folder.name)] = entries
    return found


def ranks(process: subprocess.Popen[str]) -> dict[int, int]:
    """Returns the process ID of each rank that trains."""
    by_rank = {}
    for pid, entries in sorted(members(process.pid).items(), reverse=True):  # forked loader processes are younger
        rank = next((int(entry[11:]) for entry in entries if entry.startswith(b"LOCAL_RANK=")), None)
        if rank is not None:
            by_rank[rank] = pid
    return {0: process.pid} | by_rank


def only_run(folder: Path) -> Path:
    """Returns the only run in a folder."""
    (run,) = folder.iterdir()
    return run


def outcome(run: Path) -> dict[str, Any]:
    """Returns everything in a run that must not depend on interruptions."""
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    clocks = ("train/images_per_s", "train/data_wait_share", "seconds")
    state = {key: content[key] for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")}
    return state | {"table": [{key: value for key, value in row.items() if key not in clocks} for row in rows]}


def same(one: Any, other: Any) -> bool:
    """Returns True if two values are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)
