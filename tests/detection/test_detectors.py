"""Tests for the detectors: sizes as in the paper, losses and detections, weights, frozen layers, errors."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rexnet.config import DetectionConfig, load_config
from rexnet.config.detection_schema import DetectorConfig
from rexnet.config.schema import ModelConfig
from rexnet.detection.backbones import ExpandedMaps, TimmMaps, build_body
from rexnet.detection.detector_module import Detector
from rexnet.detection.detectors import build_detector
from rexnet.errors import CheckpointError, ConfigError
from rexnet.models import pretrained
from rexnet.models.backbone import Backbone
from rexnet.models.factory import build_model, layer_distances, rexnet, split_parameters


def build(name: str = "ssdlite", image_size: int = 96, classes: int = 3, model: Any = None, **options: Any) -> Any:
    torch.manual_seed(0)
    network = ModelConfig(**{"name": "rexnet", "dropout": 0.0, "drop_path": 0.0, **(model or {})})
    base = load_config("detect/finetune", ["model.pretrained=null"], DetectionConfig)
    data = base.data.model_copy(update={"image_size": image_size})
    parts = {"detector": DetectorConfig.model_validate({"name": name, **options}), "model": network, "data": data}
    detector: Any = build_detector(base.model_copy(update=parts), classes)
    if name != "ssdlite":  # few proposals, for speed
        detector.rpn._post_nms_top_n = {"training": 20, "testing": 20}
        detector.roi_heads.fg_bg_sampler.batch_size_per_image = 8
    return detector


def targets(image_size: int = 96, masks: bool = False) -> list[dict[str, Tensor]]:
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [30.0, 20.0, 80.0, 90.0]])
    target = {"boxes": boxes, "labels": torch.tensor([1, 3])}
    if masks:
        target["masks"] = torch.ones(2, image_size, image_size, dtype=torch.uint8)
    return [target, {name: value[:1] for name, value in target.items()}]


def macs_of_ssdlite(width: float) -> int:
    with torch.device("meta"):
        detector = build(image_size=320, classes=80, model={"width_mult": width}).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        maps = detector.backbone(torch.empty(1, 3, 320, 320, device="meta"))
        assert [each.shape[-1] for each in maps.values()] == [20, 10, 5, 3, 2, 1]
        detector.head(list(maps.values()))
    return counter.get_total_flops() // 2


def macs_of_faster_rcnn(width: float) -> int:
    """Counts one image of 1280 x 800 px with 1,000 proposals."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        detector = build("faster_rcnn", 800, 80, {"width_mult": width}).eval()
        maps = detector.backbone(torch.empty(1, 3, 800, 1280))
        detector.rpn.head(list(maps.values()))
        detector.roi_heads.box_predictor(detector.roi_heads.box_head(torch.empty(1000, 256, 7, 7)))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("width", "parameters", "macs"),
    [(0.9, 4_985_436, 887_687_608), (1.0, 5_682_198, 1_007_918_560), (1.3, 8_425_826, 1_600_552_936)],
)  # paper: 5.0 M, 5.7 M and 8.4 M; 0.88 B, 1.01 B and 1.60 B
def test_ssdlite_has_the_size_of_the_paper(width: float, parameters: int, macs: int) -> None:
    with torch.device("meta"):
        detector = build(image_size=320, classes=80, model={"width_mult": width})
    assert sum(p.numel() for p in detector.parameters()) == parameters
    assert macs_of_ssdlite(width) == macs


@pytest.mark.parametrize(
    ("width", "parameters", "macs", "with_masks"),
    [
        (0.9, 20_105_013, 122_903_543_304, 22_748_550),
        (1.0, 20_648_069, 123_957_501_056, 23_291_606),
        (2.2, 33_017_912, 153_700_752_948, 35_661_449),
    ],
)  # paper: 20.1 M, 20.7 M and 33.0 M; 123.0 B, 124.1 B and 153.8 B
def test_the_rcnns_have_the_size_of_the_paper(width: float, parameters: int, macs: int, with_masks: int) -> None:
    with torch.device("meta"):
        detectors = [build(name, 800, 80, {"width_mult": width}) for name in ("faster_rcnn", "mask_rcnn")]
    assert [sum(p.numel() for p in each.parameters()) for each in detectors] == [parameters, with_masks]
    assert macs_of_faster_rcnn(width) == macs


@pytest.mark.parametrize(
    ("name", "model", "losses"),
    [
        ("ssdlite", {}, ["bbox_regression", "classification"]),
        ("ssdlite", {"variant": "lite"}, ["bbox_regression", "classification"]),
        ("ssdlite", {"name": "timm/tf_efficientnet_lite0"}, ["bbox_regression", "classification"]),
        (
            "mask_rcnn",
            {"variant": "r", "width_mult": 0.5},
            ["loss_box_reg", "loss_classifier", "loss_mask", "loss_objectness", "loss_rpn_box_reg"],
        ),
        (
            "faster_rcnn",
            {"name": "timm/resnet10t"},
            ["loss_box_reg", "loss_classifier", "loss_objectness", "loss_rpn_box_reg"],
        ),
    ],
)
def test_detectors_learn_and_detect(name: str, model: dict[str, Any], losses: list[str]) -> None:
    detector = build(name, model=model, score_threshold=0.0, max_detections=7)
    images = [torch.rand(3, 96, 96), torch.rand(3, 96, 96)]
    computed = detector(images, targets(masks=name == "mask_rcnn"))
    assert sorted(computed) == losses
    sum(computed.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters())
    with torch.inference_mode():
        found = detector.eval()(images)
    assert len(found) == 2
    assert found[0]["boxes"].shape == (7, 4)
    assert set(found[0]["labels"].tolist()) <= {1, 2, 3}
    assert ("masks" in found[0]) == (name == "mask_rcnn")


def test_small_images_have_fewer_maps() -> None:
    images = [torch.rand(3, 64, 64)]
    detector = build(image_size=64).eval()
    assert [each.shape[-1] for each in detector.backbone(torch.stack(images)).values()] == [4, 2, 1]
    assert detector(images)[0]["boxes"].shape[1] == 4


def test_the_first_map_has_three_small_anchors() -> None:
    anchors = build(image_size=320).anchor_generator
    assert anchors.num_anchors_per_location() == [3, 6, 6, 6, 6, 6]
    sides = 320 * anchors._wh_pairs[0]
    assert torch.allclose(sides, torch.tensor([[32.0, 32.0], [90.51, 45.25], [45.25, 90.51]]), atol=0.01)


def test_boxes_stay_in_float32_under_autocast() -> None:
    for name in ("ssdlite", "faster_rcnn"):
        detector = build(name, model={"width_mult": 0.5}).eval()
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            found = detector([torch.rand(3, 96, 96)])
        assert found[0]["boxes"].dtype == torch.float32
        assert not torch.equal(found[0]["boxes"], found[0]["boxes"].bfloat16().float()), name


def test_the_backbone_is_what_the_optimizer_calls_backbone() -> None:
    detector = build(model={"width_mult": 0.5})
    backbone, others = split_parameters(detector)
    assert {id(p) for p in backbone} == {id(p) for p in detector.backbone.body.parameters()}
    assert {id(p) for p in others} == {
        id(p) for p in nn.ModuleList([detector.backbone.extra, detector.head]).parameters()
    }


@pytest.mark.parametrize(
    ("name", "network", "first", "last"),
    [
        ("ssdlite", {"width_mult": 0.5}, "stem.conv.weight", "features.16.conv.weight"),
        ("faster_rcnn", {"width_mult": 0.5}, "stem.conv.weight", "features.15.conv_pwl.bn.bias"),
        ("ssdlite", {"name": "timm/efficientnet_lite0"}, "features.conv_stem.weight", "features.blocks.6.0.bn3.bias"),
        ("ssdlite", {"name": "timm/resnet18"}, "features.conv1.weight", "features.layer4.1.conv2.weight"),
    ],
)
def test_the_layers_of_a_detector_are_those_of_its_backbone(
    name: str, network: dict[str, Any], first: str, last: str
) -> None:
    distances = layer_distances(build(name, model=network))
    numbers = {key.removeprefix("backbone.body."): distance for key, distance in distances.items() if ".body." in key}
    assert (numbers[first], numbers[last]) == (max(numbers.values()), 1)
    assert {*numbers.values()} == {*range(1, numbers[first] + 1)}
    assert {distance for key, distance in distances.items() if ".body." not in key} == {0}


def test_the_body_is_the_pretrained_network(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = rexnet(0.5, num_classes=7).eval()
    save_file(network.state_dict(), tmp_path / "rexnet.safetensors")
    images = torch.rand(2, 3, 96, 96)
    model = {"width_mult": 0.5, "pretrained": str(tmp_path / "rexnet.safetensors")}
    body = build(model=model).eval().backbone.body
    assert isinstance(body, ExpandedMaps)
    assert torch.equal(body(images)["1"], network.forward_features(images))
    pyramid = build("faster_rcnn", model=model).eval().backbone.body
    assert isinstance(pyramid, Backbone)
    assert torch.equal(pyramid(images)["3"], Backbone(network)(images)["4"])
    assert list(pyramid(images)) == ["0", "1", "2", "3"]  # the names that torchvision's R-CNNs pool from


def test_weights_on_the_hub_are_those_of_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(source: str, name: str) -> Path:
        asked.append((source, name))
        raise CheckpointError("no network")

    monkeypatch.setattr(pretrained, "fetch_weights", fetch)
    for model in ({"width_mult": 1.3}, {"variant": "r", "width_mult": 2.0}, {"name": "timm/resnet18"}):
        with pytest.raises(CheckpointError, match="no network"):
            build(model={**model, "pretrained": "tag"})
    assert asked == [("tag", "rexnet_130"), ("tag", "rexnetr_200"), ("tag", "timm/resnet18")]


def test_the_body_is_the_pretrained_network_of_timm(tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = ModelConfig(name="timm/resnet10t", dropout=0.0, drop_path=0.0)
    network: Any = build_model(config, ["a", "b"]).eval()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "resnet.pth")
    images = torch.rand(2, 3, 96, 96)
    body = build(model={"name": config.name, "pretrained": str(tmp_path / "resnet.pth")}).eval().backbone.body
    assert isinstance(body, TimmMaps)
    assert torch.equal(body(images)["1"], network.forward_features(images))


@pytest.mark.parametrize("model", [{"width_mult": 0.5}, {"name": "timm/resnet10t"}])
def test_fine_layers_can_be_frozen(model: dict[str, Any]) -> None:
    config = ModelConfig(**{"name": "rexnet", "dropout": 0.0, "drop_path": 0.0, **model})
    frozen = [DetectorConfig(name="faster_rcnn", trainable_layers=number) for number in range(6)]
    bodies = [build_body(config, each, pretrained=False) for each in frozen]
    trained = [sum(p.numel() for p in body.parameters() if p.requires_grad) for body in bodies]
    norms = [sum(isinstance(layer, nn.BatchNorm2d) for layer in body.modules()) for body in bodies]
    assert trained[0] == norms[0] == 0
    assert trained == sorted(trained)
    assert norms == sorted(norms)
    assert trained[5] == sum(p.numel() for p in bodies[5].parameters()) > trained[4]


def test_frozen_layers_of_rexnet_end_with_a_stride() -> None:
    body = build(model={"width_mult": 0.5}, trainable_layers=2).backbone.body  # strides 16 and 32
    trained = [place for place, block in enumerate(body.features) if any(p.requires_grad for p in block.parameters())]
    assert trained == [*range(5, 17)]  # blocks 0 to 4 have strides 2, 4 and 8


def test_frozen_layers_stay_frozen_after_the_first_epochs() -> None:
    options = ["model.width_mult=0.5", "data.image_size=64", "optimizer.freeze_backbone_epochs=1"]
    config = load_config("detect/finetune.yaml", options, DetectionConfig)
    module = Detector(config, build(model={"width_mult": 0.5}, trainable_layers=2), ("a", "b", "c"), steps_per_epoch=1)
    before = [p.requires_grad for p in module.model.parameters()]
    trainer: Any = SimpleNamespace(current_epoch=0)
    module.trainer = trainer
    module.on_train_epoch_start()
    assert not any(p.requires_grad for p in module.model.backbone.body.parameters())  # type: ignore[union-attr]
    trainer.current_epoch = 1
    module.on_train_epoch_start()
    assert [p.requires_grad for p in module.model.parameters()] == before
    assert {*before} == {True, False}


def test_norm_can_be_frozen() -> None:
    detector = build("faster_rcnn", model={"width_mult": 0.5}, norm="frozen").train()
    before = {name: value.clone() for name, value in detector.backbone.body.named_buffers()}
    detector([torch.rand(3, 96, 96)] * 2, targets())
    assert before
    assert all(torch.equal(value, before[name]) for name, value in detector.backbone.body.named_buffers())


def test_weights_of_a_detector_start_another(tmp_path: Path) -> None:
    first = build(model={"width_mult": 0.5})
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1)
    # As in a checkpoint, where the EMA weights come first.
    content = {f"ema_model.{name}": value for name, value in first.state_dict().items()}
    torch.save({"state_dict": content}, tmp_path / "detector.ckpt")
    again = build(model={"width_mult": 0.5}, weights=str(tmp_path / "detector.ckpt"))
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in again.state_dict().items())
    other = build(classes=5, model={"width_mult": 0.5}, weights=str(tmp_path / "detector.ckpt")).state_dict()
    fresh = [name for name, value in first.state_dict().items() if not torch.equal(other[name], value)]
    assert all(name.startswith("head.classification_head.module_list") and ".1." in name for name in fresh)
    assert len(fresh) == 2 * 4
    with pytest.raises(CheckpointError, match="holds another detector than this ssdlite"):
        build(model={"width_mult": 1.0}, weights=str(tmp_path / "detector.ckpt"))
    with pytest.raises(CheckpointError, match=r"holds a detector; give it as detector\.weights"):
        build(model={"width_mult": 0.5, "pretrained": str(tmp_path / "detector.ckpt")})


def test_errors_say_what_would_be_right(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.image_size: 48 px leave a feature map of one pixel.* at least 64"):
        build(image_size=48)
    with pytest.raises(ConfigError, match=r"timm/vit_tiny_patch16_224 has maps of the strides 16, but .* needs 32"):
        build(model={"name": "timm/vit_tiny_patch16_224"})
    save_file(rexnet(0.5, num_classes=7).state_dict(), tmp_path / "classifier.safetensors")
    with pytest.raises(CheckpointError, match=r"holds no detector; .* as model\.pretrained"):
        build(model={"width_mult": 0.5}, weights=str(tmp_path / "classifier.safetensors"))
