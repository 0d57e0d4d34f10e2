"""Tests for exported detectors: equal to torchvision's detectors, for any batch and size of images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from rexnet.checkpoints.checkpoint import build_description
from rexnet.cli import main
from rexnet.config import DetectionConfig, load_config
from rexnet.detection.box_sets import load_box_index
from rexnet.detection.deployed_detector import DeployedSSDLite, mask_of_nms
from rexnet.detection.detectors import build_detector
from rexnet.detection.export_detector import export_detector, measure_parity
from rexnet.detection.trained_detector import load_trained_detector
from rexnet.errors import ConfigError, DataError
from rexnet.export.reading import open_session
from rexnet.models.weights import read_description

NAMES = ("circle", "square")
MODEL = ["model.width_mult=0.5", "model.depth_mult=0.2", "data.image_size=64"]
DATA = ["data.val_annotations=val.json", "data.val_images=images"]


@pytest.fixture(scope="module")
def ssdlite() -> Any:
    """Returns an untrained detector whose BatchNorm knows the images, so that their scores differ."""
    torch.manual_seed(0)
    config = load_config("detect/finetune.yaml", MODEL, DetectionConfig)
    detector: Any = build_detector(config, 2)
    with torch.no_grad():
        for _ in range(20):
            detector.backbone(torch.randn(8, 3, 64, 64))
    return detector.eval()


def images(count: int, height: int = 70, width: int = 90) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(256, (count, height, width, 3), generator=generator).byte()


def expected(detector: Any, batch: Tensor) -> list[dict[str, Tensor]]:
    """Returns what torchvision's detector finds in images that are resized to bytes, as in training."""
    images = batch.permute(0, 3, 1, 2).float()
    resized = nn.functional.interpolate(images, size=(64, 64), mode="bilinear").round()
    with torch.inference_mode():
        found = detector(list(resized / 255))
    scale = torch.tensor([batch.shape[2], batch.shape[1]] * 2) / 64
    return [{**each, "boxes": each["boxes"] * scale} for each in found]


def test_the_batched_form_finds_what_torchvision_finds(ssdlite: Any) -> None:
    deployed = DeployedSSDLite(ssdlite).eval()
    with torch.inference_mode():
        boxes, scores, labels = deployed(images(3))
    for row, wanted in enumerate(expected(ssdlite, images(3))):
        there = scores[row] > 0
        assert len(wanted["scores"]) == there.sum() > 20
        torch.testing.assert_close(scores[row][there], wanted["scores"], atol=1e-5, rtol=0)
        mine = sorted(zip(labels[row][there].tolist(), boxes[row][there].round(decimals=2).tolist(), strict=True))
        assert mine == sorted(zip(wanted["labels"].tolist(), wanted["boxes"].round(decimals=2).tolist(), strict=True))


def test_nms_of_groups_keeps_what_nms_keeps() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [21, 20, 30, 30]]).repeat(2, 1, 1)
    scores = torch.tensor([[0.9, 0.8, 0.3, 0.4], [0.1, 0.8, 0.3, 0.2]])
    assert mask_of_nms(boxes, scores, 0.5).tolist() == [[True, False, False, True], [False, True, True, False]]


@pytest.fixture(scope="module")
def checkpoint(ssdlite: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a checkpoint next to three images of two sizes with one object each."""
    folder = tmp_path_factory.mktemp("detection")
    (folder / "images").mkdir()
    shapes = [(70, 90), (80, 60), (70, 90)]
    for number, (height, width) in enumerate(shapes):
        Image.fromarray(images(number + 1, height, width)[number].numpy()).save(folder / "images" / f"{number}.png")
    listed = [{"id": i, "file_name": f"{i}.png", "height": h, "width": w} for i, (h, w) in enumerate(shapes)]
    objects = [{"id": i + 1, "image_id": i, "category_id": 1, "bbox": [5, 5, 40, 40]} for i in range(3)]
    categories = [{"id": label, "name": name} for label, name in enumerate(NAMES, 1)]
    content = {"images": listed, "categories": categories, "annotations": objects}
    (folder / "val.json").write_text(json.dumps(content))
    config = load_config("detect/finetune.yaml", [*MODEL, f"data.root={folder}", *DATA], DetectionConfig)
    state = {f"model.{name}": value for name, value in ssdlite.state_dict().items()}
    content = {"state_dict": state, "rexnet": build_description(config, NAMES, {})}
    torch.save(content, folder / "detector.ckpt")
    return folder / "detector.ckpt"


@pytest.fixture(scope="module")
def folder(checkpoint: Path) -> Path:
    parity = export_detector(checkpoint, ["onnx", "safetensors"], checkpoint.parent / "export")
    assert parity is not None
    assert parity.agreement == 100
    assert parity.score_difference < 1e-5
    assert parity.box_difference < 1e-2
    assert parity.ap == pytest.approx(parity.network_ap, abs=1e-6)
    return checkpoint.parent / "export"


def test_onnx_takes_batches_of_any_size(folder: Path, ssdlite: Any) -> None:
    session = open_session(folder / "model.onnx")
    for batch in (images(1), images(5), images(2, 64, 64)):
        boxes, scores, labels = session.run(None, {"images": batch.numpy()})
        for row, wanted in enumerate(expected(ssdlite, batch)):
            there = len(wanted["scores"])
            np.testing.assert_allclose(scores[row][:there], wanted["scores"], atol=1e-5)
            assert (scores[row][there:] == 0).all()
            assert labels.shape == scores.shape == boxes.shape[:2]
    metadata = session.get_modelmeta().custom_metadata_map
    assert (metadata["detector"], metadata["class_names"]) == ("ssdlite", '["circle", "square"]')
    text = (folder / "parity.md").read_text()
    assert "(raw weights) on 3 images of" in text
    assert "same detections" in text


def test_safetensors_are_loaded_as_a_detector(folder: Path, ssdlite: Any) -> None:
    trained = load_trained_detector(folder / "model.safetensors")
    assert trained.class_names == NAMES
    assert all(torch.equal(value, ssdlite.state_dict()[name]) for name, value in trained.model.state_dict().items())


def test_the_command_exports_detectors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder / "model.safetensors"
    assert main(["export", str(source), "--to", "safetensors", "--output", str(folder / "again")]) == 0
    assert read_description(folder / "again" / "model.safetensors") == read_description(source)
    assert main(["export", str(source), "--to", "onnx", "--input", "float"]) == 2
    assert "--input float: is not for a detector" in capsys.readouterr().err


def test_other_forms_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--to int8: detectors are exported as onnx or safetensors only"):
        export_detector(checkpoint, ["onnx", "int8"])
    config = load_config("detect/faster_rcnn_rexnet_1.0x.yaml", MODEL, DetectionConfig)
    detector = build_detector(config, 2)
    state = {f"model.{name}": value for name, value in detector.state_dict().items()}
    torch.save({"state_dict": state, "rexnet": build_description(config, NAMES, {})}, tmp_path / "rcnn.ckpt")
    with pytest.raises(ConfigError, match=r"rcnn\.ckpt is a faster_rcnn; only ssdlite is exported as onnx"):
        export_detector(tmp_path / "rcnn.ckpt", ["onnx"])
    with pytest.raises(DataError, match="is not a folder"):
        export_detector(checkpoint, ["onnx"], root=Path("/nowhere"))


def test_a_changed_file_is_found(checkpoint: Path, folder: Path) -> None:
    trained = load_trained_detector(checkpoint)
    with torch.no_grad():
        trained.model.head.regression_head.module_list[0][1].bias += 0.05
    index = load_box_index(trained.config.data, "val", NAMES)
    assert measure_parity(trained, folder / "model.onnx", index).agreement < 100
