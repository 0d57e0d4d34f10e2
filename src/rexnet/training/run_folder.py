"""The folder of a run: `runs/NAME-TIME/` with configuration, metrics, environment, checkpoints and event files."""

import json
import logging
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from rexnet.config import Config, dump_config
from rexnet.errors import ConfigError

log = logging.getLogger(__name__)

SHARED_NAME = "REXNET_RUN_FOLDER"  # tells the processes that Lightning starts which folder the first one made
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "timm", "albumentations", "numpy")
TABLE_COLUMNS = (
    ["epoch", "step", "train/loss", "train/lr", "train/images_per_s", "train/data_wait_share"]
    + [f"{prefix}/{name}" for prefix in ("val", "val_ema") for name in ("top1", "top5", "loss")]
    + ["seconds"]
)
"""Of `metrics.csv`."""


def open_run(config: Config) -> Path:
    """A new folder for a run, with its `config.yaml` and `environment.json`; an existing one is never reused.

    Raises:
        ConfigError: `trainer.runs_dir` cannot be written to.
    """
    if SHARED_NAME in os.environ:
        return Path(os.environ[SHARED_NAME])
    stem = f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = config.trainer.runs_dir / stem
    # Under torchrun or SLURM, or on another node, nobody tells the name; but only the first process writes there.
    if any(int(os.environ.get(name, "0")) > 0 for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK")):
        return folder
    try:
        config.trainer.runs_dir.mkdir(parents=True, exist_ok=True)
        for number in range(2, 1000):
            try:
                folder.mkdir()
                break
            except FileExistsError:  # another run began in the same second
                folder = config.trainer.runs_dir / f"{stem}-{number}"
        (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
        (folder / "environment.json").write_text(json.dumps(describe_environment(), indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"trainer.runs_dir: {config.trainer.runs_dir} cannot be written to: {error}") from None
    os.environ[SHARED_NAME] = str(folder)
    return folder


def close_run() -> None:
    """Forgets the shared name, so that the next run of this process gets a folder of its own."""
    os.environ.pop(SHARED_NAME, None)


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a `metrics.csv`, none if there is no such file.

    A row is added after each epoch; one that is not whole, since the machine went down meanwhile, is left out and said.
    """
    rows, fault = read_rows(path)
    if fault:
        log.warning(f"{path}: {fault}")
    return rows


def read_rows(path: Path) -> tuple[list[dict[str, str]], str]:
    """The same, and what is to be said of it; empty if all is well."""
    if not path.is_file():
        return [], ""
    head, *lines = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    names, fields = head.split(","), [line.split(",") for line in lines]  # numbers alone, so nothing is quoted
    rows = [dict(zip(names, row, strict=True)) for row in fields if len(row) == len(names) and _are_numbers(row)]
    whole = [row for row in rows if row.get("epoch", "").isdecimal() and row.get("step", "0").isdecimal()]
    lost = len(lines) - len(whole)
    return whole, f"{lost} of its {len(lines)} rows cannot be read and are left out" if lost else ""


def _are_numbers(row: list[str]) -> bool:
    try:
        return [float(value) for value in row if value] != []
    except ValueError:
        return False


def describe_environment() -> dict[str, Any]:
    """Versions, hardware, command and git state: what one needs to repeat a run."""
    import torch

    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "cpu": {"cores": os.cpu_count(), "torch_threads": torch.get_num_threads()},
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "git": {
            "commit": _git("rev-parse", "HEAD"),
            "changed_files": (_git("status", "--porcelain") or "").splitlines(),
        },
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _git(*arguments: str) -> str | None:
    """Output of a git command in this checkout, or None outside of one."""
    checkout = Path(__file__).parents[3]
    if not (checkout / ".git").exists():  # installed; a repository around the environment would be another one
        return None
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            cwd=checkout,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
