"""Lets Lightning write checkpoints that are never lost, and read only intact ones."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from rexnet.checkpoints.checkpoint import read_checkpoint
from rexnet.checkpoints.durable import save_durably
from rexnet.errors import CheckpointError
from rexnet.models.safe_load import walk_tensors
from rexnet.runs.checkpoint_files import LAST, PREVIOUS


class DurableCheckpointIO(TorchCheckpointIO):
    """Saves Lightning's checkpoints by `save_durably`; the replaced `last.ckpt` becomes `previous.ckpt`.

    Lightning itself stages files in TMPDIR, and a move from another file system is a copy over the live file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Writes `checkpoint` to `path` completely, or raises a CheckpointError and leaves the previous file there."""
        target = Path(path)
        for name, tensor in walk_tensors({key: checkpoint.get(key) for key in ("state_dict", "optimizer_states")}):
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise CheckpointError(f"{target}: not written, since {name} is not finite; the previous file stays")
        save_durably(checkpoint, target, backup=PREVIOUS if target.name == LAST else None)

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Returns the content of `path` on the CPU, loaded without executing anything."""
        return read_checkpoint(Path(path))
