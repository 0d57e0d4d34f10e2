"""Builds torchvision's detectors on networks of the ReXNet family or of timm.

They take a list of images, float (3, H, W) in 0..1, which they resize and normalize. In training, they also take
targets (`boxes` (n, 4) as x1, y1, x2, y2 in pixels, `labels` (n,) from 1, for Mask R-CNN `masks` (n, H, W)) and return
their losses by name; in evaluation, they return `boxes`, `labels` and `scores` of each image.
"""

import functools
import logging
import math
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead, _extra_block, _normal_init
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from rexnet.config.detection_schema import DetectorConfig
from rexnet.config.schema import ModelConfig
from rexnet.detection.backbones import Maps, build_body
from rexnet.errors import CheckpointError, ConfigError
from rexnet.models.weights import read_weights

log = logging.getLogger(__name__)

SMALLEST_IMAGE = 64  # its map at stride 32 has 2 x 2 pixels; below, there would be a single one to detect on
EXTRA_CHANNELS = (512, 256, 256, 128)
NORM = functools.partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)  # torchvision's, of all but the backbone
PYRAMID_CHANNELS = 256
PYRAMID_STRIDES = (4, 8, 16, 32)


class LiteFeatures(nn.Module):
    """The maps of SSDLite: two of the backbone, and up to four of extra layers that halve the map until it is 1 x 1.

    At 320 px, their sides are 20, 10, 5, 3, 2 and 1. The extra layers are those of torchvision's SSDLite.
    """

    def __init__(self, body: Maps, image_size: int) -> None:
        super().__init__()
        self.body = body
        self.extra = nn.ModuleList()
        self.channels = list(body.channels)
        side = math.ceil(image_size / 32)
        for channels in EXTRA_CHANNELS:
            if side > 1:
                self.extra.append(_extra_block(self.channels[-1], channels, NORM))
                self.channels.append(channels)
                side = math.ceil(side / 2)
        _normal_init(self.extra)

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Returns the maps by name, fine to coarse."""
        maps: OrderedDict[str, Tensor] = self.body(images)
        x = next(reversed(maps.values()))
        for layers in self.extra:
            x = layers(x)
            maps[str(len(maps))] = x
        return maps


class LiteAnchors(DefaultBoxGenerator):  # type: ignore[misc]  # torchvision has no types
    """The anchors of MobileNet's SSDLite: six for each pixel of a map, but three in the finest map.

    Sides are 0.2 to 0.95 of the image's, and 0.1 and 0.2 in the finest map, as in TensorFlow's detection models.
    """

    def __init__(self, maps: int) -> None:
        super().__init__([[2, 3]] * maps, min_ratio=0.2, max_ratio=0.95)
        long, short = 0.2 * math.sqrt(2), 0.2 / math.sqrt(2)
        self._wh_pairs[0] = torch.tensor([[0.1, 0.1], [long, short], [short, long]])

    def num_anchors_per_location(self) -> list[int]:
        """Returns the number of anchors for each pixel of each map."""
        return [len(sides) for sides in self._wh_pairs]


def build_detector(
    config: DetectorConfig,
    model: ModelConfig,
    num_classes: int,
    image_size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    pretrained: bool = True,
) -> nn.Module:
    """Builds a detector on the CPU, in training mode.

    Args:
        config: kind of detector, and its thresholds.
        model: backbone; of its weights, `pretrained` loads all but the classifier.
        num_classes: number of classes of objects, without the background.
        image_size: side of SSDLite's square input, or short side of the R-CNNs' images, in pixels.
        mean: channel means of RGB in 0..1 that the backbone expects.
        std: channel standard deviations, likewise.
        pretrained: load `config.weights`, or else `model.pretrained`.

    Raises:
        ConfigError: the image size leaves no feature map, or the network has no maps of the needed strides.
        CheckpointError: a weight file is missing, damaged, or of another network.
    """
    if image_size < SMALLEST_IMAGE:
        raise ConfigError(
            f"data.image_size: {image_size} px leave a feature map of one pixel; a detector needs at least "
            f"{SMALLEST_IMAGE}"
        )
    lite = config.name == "ssdlite"
    body = build_body(
        model,
        strides=(16, 32) if lite else PYRAMID_STRIDES,
        expanded=lite,
        trainable_layers=config.trainable_layers,
        frozen_norm=config.norm == "frozen",
        pretrained=pretrained and config.weights is None,
    )
    prefix = "" if lite else "box_"
    thresholds = {
        f"{prefix}score_thresh": config.score_threshold,
        f"{prefix}nms_thresh": config.nms_threshold,
        f"{prefix}detections_per_img": config.max_detections,
    }
    options: dict[str, Any] = {"image_mean": list(mean), "image_std": list(std)}
    options |= {name: value for name, value in thresholds.items() if value is not None}
    if lite:
        detector = _build_ssdlite(body, num_classes, image_size, options)
    else:
        fpn = FeaturePyramidNetwork(body.channels, PYRAMID_CHANNELS, LastLevelMaxPool())
        features = nn.Sequential(OrderedDict[str, nn.Module](body=body, fpn=fpn))
        features.out_channels = PYRAMID_CHANNELS  # type: ignore[assignment]  # torchvision asks for it
        options |= {"min_size": image_size, "max_size": max(config.max_size, image_size)}
        detector = (FasterRCNN if config.name == "faster_rcnn" else MaskRCNN)(features, num_classes + 1, **options)
        _compute_boxes_in_float32(detector.rpn.anchor_generator, detector.rpn.head, detector.roi_heads.box_predictor)
    if pretrained and config.weights is not None:
        log.info(load_detector(detector, config.weights, config.name))
    return detector


def load_detector(detector: nn.Module, path: Path, name: str) -> str:
    """Loads the weights of a whole detector and returns a sentence about them.

    Layers for another number of classes stay as initialized.

    Raises:
        CheckpointError: the file is missing, damaged, or holds a classifier or another detector.
    """
    weights, wanted = dict(read_weights(path).weights), detector.state_dict()
    if not any(key.startswith("backbone.") for key in weights):
        raise CheckpointError(f"{path}: holds no detector; give the weights of a classifier as model.pretrained")
    other = [key for key in wanted.keys() & weights.keys() if _differs_in_classes(weights[key], wanted[key])]
    weights |= {key: wanted[key] for key in other}
    try:
        detector.load_state_dict(weights)
    except RuntimeError as error:
        problem = str(error).splitlines()[1].strip()  # PyTorch lists all of them, after a heading
        raise CheckpointError(f"{path}: holds another detector than this {name}: {problem[:200]}") from None
    return f"Weights from {path}{'; it has other classes, so their layers were initialized' if other else ''}."


def _build_ssdlite(body: Maps, num_classes: int, image_size: int, options: Mapping[str, Any]) -> nn.Module:
    features = LiteFeatures(body, image_size)
    anchors = LiteAnchors(len(features.channels))
    head = SSDLiteHead(features.channels, anchors.num_anchors_per_location(), num_classes + 1, NORM)
    usual = {"score_thresh": 0.001, "nms_thresh": 0.55, "detections_per_img": 300, "topk_candidates": 300}
    size = (image_size, image_size)
    detector: nn.Module = SSD(features, anchors, size, num_classes + 1, head=head, **{**usual, **options})
    _compute_boxes_in_float32(anchors, head)
    return detector


def _compute_boxes_in_float32(anchors: nn.Module, *heads: nn.Module) -> None:
    """Keeps coordinates in float32 under autocast: torchvision computes them in the type of maps and head outputs.

    In bf16, coordinates above 256 px would be multiples of 2 px.
    """
    anchors.register_forward_pre_hook(lambda module, inputs: _as_float32(inputs))
    for head in heads:
        head.register_forward_hook(lambda module, inputs, outputs: _as_float32(outputs))


def _as_float32(value: Any) -> Any:
    match value:
        case Tensor():
            return value.float()
        case Mapping():
            return {name: _as_float32(each) for name, each in value.items()}
        case list() | tuple():
            return type(value)(map(_as_float32, value))
    return value


def _differs_in_classes(found: Tensor, wanted: Tensor) -> bool:
    """True if only the number of outputs differs."""
    return found.shape != wanted.shape and found.ndim == wanted.ndim and found.shape[1:] == wanted.shape[1:]
