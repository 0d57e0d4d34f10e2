"""The checkpoints of a run by their names: which is the best, and from which one goes on."""

import math
from pathlib import Path

from rexnet.errors import CheckpointError

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


def checkpoint_folder(run: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return run / "checkpoints"


def run_of(checkpoint: Path) -> Path | None:
    """The run folder in which a checkpoint lies; None for a file by itself."""
    run = checkpoint.parent.parent
    return run if checkpoint.parent == checkpoint_folder(run) else None


def find_checkpoint(path: Path) -> Path:
    """`path` itself if it is a file; in a run folder the checkpoint with the best validation top-1, else the last.

    Raises:
        CheckpointError: there is no such file or folder, or no checkpoint in it.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such run folder or checkpoint")
    folder = checkpoint_folder(path)
    best = best_first(path)
    last = folder / LAST
    if not best and not last.is_file():
        raise CheckpointError(f"{path}: holds no checkpoint ({folder} is empty or missing)")
    return best[0] if best else last


def best_first(run: Path) -> list[Path]:
    """The checkpoints that a run kept for their validation top-1, in falling order of it."""
    return sorted(checkpoint_folder(run).glob("epoch*-top1_*.ckpt"), key=_score, reverse=True)


def newest_first(run: Path) -> list[Path]:
    """The checkpoints of a run folder in the order in which one goes on from them."""
    folder = checkpoint_folder(run)
    latest = [file for file in (folder / LAST, folder / PREVIOUS) if file.is_file()]
    return latest + sorted(folder.glob("epoch*-top1_*.ckpt"), key=lambda path: path.stem, reverse=True)


def _score(path: Path) -> tuple[float, str]:
    """The top-1 in a checkpoint's name `epoch007-top1_98.33.ckpt`; among equals the later epoch wins."""
    try:
        return float(path.stem.rpartition("_")[2]), path.stem
    except ValueError:
        return -math.inf, path.stem
