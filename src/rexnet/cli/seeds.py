"""The same training several times, each with another seed: `rexnet train --seeds N`."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rexnet.errors import ConfigError
from rexnet.system.launcher import started_by_launcher

if TYPE_CHECKING:
    from rexnet.config import Config

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


def train_seeds(config: "Config", seeds: int, command: Sequence[str]) -> int:
    """Trains `seeds` times, from the configured seed upwards; gives the exit code of the first that fails, or 0.

    Each run is a process of its own, so that none inherits anything of the one before; signals are passed on to it.

    Args:
        config: the run.
        seeds: how many.
        command: script and arguments of this process, with `--seeds N` in it.

    Raises:
        ConfigError: another program started several processes of this command.
    """
    if started_by_launcher():
        raise ConfigError("--seeds: starts its own processes; with torchrun or srun give each run its own seed=N")
    runs = config.trainer.runs_dir
    before = _runs(runs, config.name)
    for seed in range(config.seed, config.seed + seeds):
        print(f"Seed {seed}", flush=True)
        code = _run_forwarding([sys.executable, *without_seeds(command), f"seed={seed}"])
        if code:
            return code
    finished = " ".join(str(run) for run in sorted(_runs(runs, config.name) - before))
    print(f"Mean over seeds  rexnet evaluate {finished}")
    return 0


def without_seeds(command: Sequence[str]) -> list[str]:
    """The command without its option `--seeds N` or `--seeds=N`, and without `--doctor`, which has looked already."""
    kept: list[str] = []
    for previous, word in zip(("", *command), command, strict=False):
        if word not in ("--seeds", "--doctor") and previous != "--seeds" and not word.startswith("--seeds="):
            kept.append(word)
    return kept


def _runs(folder: Path, name: str) -> set[Path]:
    return set(folder.glob(f"{name}-*"))


def _run_forwarding(command: Sequence[str]) -> int:
    """Exit code of a command in a session of its own, which gets each signal of this process once.

    What this process was told to ignore, as `nohup` does with SIGHUP, the command ignores as well.
    """
    started: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: FrameType | None) -> None:
        for process in started:
            process.send_signal(number)

    heeded = [number for number in FORWARDED if signal.getsignal(number) != signal.SIG_IGN]
    handlers = {number: signal.signal(number, forward) for number in heeded}
    try:
        started.append(subprocess.Popen(command, start_new_session=True))  # noqa: S603 - our own command
        return started[0].wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
