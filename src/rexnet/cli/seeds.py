"""Trains once per seed: `rexnet train --seeds N`."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rexnet.errors import ConfigError
from rexnet.system.launcher import started_by_launcher

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


def train_seeds(seeds: range, runs_dir: Path, name: str, command: Sequence[str]) -> int:
    """Repeats this process's command with each seed; returns the exit code of the first failure, or 0."""
    if started_by_launcher():
        raise ConfigError("--seeds: starts its own processes; with torchrun or srun give each run its own seed=N")
    before = set(runs_dir.glob(f"{name}-*"))
    for seed in seeds:
        print(f"Seed {seed}", flush=True)
        code = _run_forwarding([sys.executable, *without_seeds(command), f"seed={seed}"])
        if code:
            return code
    finished = " ".join(str(run) for run in sorted(set(runs_dir.glob(f"{name}-*")) - before))
    print(f"Mean over seeds  rexnet evaluate {finished}")
    return 0


def without_seeds(command: Sequence[str]) -> list[str]:
    """Removes the option `--seeds N` or `--seeds=N`, and `--doctor`, which has run already."""
    kept: list[str] = []
    for previous, word in zip(("", *command), command, strict=False):
        if word not in ("--seeds", "--doctor") and previous != "--seeds" and not word.startswith("--seeds="):
            kept.append(word)
    return kept


def _run_forwarding(command: Sequence[str]) -> int:
    """Runs a command in its own session, forwards each signal to it once, and returns its exit code.

    Signals that this process ignores, such as SIGHUP under `nohup`, are ignored by the command as well.
    """
    started: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: FrameType | None) -> None:
        for process in started:
            process.send_signal(number)

    handled = [number for number in FORWARDED if signal.getsignal(number) != signal.SIG_IGN]
    handlers = {number: signal.signal(number, forward) for number in handled}
    try:
        started.append(subprocess.Popen(command, start_new_session=True))  # noqa: S603 - our own command
        return started[0].wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
