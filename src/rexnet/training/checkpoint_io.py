"""Writes checkpoints so that a kill or a full disk leaves the previous file whole."""

import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from rexnet.errors import CheckpointError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written beside the target, flushed to disk and then renamed over it.

    Lightning's own way stages in TMPDIR, and a move between file systems is a copy over the live file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Writes `checkpoint` to `path`, completely or not at all.

        Raises:
            CheckpointError: the folder cannot be written to or the disk is full; what was there before is untouched.
        """
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            _sync_folder(target.parent)
        except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
            temporary.unlink(missing_ok=True)
            raise CheckpointError(f"{target}: could not be written, the previous file is untouched: {error}") from error

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The content of `path` on the CPU, loaded without executing anything."""
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content


def _sync_folder(folder: Path) -> None:
    """Makes the renaming itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
