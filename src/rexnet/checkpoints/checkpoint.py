"""Loads classifiers from checkpoints and run folders.

A checkpoint is Lightning's, but contains only plain tensors and JSON values, so that loading it executes nothing.
`state_dict` contains the raw weights under `model.` and the EMA weights under `ema_model.`. The entry `rexnet` contains
everything else that a classifier needs: the configuration and the class names.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from rexnet.checkpoints.durable import find_damage
from rexnet.checkpoints.temperature import load_temperature, require_temperature
from rexnet.config import Config, parse_config
from rexnet.errors import CheckpointError, first_sentence
from rexnet.models.factory import build_model
from rexnet.models.safe_load import read_torch_file
from rexnet.models.weights import ENTRY, read_description, read_weights
from rexnet.preprocessing import Preprocessing, resolve_preprocessing
from rexnet.runs.checkpoint_files import find_checkpoint

FORMAT = 2
WeightsKind = Literal["ema", "raw"]
PREFIXES: dict[WeightsKind, str] = {"ema": "ema_model.", "raw": "model."}


class Trained(NamedTuple):
    """A classifier from a checkpoint."""

    model: nn.Module
    """The network on the CPU, in evaluation mode."""
    preprocessing: Preprocessing
    config: Config
    """The training config."""
    weights: WeightsKind
    path: Path
    metrics: dict[str, float]
    """Metrics of the validation before the save, such as `val/top1`."""
    temperature: float | None = None
    """Divisor of the logits for calibrated probabilities; None if none was fitted."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each logit."""
        return self.preprocessing.class_names


class Description(NamedTuple):
    """The `rexnet` entry of a checkpoint or exported file, parsed."""

    preprocessing: Preprocessing
    config: Config
    metrics: dict[str, float]


def build_description(
    config: Config, class_names: Sequence[str], metrics: dict[str, float], steps_per_epoch: int | None = None
) -> dict[str, Any]:
    """Builds the `rexnet` entry of a checkpoint from JSON values; resuming requires `steps_per_epoch`."""
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return {
        "format": FORMAT,
        "config": json.dumps(config.model_dump(mode="json")),
        "class_names": list(class_names),
        "steps_per_epoch": steps_per_epoch,
        "metrics": finite,
    }


def load_trained(path: Path, weights: WeightsKind | None = None) -> Trained:
    """Loads the classifier of a checkpoint or of the best checkpoint in a run folder.

    Args:
        path: a checkpoint file, a run folder, or a `.safetensors` file that `rexnet export` wrote.
        weights: EMA or raw; None: EMA if there are any.

    Raises:
        CheckpointError: the file is missing, damaged, not of this program, or lacks these weights.
    """
    file = find_checkpoint(path)
    if file.suffix == ".safetensors":
        return _load_exported(file, weights)
    content = read_checkpoint(file)
    description = parse_description(content[ENTRY], file)
    state = content["state_dict"]
    has_average = any(name.startswith(PREFIXES["ema"]) for name in state)
    if weights == "ema" and not has_average:
        raise CheckpointError(f"{file}: contains no EMA weights (ema: null in its configuration); use --weights raw")
    kind: WeightsKind = weights or ("ema" if has_average else "raw")
    prefix = PREFIXES[kind]
    state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return _build(description, state, kind, file, load_temperature(file, kind))


def _load_exported(file: Path, weights: WeightsKind | None) -> Trained:
    """Loads the classifier of a `.safetensors` file that `rexnet export` wrote."""
    entry = read_description(file)
    if not entry:
        raise CheckpointError(f"{file}: contains only weights; start training from it with model.pretrained={file}")
    description, kind = parse_description(entry, file), require_weights(entry, weights, file)
    return _build(description, read_weights(file).weights, kind, file, read_temperature(entry, file))


def _build(
    description: Description, weights: dict[str, Tensor], kind: WeightsKind, file: Path, temperature: float | None
) -> Trained:
    """Builds the network of a description and loads the weights."""
    preprocessing, config, metrics = description
    model = build_model(config.model, preprocessing.class_names, pretrained=False)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{file}: its weights do not fit its own configuration: {detail}") from None
    return Trained(model.eval(), preprocessing, config, kind, file, metrics, temperature)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Loads the content of a checkpoint without executing anything.

    Raises:
        CheckpointError: the file is missing, damaged or not a checkpoint of this program.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    damage = find_damage(path)
    if damage is not None:
        raise CheckpointError(f"{path}: cannot be read as a checkpoint, {damage} ({path.stat().st_size:,} bytes)")
    try:
        content = read_torch_file(path)
    except CheckpointError:
        raise
    except Exception as error:  # torch raises a dozen types for files that are not its own
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: {first_sentence(error)}") from None
    if not isinstance(content, dict) or ENTRY not in content or "state_dict" not in content:
        raise CheckpointError(f"{path}: is not a checkpoint of this program: it has no entry {ENTRY!r}")
    return content


def require_weights(entry: dict[str, Any], wanted: WeightsKind | None, path: Path) -> WeightsKind:
    """Returns the kind of weights in an exported file from its description.

    Raises:
        CheckpointError: it is not the wanted kind.
    """
    kind: WeightsKind = "raw" if entry.get("weights") == "raw" else "ema"
    if wanted not in (None, kind):
        raise CheckpointError(f"{path}: contains only {kind} weights, not {wanted} weights")
    return kind


def read_temperature(entry: dict[str, Any], path: Path) -> float | None:
    """Returns the temperature in the description of an exported file, if any.

    Raises:
        CheckpointError: it is no number above 0.
    """
    value = entry.get("temperature")
    return None if value is None else require_temperature(value, path)


def parse_description(entry: Any, path: Path) -> Description:
    """Parses the `rexnet` entry of a checkpoint or an exported file.

    Raises:
        CheckpointError: the format is unknown, or something is missing.
        ConfigError: the configuration in it is invalid.
    """
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        found = entry.get("format") if isinstance(entry, dict) else entry
        raise CheckpointError(f"{path}: has checkpoint format {found!r}; this version reads {FORMAT}")
    try:
        tree, names, metrics = json.loads(entry["config"]), [*map(str, entry["class_names"])], dict(entry["metrics"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its description cannot be read: {first_sentence(error)}") from None
    config = parse_config(tree, source=f"the configuration in {path}")
    return Description(resolve_preprocessing(config, names), config, metrics)
