"""Finds the checkpoints of a run by their file names."""

from pathlib import Path

from rexnet.errors import CheckpointError

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
BEST = "epoch*-*_[0-9]*.ckpt"  # such as epoch012-top1_98.89.ckpt; AP of a detector


def checkpoint_folder(run: Path) -> Path:
    """Returns the folder of a run's checkpoints."""
    return run / "checkpoints"


def run_of(checkpoint: Path) -> Path | None:
    """Returns the run folder that a checkpoint belongs to; None for a file elsewhere."""
    run = checkpoint.parent.parent
    return run if checkpoint.parent == checkpoint_folder(run) else None


def find_checkpoint(path: Path) -> Path:
    """Returns `path` if it is a file, else the best checkpoint of a run folder by validation, or the last.

    Raises:
        CheckpointError: no such file or folder, or no checkpoint in it.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such run folder or checkpoint")
    files = best_first(path) + newest_first(path)
    if not files:
        raise CheckpointError(f"{path}: holds no checkpoint ({checkpoint_folder(path)} is empty or missing)")
    return files[0]


def best_first(run: Path) -> list[Path]:
    """Returns the checkpoints that a run kept for their validation metric, best first; of equal ones the latest."""
    files = checkpoint_folder(run).glob(BEST)
    return sorted(files, key=lambda file: (float(file.stem.rpartition("_")[2]), file.stem), reverse=True)


def newest_first(run: Path) -> list[Path]:
    """Returns the checkpoints of a run in the order in which they are tried when it resumes."""
    folder = checkpoint_folder(run)
    latest = [file for file in (folder / LAST, folder / PREVIOUS) if file.is_file()]
    return latest + sorted(folder.glob(BEST), key=lambda path: path.stem, reverse=True)
