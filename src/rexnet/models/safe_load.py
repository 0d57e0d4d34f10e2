"""Reads weight files of unknown origin, checked beyond `weights_only` so that they cannot exhaust memory."""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from rexnet.errors import CheckpointError


def read_torch_file(path: Path) -> Any:
    """Returns the content of a file of `torch.save` on the CPU, loaded without executing anything.

    Raises:
        CheckpointError: its archive is compressed, or a tensor claims more elements than the file holds.
        Exception: PyTorch cannot read it; it raises a dozen types.
    """
    _require_stored(path)
    with path.open("rb") as file:  # given a path, PyTorch goes by the ending of its name
        content = torch.load(file, map_location="cpu", weights_only=True)
    for name, tensor in walk_tensors(content):
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CheckpointError(f"{path}: its tensor {name} claims {tensor.numel():,} elements without holding them")
    return content


def _require_stored(path: Path) -> None:
    """Refuses archives with compressed parts: PyTorch writes none, and 200 kB of them can become gigabytes."""
    if not zipfile.is_zipfile(path):
        return  # PyTorch's format before 2020, which has no compression
    with zipfile.ZipFile(path) as archive:
        packed = [member for member in archive.infolist() if member.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise CheckpointError(
            f"{path}: has {len(packed)} compressed parts, such as {packed[0].filename} ({packed[0].compress_size:,} "
            f"bytes for {packed[0].file_size:,}); PyTorch writes none, so it is not read"
        )


def walk_tensors(content: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yields every tensor in nested containers with its path."""
    if isinstance(content, torch.Tensor):
        yield name, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from walk_tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, (list, tuple)):
        for place, value in enumerate(content):
            yield from walk_tensors(value, f"{name}.{place}")
