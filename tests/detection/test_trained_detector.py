"""Tests for loading detectors from checkpoints, and for the sentence about files of another task."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rexnet.checkpoints.checkpoint import build_description, load_trained
from rexnet.config import Config, DetectionConfig, load_config
from rexnet.detection.detectors import build_detector
from rexnet.detection.trained_detector import load_trained_detector
from rexnet.errors import CheckpointError, ConfigError
from rexnet.models.factory import build_model

NAMES = ("cat", "dog")


def write_checkpoint(path: Path, config: Any, model: Any) -> None:
    """Writes the parts of a checkpoint that loading needs, with EMA weights that are all ones."""
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    state |= {f"ema_model.{name}": torch.ones_like(value) for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "rexnet": build_description(config, NAMES, {"val/AP": 31.25})}, path)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detector") / "detector.ckpt"
    config = load_config("detect/finetune.yaml", ["model.width_mult=0.5", "data.image_size=64"], DetectionConfig)
    model = build_detector(config, 2)
    write_checkpoint(path, config, model)
    return path


def test_a_detector_is_loaded_with_its_ema_weights_first(checkpoint: Path) -> None:
    trained = load_trained_detector(checkpoint)
    assert (trained.class_names, trained.weights, trained.metrics) == (NAMES, "ema", {"val/AP": 31.25})
    assert trained.config.model.width_mult == 0.5
    assert not trained.model.training
    assert all((value == 1).all() for value in trained.model.state_dict().values())
    raw = load_trained_detector(checkpoint, "raw").model.state_dict()
    assert not (raw["backbone.body.stem.conv.weight"] == 1).all()


def test_a_checkpoint_of_another_task_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"detector\.ckpt: belongs to a detector, but a classifier is needed here"):
        load_trained(checkpoint)
    config = load_config("finetune/folder.yaml", ["model.width_mult=0.5"], Config)
    write_checkpoint(tmp_path / "classifier.ckpt", config, build_model(config.model, NAMES))
    with pytest.raises(ConfigError, match=r"classifier\.ckpt: belongs to a classifier, but a detector is needed here"):
        load_trained_detector(tmp_path / "classifier.ckpt")


def test_weights_that_do_not_fit_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"].pop("ema_model.backbone.body.stem.conv.weight")
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"other\.ckpt: its weights do not fit its own config: .*Missing key"):
        load_trained_detector(tmp_path / "other.ckpt")
