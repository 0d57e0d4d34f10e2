"""Stores the temperature that calibrates a checkpoint's probabilities (arXiv 1706.04599) in a file next to it.

Logits are divided by it before the softmax. `evaluation` fits it; prediction and exports use it.
"""

import json
import logging
import math
from pathlib import Path

from rexnet.errors import CheckpointError
from rexnet.system.atomic_files import atomic_write, sha256_of

log = logging.getLogger(__name__)


def temperature_path(checkpoint: Path, weights: str) -> Path:
    """Returns the file for the temperature of a checkpoint's weights (`ema` or `raw`)."""
    return checkpoint.with_name(f"{checkpoint.stem}-{weights}-temperature.json")


def save_temperature(checkpoint: Path, weights: str, temperature: float, fitted_on: str, n: int) -> Path:
    """Writes a temperature next to a checkpoint, with the name and number of the images it was fitted on."""
    content = {"temperature": temperature, "fitted_on": fitted_on, "n": n, "sha256": sha256_of(checkpoint)}
    path = temperature_path(checkpoint, weights)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def load_temperature(checkpoint: Path, weights: str) -> float | None:
    """Returns the temperature of a checkpoint's weights, or None if none was fitted to this very file."""
    path = temperature_path(checkpoint, weights)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        temperature, digest = content["temperature"], content["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path}: cannot be read as a temperature; delete it or fit it again") from None
    if digest != sha256_of(checkpoint):
        log.warning(f"{path}: was fitted to another {checkpoint.name} and is not used; fit it again")
        return None
    return require_temperature(temperature, path)


def describe_temperature(checkpoint: Path, weights: str) -> str:
    """Returns words for an existing temperature and the images that it was fitted on."""
    path = temperature_path(checkpoint, weights)
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}  # exports only have the value
    value = f" {content['temperature']:.3f}" if content else ""
    return f"temperature{value} was fitted on {content.get('fitted_on') or 'unknown images'}"


def require_temperature(value: object, path: Path) -> float:
    """Returns `value` if it is a number above 0, else raises a CheckpointError."""
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise CheckpointError(f"{path}: its temperature should be a number above 0, not {value!r}")
    return float(value)
