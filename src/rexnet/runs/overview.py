"""All runs of a folder at a glance, and what can be done with one."""

import shlex
from pathlib import Path
from typing import NamedTuple

from rexnet.config import load_config
from rexnet.errors import ConfigError
from rexnet.runs.checkpoint_files import checkpoint_folder
from rexnet.runs.run_folder import CONFIG_FILE, TABLE_FILE, find_run_folders, is_run, read_table
from rexnet.runs.state import RunState, read_state

MEASURED = ("val_ema/top1", "val/top1")  # by the first of them that there is, checkpoints are chosen


class Run(NamedTuple):
    """What a run folder tells."""

    folder: Path
    state: RunState
    epochs: int
    """That are done."""
    total_epochs: int | None
    """None where its configuration cannot be read."""
    top1: float | None
    """The best of its validations, in percent; None: none yet."""
    size: int
    """Bytes on the disk."""
    has_checkpoint: bool


def find_runs(runs_dir: Path) -> list[Run]:
    """All runs in a folder, the latest last.

    Raises:
        ConfigError: there is none.
    """
    folders = find_run_folders(runs_dir)
    if not folders:
        raise ConfigError(f"{runs_dir}: holds no run; name another folder with --dir")
    return [read_run(folder) for folder in folders]


def read_run(folder: Path) -> Run:
    """One run, by its folder.

    Raises:
        ConfigError: it is none.
    """
    if not is_run(folder):
        raise ConfigError(f"{folder}: is not a run folder: it has no {CONFIG_FILE}")
    state, total = read_state(folder), None
    try:
        total = load_config(folder / CONFIG_FILE).schedule.total_epochs
    except ConfigError as error:
        state = state._replace(detail=f"{state.detail}; {str(error).splitlines()[0]}".removeprefix("; "))
    try:
        rows = read_table(folder / TABLE_FILE)
        epochs = max((int(row["epoch"]) for row in rows), default=0)
        scores = [[float(row[name]) for row in rows if row.get(name)] for name in MEASURED]
        seconds = float(rows[-1]["seconds"] or 0) if rows else 0.0
    except (OSError, ValueError, KeyError, TypeError):
        rows, epochs, scores, seconds = [], 0, [], 0.0
        state = state._replace(detail=f"{state.detail}; its {TABLE_FILE} cannot be read")
    if state.state == "unknown" and total is not None and epochs >= total:
        state = RunState("finished", "", 0.0)
    best = next((max(values) for values in scores if values), None)
    state = state._replace(seconds=max(state.seconds, seconds))
    has_checkpoint = any(checkpoint_folder(folder).glob("*.ckpt"))
    return Run(folder, state, epochs, total, best, _size_of(folder), has_checkpoint)


def _size_of(folder: Path) -> int:
    """Bytes of all files; two names of one file count once."""
    sizes = {}
    for file in folder.rglob("*"):
        try:
            about = file.lstat()
        except OSError:  # deleted meanwhile
            continue
        if not file.is_dir():
            sizes[about.st_dev, about.st_ino] = about.st_size
    return sum(sizes.values())


def describe_runs(runs: list[Run]) -> str:
    """A table with one line for each run."""
    width = max(len(run.folder.name) for run in runs)
    lines = [f"{'run':{width}}  {'state':8}  {'epochs':>9}  {'top-1':>7}  {'time':>8}  {'size':>9}"]
    for run in runs:
        top1 = "-" if run.top1 is None else f"{run.top1:.2f} %"
        why = "" if run.state.state == "running" else run.state.detail[:100]
        line = f"{run.folder.name:{width}}  {run.state.state:8}  {_epochs(run):>9}  {top1:>7}  "
        lines.append(f"{line}{_time(run.state.seconds):>8}  {run.size / 1e6:>6.1f} MB  {why}".rstrip())
    return "\n".join(lines)


def describe_run(run: Run) -> str:
    """One run with the commands that go on from it."""
    detail = f" ({run.state.detail})" if run.state.detail else ""
    top1 = "no validation yet" if run.top1 is None else f"best top-1 {run.top1:.2f} %"
    lines = [
        f"{run.folder}",
        f"state     {run.state.state}{detail}",
        f"epochs    {_epochs(run)}, {top1}, {_time(run.state.seconds)}, {run.size / 1e6:.1f} MB",
    ]
    folder = shlex.quote(str(run.folder))
    if run.has_checkpoint:
        if run.state.state not in ("finished", "running"):
            lines.append(f"go on     rexnet train --resume {folder}")
        lines += [
            f"evaluate  rexnet evaluate {folder}",
            f"predict   rexnet predict {folder} IMAGES --out answers.csv",
            f"export    rexnet export {folder} --to onnx safetensors",
            f"report    rexnet report {folder}",
            f"publish   rexnet publish {folder} --to FOLDER",
        ]
    elif run.state.state != "running":
        lines.append("It holds no checkpoint: there is nothing to go on from or to evaluate.")
    return "\n".join(lines)


def _epochs(run: Run) -> str:
    return f"{run.epochs}/{run.total_epochs if run.total_epochs is not None else '?'}"


def _time(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
