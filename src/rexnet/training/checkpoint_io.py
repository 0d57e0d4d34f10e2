"""Lets Lightning write checkpoints that are never lost, and read only intact ones."""

import math
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from rexnet.checkpoints.checkpoint import read_checkpoint
from rexnet.checkpoints.durable import remove_durable, write_durably
from rexnet.errors import CheckpointError
from rexnet.models.safe_load import walk_tensors
from rexnet.runs.checkpoint_files import LAST, PREVIOUS


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints by `write_durably` and keeps the replaced `last.ckpt` as `previous.ckpt`.

    Lightning itself stages files in TMPDIR, and a move from another file system is a copy over the live file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Writes `checkpoint` to `path`, completely or not at all.

        Raises:
            CheckpointError: a weight is NaN or infinite, the folder is not writable, the disk is full, or the file
                would execute code on loading; the previous file is untouched.
        """
        target = Path(path)
        for name, tensor in walk_tensors({key: checkpoint.get(key) for key in ("state_dict", "optimizer_states")}):
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise CheckpointError(f"{target}: not written, since {name} is not finite; the previous file stays")
        size = sum(tensor.numel() * tensor.element_size() for _, tensor in walk_tensors(checkpoint))
        write_durably(
            target,
            lambda file: torch.save(checkpoint, file),
            math.ceil(1.02 * size),  # names and plain values come on top
            check=_require_loadable,
            backup=PREVIOUS if target.name == LAST else None,
        )

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Returns the content of `path` on the CPU, loaded without executing anything."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Deletes a checkpoint that is no longer among the best."""
        remove_durable(Path(path))


def _require_loadable(path: Path) -> None:
    """Rejects types that would execute code on loading now, when the previous checkpoint is still there."""
    try:
        torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:
        raise OSError(f"it could not be loaded again: {error}") from None
