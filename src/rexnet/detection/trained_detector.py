"""Loads trained detectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rexnet.checkpoints.checkpoint import WeightsKind, parse_entry, read_stored
from rexnet.config import DetectionConfig
from rexnet.config.load import require_kind
from rexnet.detection.coco_metrics import Detections
from rexnet.detection.detectors import build_detector
from rexnet.system.device import Device, adapt_to_hardware, resolve_device


class TrainedDetector(NamedTuple):
    """A detector on its device, in evaluation mode."""

    model: nn.Module
    config: DetectionConfig
    class_names: tuple[str, ...]
    weights: WeightsKind
    path: Path
    device: Device

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """Returns the detections in images of 0..1, float (3, H, W), of any sizes."""
        with torch.inference_mode(), self.device.autocast():
            outputs = self.model([image.to(self.device.torch_device) for image in images]) if images else []
        return [Detections.of(output) for output in outputs]


def load_trained_detector(path: Path, weights: WeightsKind | None = None) -> TrainedDetector:
    """Loads the detector of a checkpoint, or of a run folder's best one; without `weights`, the EMA if there is one.

    Raises:
        RexnetError: the file is missing, damaged, or not a detector.
    """
    stored = read_stored(path, weights)
    parsed, names, _ = parse_entry(stored.entry, stored.path)
    config = require_kind(parsed, DetectionConfig, stored.path)
    config = config.model_copy(update={"trainer": adapt_to_hardware(config.trainer)})
    data, device = config.data, resolve_device(config.trainer)
    model = build_detector(config.detector, config.model, len(names), data.image_size, data.mean, data.std, False)
    return TrainedDetector(device.place(stored.load_into(model)), config, names, stored.weights, stored.path, device)
