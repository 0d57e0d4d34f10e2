"""Stores what was fitted to a checkpoint's probabilities, a temperature and a threshold, in a file next to it.

Logits are divided by the temperature before the softmax (arXiv 1706.04599); an answer with a probability below the
threshold is `unknown`. `evaluation` fits both; prediction and exports use them.
"""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rexnet.errors import CheckpointError
from rexnet.system.atomic_files import sha256_of, write_json

log = logging.getLogger(__name__)

Fitted = tuple[float | None, float | None]
"""Temperature and threshold, as far as they were fitted."""


def temperature_path(checkpoint: Path, weights: str) -> Path:
    """Returns the file for the temperature and threshold of a checkpoint's weights (`ema` or `raw`)."""
    return checkpoint.with_name(f"{checkpoint.stem}-{weights}-temperature.json")


def save_temperature(checkpoint: Path, weights: str, temperature: float, fitted_on: str, n: int) -> Path:
    """Writes a temperature, with name and number of the images it was fitted on; a threshold has to be chosen again."""
    return _save(checkpoint, weights, {"temperature": temperature, "fitted_on": fitted_on, "n": n})


def save_threshold(checkpoint: Path, weights: str, threshold: float, description: str) -> Path:
    """Adds a threshold, described in words, to the temperature, if there is one."""
    known = load_fitted(checkpoint, weights)[0] is not None
    fitted = _read(temperature_path(checkpoint, weights)) if known else {"temperature": None}
    return _save(checkpoint, weights, fitted | {"threshold": threshold, "description": description})


def load_fitted(checkpoint: Path, weights: str) -> Fitted:
    """Returns temperature and threshold of a checkpoint's weights; None for each that was not fitted to this file."""
    path = temperature_path(checkpoint, weights)
    content = _read(path)
    if content and content["sha256"] != sha256_of(checkpoint):
        log.warning(f"{path}: was fitted to another {checkpoint.name} and is not used; fit it again")
        return None, None
    return require_fitted(content, path)


def describe_temperature(checkpoint: Path, weights: str) -> str:
    """Returns words for an existing temperature and the images that it was fitted on; exports only have the value."""
    content = _read(temperature_path(checkpoint, weights))
    value = f" {content['temperature']:.3f}" if content else ""
    return f"temperature{value} was fitted on {content.get('fitted_on') or 'unknown images'}"


def describe_threshold(checkpoint: Path, weights: str, threshold: float) -> str:
    """Returns words for a threshold, with its images if they are known; exports only have the value."""
    words: str | None = _read(temperature_path(checkpoint, weights)).get("description")
    return words or f"answers below a probability of {threshold:.4f} are unknown"


def require_fitted(content: Mapping[str, Any], path: Path) -> Fitted:
    """Returns the entries `temperature` and `threshold`, or raises a CheckpointError if they are no such numbers."""
    for name, low, high, bounds in (("temperature", 0, math.inf, "above 0"), ("threshold", -1e-9, 1, "from 0 to 1")):
        value = content.get(name)
        if value is not None and not (isinstance(value, int | float) and low < value <= high and math.isfinite(value)):
            raise CheckpointError(f"{path}: its {name} should be a number {bounds}, not {value!r}")
    return content.get("temperature"), content.get("threshold")


def _read(path: Path) -> dict[str, Any]:
    """Returns the content of the file, empty if there is none."""
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {key: content[key] for key in ("temperature", "sha256")} | content
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path}: cannot be read as a temperature; delete it or fit it again") from None


def _save(checkpoint: Path, weights: str, content: dict[str, Any]) -> Path:
    path = temperature_path(checkpoint, weights)
    write_json(path, {**content, "sha256": sha256_of(checkpoint)})
    return path
