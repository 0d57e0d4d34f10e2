"""Reads weight files of any form without executing anything in them.

The parameters have the authors' names, timm's or ours, in a plain file or a checkpoint of ours or another trainer.
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

ENTRY = "rexnet"  # key of the description in our checkpoints and exported files
WRAPPERS = ("state_dict_ema", "state_dict", "model_state_dict", "model")
EMA = "ema_model."  # in our checkpoints, next to the raw weights under `model.`
PREFIXES = ("module.", "_orig_mod.", "model.")  # of DistributedDataParallel, torch.compile and LightningModules


class WeightFile(NamedTuple):
    """The content of a weight file."""

    path: Path
    weights: Weights
    """Under our names for a ReXNet, else under the file's own."""
    class_names: tuple[str, ...] | None
    """Names of the classifier's rows, if the file has them."""


def read_weights(path: Path) -> WeightFile:
    """Returns all tensors of a weight file.

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
    entries = content.items() if isinstance(content, Mapping) else ()
    weights = {str(name): value for name, value in entries if isinstance(value, Tensor)}
    if not weights:
        raise CheckpointError(f"{path}: holds no weights, only {type(content).__name__}")
    if any(name.startswith(EMA) for name in weights):
        weights = {name.removeprefix(EMA): value for name, value in weights.items() if name.startswith(EMA)}
    own = to_own_names({_strip_prefixes(name): value for name, value in weights.items()})
    names, classifier = description.get("class_names"), own.get("head.fc.weight")
    has_names = isinstance(names, list) and (classifier is None or classifier.shape[:1] == (len(names),))
    return WeightFile(path, own, tuple(map(str, names or ())) if has_names else None)


def read_description(path: Path) -> dict[str, Any]:
    """Returns the description in a safetensors file of ours (config, class names and more); else nothing.

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
    """Returns content and description of a file, whatever its name ends in."""
    from safetensors.torch import load_file

    with path.open("rb") as file:
        start = file.read(48)
    try:
        if start[8:9] == b"{":  # after the length of the header
            description = read_description(path)
            return load_file(path), description
        if not start.startswith((b"PK", b"\x80")):  # torch.save's archives, and its pickles before 2020
            raise CheckpointError(f"{path}: is no weight file; it begins with {start.decode('ascii', 'replace')!r}")
        if start.startswith(b"PK") and not zipfile.is_zipfile(path):
            raise CheckpointError(f"{path}: is truncated: the end of the archive is missing; fetch it again")
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm's script stores its arguments so
            content = read_torch_file(path)
    except CheckpointError:
        raise
    except Exception as error:  # the readers raise a dozen types
        code = re.search(r"GLOBAL ([\w.]+)", str(error))  # torch's sentence advises to load the file unsafely
        why = f"it would run code when loaded ({code[1]}), which is refused" if code else first_sentence(error)
        raise CheckpointError(f"{path}: cannot be read as weights: {why}") from None
    entry = content.get(ENTRY) if isinstance(content, Mapping) else None
    return content, dict(entry) if isinstance(entry, Mapping) else {}


def _strip_prefixes(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name
