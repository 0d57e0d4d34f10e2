"""Draws detections into images, with torchvision."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rexnet.detection.box_index import BoxIndex
from rexnet.detection.coco_metrics import Detections, find_truth

COLORS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000", "#000075", "#f032e6")


def draw_boxes(image: Tensor, found: Detections, class_names: Sequence[str]) -> Tensor:
    """Returns an image, uint8 (3, H, W), with boxes, classes and scores (not those of 1); a class has one color."""
    from torchvision.utils import draw_bounding_boxes

    if not len(found.boxes):
        return image
    scores = ["" if score == 1 else f" {score:.0%}" for score in found.scores.tolist()]
    names = [class_names[label - 1] + score for label, score in zip(found.labels, scores, strict=True)]
    colors = [COLORS[(label - 1) % len(COLORS)] for label in found.labels]
    width = max(1, max(image.shape) // 200)
    drawn: Tensor = draw_bounding_boxes(image, torch.as_tensor(found.boxes), names, colors, width=width)
    return drawn


def draw_comparison(index: BoxIndex, position: int, found: Detections, class_names: Sequence[str]) -> Tensor:
    """Returns an image with its detections, and to the right of it with its true boxes: uint8 (3, H, 2 W)."""
    image = torch.tensor(index.read_pixels(position)).permute(2, 0, 1)
    return torch.cat([draw_boxes(image, each, class_names) for each in (found, find_truth(index, position))], dim=2)


def fit(image: Tensor, height: int, width: int) -> Tensor:
    """Returns a uint8 image resized to fit into a canvas, and the gray canvas around it."""
    from torchvision.transforms.v2.functional import resize

    scale = min(height / image.shape[1], width / image.shape[2])
    size = [max(1, round(scale * side)) for side in image.shape[1:]]
    canvas = torch.full((3, height, width), 128, dtype=torch.uint8)
    canvas[:, : size[0], : size[1]] = resize(image, size, antialias=True)
    return canvas
