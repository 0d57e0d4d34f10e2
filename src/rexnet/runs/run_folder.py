"""Creates and finds run folders; docs/evaluation.md lists their files."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from rexnet.config import RunConfig, dump_config
from rexnet.config.schema import TrainerConfig
from rexnet.errors import ConfigError
from rexnet.runs.checkpoint_files import newest_first
from rexnet.runs.environment import describe_environment
from rexnet.system.launcher import is_rank_zero

CONFIG_FILE, TABLE_FILE, ENVIRONMENT_FILE = "config.yaml", "metrics.csv", "environment.json"
SHARED_NAME = "REXNET_RUN_FOLDER"  # passes the folder to the processes that Lightning starts


def table_columns(metrics: Sequence[str]) -> list[str]:
    """Returns the header of `metrics.csv` for a task with these metrics of validation."""
    training = ["epoch", "step", "train/loss", "train/lr", "train/images_per_s", "train/data_wait_share"]
    return [*training, *(f"{prefix}/{name}" for prefix in ("val", "val_ema") for name in metrics), "seconds"]


def open_run(config: RunConfig) -> Path:
    """Creates the folder of a new run, or opens a named one; under a launcher, only rank 0 does, and tells the others.

    Raises:
        ConfigError: `trainer.runs_dir` cannot be written to.
    """
    if SHARED_NAME in os.environ:
        return Path(os.environ[SHARED_NAME])
    stem = config.trainer.run_name or f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = config.trainer.runs_dir / stem
    if not is_rank_zero():
        return folder
    try:
        config.trainer.runs_dir.mkdir(parents=True, exist_ok=True)
        for number in range(2, 1000):
            try:
                folder.mkdir(exist_ok=config.trainer.run_name is not None)
                break
            except FileExistsError:  # another run started in the same second
                folder = config.trainer.runs_dir / f"{stem}-{number}"
    except OSError as error:
        raise ConfigError(f"trainer.runs_dir: {config.trainer.runs_dir} cannot be written to: {error}") from None
    os.environ[SHARED_NAME] = str(folder)
    return folder


def describe_run(folder: Path, config: RunConfig) -> None:
    """Writes `config.yaml` and `environment.json` into the folder of a new run."""
    (folder / CONFIG_FILE).write_text(dump_config(config), encoding="utf-8")
    (folder / ENVIRONMENT_FILE).write_text(json.dumps(describe_environment(), indent=2) + "\n")


def close_run() -> None:
    """Lets the next run of this process create a folder of its own."""
    os.environ.pop(SHARED_NAME, None)


def find_named_run(trainer: TrainerConfig) -> Path | None:
    """Returns the folder that `trainer.run_name` names if it has a checkpoint to resume from."""
    folder = trainer.run_name and trainer.runs_dir / trainer.run_name
    return folder if folder and newest_first(folder) else None


def is_run(folder: Path) -> bool:
    """Returns True if a folder is a run folder."""
    return (folder / CONFIG_FILE).is_file()


def find_run_folders(runs_dir: Path) -> list[Path]:
    """Returns the run folders in a folder, the newest last.

    Raises:
        ConfigError: there is none.
    """
    files = sorted(runs_dir.glob(f"*/{CONFIG_FILE}"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise ConfigError(f"{runs_dir}: holds no run")
    return [file.parent for file in files]
