"""Describes runs for the terminal: all runs of a folder in a table, or one with the commands for its next step."""

import shlex

from rexnet.runs.run import Run
from rexnet.runs.state import describe_duration
from rexnet.system.terminal import align


def describe_runs(runs: list[Run]) -> str:
    """Returns a table with one line per run."""
    rows, details = [("run", "state", "epochs", "best", "time")], [""]
    for run in runs:
        rows.append((run.name, run.state.state, *_describe_progress(run), describe_duration(run.state.seconds)))
        details.append("" if run.state.state == "running" else _describe_detail(run)[:100])
    return "\n".join(f"{row}  {detail}".rstrip() for row, detail in zip(align(rows), details, strict=True))


def describe_run(run: Run) -> str:
    """Returns the state of one run and the commands to resume, evaluate, export or publish it."""
    epochs, best = _describe_progress(run)
    detail = _describe_detail(run)
    lines = [
        f"{run.folder}",
        f"state     {run.state.state}{f' ({detail})' if detail else ''}",
        f"epochs    {epochs}, best {best}, {describe_duration(run.state.seconds)}",
    ]
    folder = shlex.quote(str(run.folder))
    if run.best_checkpoint:
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


def _describe_progress(run: Run) -> tuple[str, str]:
    """Returns finished and total epochs, and the best validation top-1 or AP."""
    total = "?" if run.total_epochs is None else run.total_epochs
    best = f"{run.best_ap[1]:.2f} AP" if run.best_ap else "-"
    return f"{run.epochs}/{total}", f"{run.best_top1[1]:.2f} %" if run.best_top1 else best


def _describe_detail(run: Run) -> str:
    """Returns the reason of the state and the damage of config and metrics."""
    return "; ".join(filter(None, (run.state.detail, *run.damage)))
