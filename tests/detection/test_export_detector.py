"""Tests for exported detectors: equal to torchvision's detectors, for any batch and size of images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rexnet.checkpoints.checkpoint import build_description
from rexnet.config import DetectionConfig, load_config
from rexnet.detection.deployed_detector import DeployedRCNN, DeployedSSDLite, mask_of_nms
from rexnet.detection.detectors import build_detector
from rexnet.detection.export_detector import export_detector
from rexnet.detection.trained_detector import load_trained_detector
from rexnet.errors import ConfigError
from rexnet.export.reading import open_session

NAMES = ("circle", "square")


@pytest.fixture(scope="module")
def ssdlite() -> Any:
    """Returns an untrained detector whose BatchNorm knows the images, so that their scores differ."""
    torch.manual_seed(0)
    config = load_config("detect/finetune.yaml", ["model.width_mult=0.5", "data.image_size=64"], DetectionConfig)
    detector: Any = build_detector(config.detector, config.model, 2, 64, config.data.mean, config.data.std)
    with torch.no_grad():
        for _ in range(20):
            detector.backbone(torch.randn(8, 3, 64, 64))
    return detector.eval()


def images(count: int, height: int = 70, width: int = 90) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(256, (count, height, width, 3), generator=generator).byte()


def expected(detector: Any, batch: Tensor) -> list[dict[str, Tensor]]:
    with torch.inference_mode():
        return detector(list(batch.permute(0, 3, 1, 2).float() / 255))


def test_the_batched_form_finds_what_torchvision_finds(ssdlite: Any) -> None:
    deployed = DeployedSSDLite(ssdlite).eval()
    with torch.inference_mode():
        boxes, scores, labels = deployed(images(3))
    for row, wanted in enumerate(expected(ssdlite, images(3))):
        there = scores[row] > 0
        assert len(wanted["scores"]) == there.sum() > 20
        torch.testing.assert_close(scores[row][there], wanted["scores"], atol=1e-5, rtol=0)
        rows = [sorted(zip(l.tolist(), b.round(decimals=2).tolist(), strict=True)) for l, b in (
            (labels[row][there], boxes[row][there]), (wanted["labels"], wanted["boxes"]))]
        assert rows[0] == rows[1]
