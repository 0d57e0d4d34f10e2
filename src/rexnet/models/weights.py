"""Weight files: read safely whatever their form, written whole or not at all.

Understood are the authors' names, timm's and ours, plain or inside a checkpoint of ours or of another trainer.
"""

import argparse
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rexnet.errors import CheckpointError, first_sentence
from rexnet.models.naming import Weights, to_own_names
from rexnet.models.safe_load import read_torch_file

ENTRY = "rexnet"  # what a checkpoint or an exported file of ours says of itself
WRAPPERS = ("state_dict_ema", "state_dict", "model_state_dict", "model")
AVERAGED = "ema_model."  # in our checkpoints the averaged weights stand beside the raw ones (`model.`)
OLD_FORMAT = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # the number at the start of torch.save's files before 2020
PREFIXES = ("module.", "_orig_mod.", "model.")


class WeightFile(NamedTuple):
    """What a file holds."""

    path: Path
    weights: Weights
    """In our names where they are a ReXNet's, else in the file's own."""
    class_names: tuple[str, ...] | None
    """Names of the classifier's rows, where the file tells them."""


def read_weights(path: Path) -> WeightFile:
    """All tensors of a weight file, without executing anything that the file contains.

    Raises:
        CheckpointError: the file is missing, truncated, needs code to load, or holds no weights.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weight file")
    content, description = _read(path)
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    weights = (
        {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not weights:
        raise CheckpointError(f"{path}: holds no weights, only {type(content).__name__}")
    if any(name.startswith(AVERAGED) for name in weights):
        weights = {name.removeprefix(AVERAGED): value for name, value in weights.items() if name.startswith(AVERAGED)}
    names = description.get("class_names")
    own = to_own_names({_strip_prefixes(name): value for name, value in weights.items()})
    rows = own["head.fc.weight"].shape[:1] if "head.fc.weight" in own else None
    told = isinstance(names, list) and (rows is None or rows == (len(names),))
    return WeightFile(path, own, tuple(map(str, names or ())) if told else None)


def read_description(path: Path) -> dict[str, Any]:
    """What a safetensors file of ours says of itself: configuration, class names and the like; else nothing.

    Raises:
        CheckpointError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            description = json.loads((file.metadata() or {}).get(ENTRY, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is truncated or no safetensors file: {first_sentence(error)}") from None
    return description if isinstance(description, dict) else {}


def _read(path: Path) -> tuple[Any, dict[str, Any]]:
    """The content of a file by what it is, whatever its name ends in, and what it says of itself."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise CheckpointError(f"{path}: is empty")
    if start[8:9] == b"{":  # after the length of the header
        return _read_safetensors(path)
    if not start.startswith((b"PK", b"\x80")):  # torch's archives, and what it wrote before 2020
        raise CheckpointError(f"{path}: is no weight file; it begins with {start[:48].decode('ascii', 'replace')!r}")
    if start.startswith(b"\x80") and OLD_FORMAT not in start[:64]:
        raise CheckpointError(f"{path}: is a plain pickle, which could run code when loaded and is refused")
    if start.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"{path}: is truncated: its {path.stat().st_size:,} bytes lack the end of the archive; fetch it again"
        )
    return _read_pickle(path)


def _read_safetensors(path: Path) -> tuple[Any, dict[str, Any]]:
    from safetensors.torch import load_file

    description = read_description(path)
    try:
        return load_file(path), description
    except Exception as error:  # safetensors' own type and the file system's
        raise CheckpointError(f"{path}: cannot be read as weights: {first_sentence(error)}") from None


def _read_pickle(path: Path) -> tuple[Any, dict[str, Any]]:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm's script keeps its arguments so
            content = read_torch_file(path)
    except CheckpointError:
        raise
    except Exception as error:  # the readers raise a dozen types; all mean the same to the user
        raise CheckpointError(f"{path}: cannot be read as weights: {_reason(error)}") from None
    description = content.get(ENTRY) if isinstance(content, Mapping) else None
    return content, dict(description) if isinstance(description, Mapping) else {}


def _reason(error: Exception) -> str:
    """Why torch refuses a file, without its advice to load it unsafely."""
    code = re.search(r"GLOBAL ([\w.]+)", str(error))
    if code is not None:
        return f"it would run code when loaded ({code[1]}), which is refused"
    return first_sentence(error)


def _strip_prefixes(name: str) -> str:
    """The name without what DistributedDataParallel, torch.compile and LightningModules put before it."""
    stripped = name
    while stripped.startswith(PREFIXES):
        stripped = stripped.partition(".")[2]
    return stripped
