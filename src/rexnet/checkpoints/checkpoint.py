"""Loads classifiers from checkpoints, run folders and exported files.

A checkpoint is Lightning's, with plain tensors and JSON-able values only, so that it loads without executing anything.
`state_dict` holds the raw weights under `model.` and the EMA weights under `ema_model.`; the entry `rexnet`, the
description, holds what else a classifier needs: the config (with the evaluation transform) and the class names.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from rexnet.checkpoints.durable import find_damage
from rexnet.checkpoints.temperature import load_fitted, require_fitted
from rexnet.config import Config, RunConfig
from rexnet.config.load import parse_any_config, require_kind
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
    """A classifier loaded from a checkpoint or exported file."""

    model: nn.Module
    """On the CPU, in evaluation mode."""
    preprocessing: Preprocessing
    config: Config
    weights: WeightsKind
    path: Path
    metrics: dict[str, float]
    """Metrics of the validation before the save, such as `val/top1`."""
    temperature: float | None = None
    """Divisor of the logits for calibrated probabilities; None if none was fitted."""
    threshold: float | None = None
    """Probability below which an answer is `unknown`; None if none was chosen."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """One for each logit."""
        return self.preprocessing.class_names


class Entry(NamedTuple):
    """The `rexnet` entry of a checkpoint or exported file of any task, parsed."""

    config: RunConfig
    class_names: tuple[str, ...]
    metrics: dict[str, float]


class Description(NamedTuple):
    """The `rexnet` entry of a classifier's checkpoint or exported file, parsed."""

    preprocessing: Preprocessing
    config: Config
    metrics: dict[str, float]


def build_description(
    config: RunConfig, class_names: Sequence[str], metrics: dict[str, float], steps_per_epoch: int | None = None
) -> dict[str, Any]:
    """Returns the description in JSON types; a run can be resumed only from one with `steps_per_epoch`."""
    return {
        "format": FORMAT,
        "config": json.dumps(config.model_dump(mode="json")),
        "class_names": list(class_names),
        "steps_per_epoch": steps_per_epoch,
        "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
    }


def load_trained(path: Path, weights: WeightsKind | None = None) -> Trained:
    """Loads the classifier of a checkpoint, of a run folder's best one, or of a `.safetensors` file of `rexnet export`.

    Without `weights`, it takes the EMA if there is one.

    Raises:
        CheckpointError: the file is missing, damaged, of another program, or without the requested weights.
        ConfigError: it is a detector's.
    """
    file, entry, state, kind = read_state(path, weights)
    preprocessing, config, metrics = parse_description(entry, file)
    fitted = require_fitted(entry, file) if file.suffix == ".safetensors" else load_fitted(file, kind)
    model = build_model(config.model, preprocessing.class_names, pretrained=False)
    load_state(model, state, file)
    return Trained(model.eval(), preprocessing, config, kind, file, metrics, *fitted)


class State(NamedTuple):
    """The network in a checkpoint or exported file of any task."""

    file: Path
    entry: dict[str, Any]
    """The description; see `parse_entry`."""
    tensors: dict[str, Tensor]
    kind: WeightsKind


def read_state(path: Path, weights: WeightsKind | None = None) -> State:
    """Reads the file that `load_trained` describes, of any task, with the same errors."""
    file = find_checkpoint(path)
    if file.suffix == ".safetensors":
        entry = read_description(file)
        if not entry:
            raise CheckpointError(
                f"{file}: holds bare weights; train or fine-tune from it with model.pretrained={file}"
            )
        return State(file, entry, read_weights(file).weights, require_weights(entry, weights, file))
    content = read_checkpoint(file)
    tensors = content["state_dict"]
    has_ema = any(name.startswith(PREFIXES["ema"]) for name in tensors)
    if weights == "ema" and not has_ema:
        raise CheckpointError(f"{file}: holds no EMA weights (ema: null in its config); use --weights raw")
    kind = weights or ("ema" if has_ema else "raw")
    prefix = PREFIXES[kind]
    state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return State(file, content[ENTRY], state, kind)


def load_state(model: nn.Module, state: dict[str, Tensor], file: Path) -> None:
    """Loads weights into the network that the config in their file describes.

    Raises:
        CheckpointError: they do not fit.
    """
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{file}: its weights do not fit its own config: {detail}") from None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Returns the content of a checkpoint of ours, loaded without executing anything.

    Raises:
        CheckpointError: the file is missing, damaged or not ours.
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
    except Exception as error:  # torch raises a dozen types for files of other programs
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: {first_sentence(error)}") from None
    if not isinstance(content, dict) or ENTRY not in content or "state_dict" not in content:
        raise CheckpointError(f"{path}: is not a checkpoint of this program: it has no entry {ENTRY!r}")
    return content


def require_weights(entry: dict[str, Any], wanted: WeightsKind | None, path: Path) -> WeightsKind:
    """Returns the kind of weights in an exported file, by its description; another than the wanted one is an error."""
    kind: WeightsKind = "raw" if entry.get("weights") == "raw" else "ema"
    if wanted not in (None, kind):
        raise CheckpointError(f"{path}: holds {kind} weights only, not {wanted}")
    return kind


def parse_description(entry: Any, path: Path) -> Description:
    """Parses the description in a checkpoint or an exported file of a classifier; see `parse_entry`."""
    config, names, metrics = parse_entry(entry, path)
    classifier = require_kind(config, Config, path)
    return Description(resolve_preprocessing(classifier, names), classifier, metrics)


def parse_entry(entry: Any, path: Path) -> Entry:
    """Parses the description in a checkpoint or an exported file of any task.

    Raises:
        CheckpointError: another format, or something is missing.
        ConfigError: the config in it is invalid.
    """
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        found = entry.get("format") if isinstance(entry, dict) else entry
        raise CheckpointError(f"{path}: has checkpoint format {found!r}; this version reads {FORMAT}")
    try:
        tree, names, metrics = json.loads(entry["config"]), [*map(str, entry["class_names"])], dict(entry["metrics"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its description cannot be read: {first_sentence(error)}") from None
    return Entry(parse_any_config(tree, f"the config in {path}"), tuple(names), metrics)
