"""Loads detectors from checkpoints, run folders and exported files."""

from pathlib import Path
from typing import Any, NamedTuple

from rexnet.checkpoints.checkpoint import WeightsKind, load_state, parse_entry, read_state
from rexnet.config import DetectionConfig
from rexnet.config.load import require_kind
from rexnet.detection.detectors import build_detector


class TrainedDetector(NamedTuple):
    """A detector loaded from a checkpoint or exported file."""

    model: Any
    """On the CPU, in evaluation mode."""
    config: DetectionConfig
    class_names: tuple[str, ...]
    """Of the labels, which count from 1."""
    weights: WeightsKind
    path: Path
    metrics: dict[str, float]
    """Metrics of the validation before the save, such as `val/AP`."""


def load_trained_detector(path: Path, weights: WeightsKind | None = None) -> TrainedDetector:
    """Loads a detector from what `load_trained` loads a classifier from, with the same errors."""
    file, entry, state, kind = read_state(path, weights)
    parsed, names, metrics = parse_entry(entry, file)
    config = require_kind(parsed, DetectionConfig, file)
    model = build_detector(config, len(names), pretrained=False)
    load_state(model, state, file)
    return TrainedDetector(model.eval(), config, names, kind, file, metrics)
