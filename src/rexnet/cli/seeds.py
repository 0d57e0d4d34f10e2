"""Trains once per seed: `rexnet train --seeds N`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rexnet.errors import ConfigError
from rexnet.system.child_process import run_forwarding
from rexnet.system.launcher import started_by_launcher


def train_seeds(seeds: range, runs_dir: Path, name: str, command: Sequence[str]) -> int:
    """Repeats this process's command with each seed; returns the exit code of the first failure, or 0."""
    if started_by_launcher():
        raise ConfigError("--seeds: starts its own processes; with torchrun or srun give each run its own seed=N")
    before = set(runs_dir.glob(f"{name}-*"))
    for seed in seeds:
        print(f"Seed {seed}", flush=True)
        code = run_forwarding([sys.executable, *without_seeds(command), f"seed={seed}"])
        if code:
            return code
    finished = " ".join(str(run) for run in sorted(set(runs_dir.glob(f"{name}-*")) - before))
    print(f"Mean over seeds  rexnet evaluate {finished}")
    return 0


def without_seeds(command: Sequence[str]) -> list[str]:
    """Removes the option `--seeds N` or `--seeds=N`."""
    kept: list[str] = []
    for previous, word in zip(("", *command), command, strict=False):
        if "--seeds" not in (word, previous) and not word.startswith("--seeds="):
            kept.append(word)
    return kept
