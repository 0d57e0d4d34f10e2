"""Builds torchvision's detectors on networks of the ReXNet family or of timm.

They take a list of images, float (3, H, W) in 0..1, which they resize and normalize. In training, they also take
targets (`boxes` (n, 4) as x1, y1, x2, y2 in pixels, `labels` (n,) from 1, for Mask R-CNN `masks` (n, H, W)) and return
their losses by name; in evaluation, they return `boxes`, `labels` and `scores` of each image.
"""

import functools
import logging
import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead, _extra_block, _normal_init
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from rexnet.config import DetectionConfig
from rexnet.detection.backbones import Maps, build_body
from rexnet.errors import CheckpointError, ConfigError
from rexnet.models.pretrained import load_complete
from rexnet.models.weights import read_weights

log = logging.getLogger(__name__)

SMALLEST_IMAGE = 64  # its map at stride 32 has 2 x 2 pixels; below, there would be a single one to detect on
EXTRA_CHANNELS = (512, 256, 256, 128)
NORM = functools.partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)  # torchvision's, of all but the backbone
PYRAMID_CHANNELS = 256


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


def build_detector(config: DetectionConfig, num_classes: int, pretrained: bool = True) -> nn.Module:
    """Builds a detector on the CPU, in training mode, for a number of classes of objects.

    With `pretrained`, it loads `detector.weights`, or else `model.pretrained` without the classifier.

    Raises:
        ConfigError: the image size leaves no feature map, or the network has no maps of the needed strides.
        CheckpointError: a weight file is missing, damaged, or of another network.
    """
    wanted, size = config.detector, config.data.image_size
    if size < SMALLEST_IMAGE:
        raise ConfigError(
            f"data.image_size: {size} px leave a feature map of one pixel; a detector needs at least {SMALLEST_IMAGE}"
        )
    lite = wanted.name == "ssdlite"
    body = build_body(config.model, wanted, pretrained and wanted.weights is None)
    options: dict[str, Any] = {"image_mean": list(config.data.mean), "image_std": list(config.data.std)}
    thresholds = {"score_thresh": wanted.score_threshold, "nms_thresh": wanted.nms_threshold}
    limits = thresholds | {"detections_per_img": wanted.max_detections}
    options |= {name if lite else f"box_{name}": value for name, value in limits.items() if value is not None}
    detector: Any
    if lite:
        features = LiteFeatures(body, size)
        anchors = LiteAnchors(len(features.channels))
        head = SSDLiteHead(features.channels, anchors.num_anchors_per_location(), num_classes + 1, NORM)
        usual = {"score_thresh": 0.001, "nms_thresh": 0.55, "detections_per_img": 300, "topk_candidates": 300}
        detector = SSD(features, anchors, (size, size), num_classes + 1, head=head, **{**usual, **options})
        _compute_boxes_in_float32(anchors, head)
    else:
        fpn = FeaturePyramidNetwork(body.channels, PYRAMID_CHANNELS, LastLevelMaxPool())
        pyramid = nn.Sequential(OrderedDict[str, nn.Module](body=body, fpn=fpn))
        pyramid.out_channels = PYRAMID_CHANNELS  # type: ignore[assignment]  # torchvision asks for it
        options |= {"min_size": size, "max_size": max(wanted.max_size, size)}
        detector = (FasterRCNN if wanted.name == "faster_rcnn" else MaskRCNN)(pyramid, num_classes + 1, **options)
        _compute_boxes_in_float32(detector.rpn.anchor_generator, detector.rpn.head, detector.roi_heads.box_predictor)
    if pretrained and wanted.weights is not None:
        log.info(load_detector(detector, wanted.weights, wanted.name))
    return detector  # type: ignore[no-any-return]


def load_detector(detector: nn.Module, path: Path, name: str) -> str:
    """Loads the weights of a whole detector and returns a sentence about them.

    Layers for another number of classes stay as initialized.

    Raises:
        CheckpointError: the file is missing, damaged, or holds a classifier or another detector.
    """
    weights, wanted = dict(read_weights(path).weights), detector.state_dict()
    if not any(key.startswith("backbone.") for key in weights):
        raise CheckpointError(f"{path}: holds no detector; give the weights of a classifier as model.pretrained")
    common = {key: (weights[key].shape, wanted[key].shape) for key in wanted.keys() & weights.keys()}
    other = [key for key, (old, new) in common.items() if old != new and old[1:] == new[1:]]
    weights |= {key: wanted[key] for key in other}
    load_complete(detector, weights, path, f"detector than this {name}")
    return f"Weights from {path}{'; it has other classes, so their layers were initialized' if other else ''}."


def _compute_boxes_in_float32(anchors: nn.Module, *heads: nn.Module) -> None:
    """Keeps coordinates in float32 under autocast: torchvision computes them in the type of maps and head outputs.

    In bf16, coordinates above 256 px would be multiples of 2 px.
    """
    anchors.register_forward_pre_hook(lambda module, inputs: tree_map_only(Tensor, Tensor.float, inputs))
    for head in heads:
        head.register_forward_hook(lambda module, inputs, outputs: tree_map_only(Tensor, Tensor.float, outputs))
