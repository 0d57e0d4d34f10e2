"""Describes runs for the terminal: all runs of a folder in a table, or one with the commands for its next step."""

import shlex
from pathlib import Path

from rexnet.errors import ConfigError
from rexnet.runs.run import Run
from rexnet.runs.run_folder import find_run_folders
from rexnet.runs.state import describe_duration


def find_runs(runs_dir: Path) -> list[Run]:
    """Returns all runs in a folder, the newest last.

    Raises:
        ConfigError: there is none.
    """
    folders = find_run_folders(runs_dir)
    if not folders:
        raise ConfigError(f"{runs_dir}: holds no run; name another folder with --dir")
    return [Run(folder) for folder in folders]


def describe_runs(runs: list[Run]) -> str:
    """Returns a table with one line per run."""
    width = max(len(run.folder.name) for run in runs)
    lines = [f"{'run':{width}}  {'state':8}  {'epochs':>9}  {'top-1':>7}  {'time':>8}  {'size':>9}"]
    for run in runs:
        top1 = f"{run.best_top1[1]:.2f} %" if run.best_top1 else "-"
        detail = "" if run.state.state == "running" else _detail(run)[:100]
        line = f"{run.folder.name:{width}}  {run.state.state:8}  {_epochs(run):>9}  {top1:>7}  "
        lines.append(
            f"{line}{describe_duration(run.state.seconds):>8}  {run.measure_size() / 1e6:>6.1f} MB  {detail}".rstrip()
        )
    return "\n".join(lines)


def describe_run(run: Run) -> str:
    """Returns the state of one run and the commands to resume, evaluate, export or publish it."""
    detail = f" ({_detail(run)})" if _detail(run) else ""
    top1 = f"best top-1 {run.best_top1[1]:.2f} %" if run.best_top1 else "no validation yet"
    lines = [
        f"{run.folder}",
        f"state     {run.state.state}{detail}",
        f"epochs    {_epochs(run)}, {top1}, {describe_duration(run.state.seconds)}, {run.measure_size() / 1e6:.1f} MB",
    ]
    folder = shlex.quote(str(run.folder))
    if run.has_checkpoint:
        if run.state.state not in ("finished", "running"):
            lines.append(f"resume    rexnet train --resume {folder}")
        lines += [
            f"evaluate  rexnet evaluate {folder}",
            f"predict   rexnet predict {folder} IMAGES --out predictions.csv",
            f"export    rexnet export {folder} --to onnx safetensors",
            f"report    rexnet report {folder}",
            f"publish   rexnet publish {folder} --to FOLDER",
        ]
    elif run.state.state != "running":
        lines.append("The run holds no checkpoint: it can be neither resumed nor evaluated.")
    return "\n".join(lines)


def _detail(run: Run) -> str:
    """Returns the reason of the state and the damage of config and metrics."""
    return "; ".join(filter(None, (run.state.detail, *map(str, run.damage))))


def _epochs(run: Run) -> str:
    return f"{run.epochs}/{run.total_epochs if run.total_epochs is not None else '?'}"
