"""Kills and restarts one of two torchrun agents in mid-epoch; every image must still be trained on as planned."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from conftest import write_images

from torture.runs import MARK, MARKS, ROOT, command, environment, members, train

SETTINGS = ("schedule.epochs=4", "trainer.run_name=run")
STEPS, STEPS_PER_EPOCH = 240, 60
PACE_S = 0.3  # of a step, so that an epoch lasts longer than a restart
LIMIT_S = 240


class Step(NamedTuple):
    """A step of one process: which images it saw, and when it began."""

    session: int
    """Start of all processes that trained together, as one number."""
    began: float
    step: int
    world: int
    images: list[str]
    """Digests of the augmented pixels."""


def elastic(folder: Path, images: Path) -> Iterator[tuple[str, bool, str]]:
    """Trains on two agents, kills one with its worker, starts it again, and compares with an uninterrupted run."""
    root, logs = folder / "images", {name: folder / name for name in ("whole", "elastic")}
    for number, label in enumerate(("ant", "bee", "cow")):
        write_images(root / "train" / label, 160, hue=number)
        write_images(root / "val" / label, 5, hue=number)
    for log in logs.values():
        log.mkdir()
    assert train(folder / "straight", root, *SETTINGS, SAMPLES=str(logs["whole"])).returncode == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = command(folder / "runs", root, *SETTINGS)
    agents = [_start_agent(arguments, port, logs["elastic"], folder / f"agent{n}.log", n == 0) for n in range(2)]
    try:
        before = _wait(logs["elastic"], lambda steps: [s for s in steps if s.world == 2 and s.step == 75])
        for pid in members(agents[1].pid):
            os.kill(pid, signal.SIGKILL)
        killed, session = time.time(), before[0].session
        alone = _wait(logs["elastic"], lambda steps: [s for s in steps if s.session > session and s.world == 1])
        again = time.time()
        agents.append(_start_agent(arguments, port, logs["elastic"], folder / "agent2.log"))
        session = alone[0].session
        both = _wait(logs["elastic"], lambda steps: [s for s in steps if s.session > session and s.world == 2])
        codes = [agents[number].wait(LIMIT_S) for number in (0, 2)]
    finally:
        for agent in agents:
            for pid in members(agent.pid):
                os.kill(pid, signal.SIGKILL)
    planned, trained = _lineage(_read(logs["whole"])), _lineage(_read(logs["elastic"]))
    seen = _read(logs["elastic"])
    repeated = len({(s.session, s.step) for s in seen}) - len(trained)
    last = max(s.step for s in seen if s.session == session)
    pause = min(s.began for s in both) - max(s.began for s in seen if s.session == session)
    yield (
        "torchrun, one of 2 agents killed: the other continues alone",
        alone[0].step == 61,
        f"{alone[0].began - killed:.0f} s from kill to next step, {repeated} steps repeated from the last checkpoint",
    )
    yield (
        "the agent started again: both continue in mid-epoch, no step repeated",
        last == both[0].step - 1 and last % STEPS_PER_EPOCH != 0,
        f"after step {last % STEPS_PER_EPOCH} of {STEPS_PER_EPOCH}, {both[0].began - again:.0f} s after its start, "
        f"{pause:.0f} s without a step",
    )
    yield (
        f"images of all {STEPS} steps: those of an uninterrupted process, none lost, none twice",
        codes == [0, 0] and len(planned) == STEPS and trained == planned,
        f"{sum(map(len, trained.values()))} augmented images compared, exit codes {codes[0]} and {codes[1]}",
    )


def _start_agent(
    arguments: list[str], port: int, samples: Path, log: Path, is_host: bool = False
) -> subprocess.Popen[bytes]:
    """Starts the agent of one node, with one worker; the host of the rendezvous must outlive the others."""
    rendezvous = {
        "nnodes": "1:2",
        "nproc-per-node": "1",
        "max-restarts": "3",
        "rdzv-backend": "c10d",
        "rdzv-endpoint": f"127.0.0.1:{port}",
        "rdzv-id": "torture",
        "rdzv-conf": f"is_host={int(is_host)},keep_alive_interval=2,keep_alive_max_attempt=3,last_call_timeout=5",
        "local-addr": "127.0.0.1",
    }
    agent = [sys.executable, "-m", "torch.distributed.run", *(f"--{name}={text}" for name, text in rendezvous.items())]
    mark = f"{MARK}={uuid.uuid4()}"
    env = environment(SAMPLES=str(samples), PACE=str(PACE_S), TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*agent, *arguments[1:]], cwd=ROOT, env=env | dict([mark.split("=")]), stderr=file, start_new_session=True
        )
    MARKS[process.pid] = mark.encode()
    return process


def _wait(log: Path, found: Callable[[list[Step]], list[Step]]) -> list[Step]:
    """Returns the steps for which `found` waits, the earliest first."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        steps = found(_read(log))
        if steps:
            return sorted(steps, key=lambda step: step.began)
        time.sleep(0.1)
    raise AssertionError(f"{log}: nothing more after {LIMIT_S} s")


def _read(log: Path) -> list[Step]:
    """Returns the steps that all processes wrote, with the starts of the run numbered in the order of time."""
    lines: list[dict[str, Any]] = []
    for file in log.glob("*.jsonl"):
        lines += [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    starts = list(dict.fromkeys(line["start"] for line in sorted(lines, key=lambda line: line["began"])))
    return [
        Step(starts.index(line["start"]), line["began"], line["step"], line["world"], line["images"]) for line in lines
    ]


def _lineage(steps: list[Step]) -> dict[int, list[str]]:
    """Returns the images of each step that led to the final weights: those of the last start that made the step."""
    latest = {step: max(s.session for s in steps if s.step == step) for step in {s.step for s in steps}}
    images = defaultdict(list)
    for each in steps:
        if each.session == latest[each.step]:
            images[each.step] += each.images
    return {step: sorted(digests) for step, digests in images.items()}
