"""SSDLite for deployment: RGB bytes of any size in, a fixed form of detections out."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image, nms

from rexnet.models.folding import fold_batchnorm


class DeployedSSDLite(nn.Module):
    """Maps RGB bytes (N, H, W, 3) to boxes (N, D, 4) in their pixels, scores (N, D) and labels (N, D), from 1.

    It computes what torchvision's SSD does, for all images and classes at once. The best detections come first; where
    an image has fewer than D, the others have score 0.
    """

    anchors: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, detector: Any) -> None:
        super().__init__()
        network: Any = fold_batchnorm(detector.cpu().float())
        self.detector = network
        self.side = network.transform.fixed_size[0]
        images = torch.zeros(1, 3, self.side, self.side)
        with torch.no_grad():
            maps = list(network.backbone(images).values())
            anchors = network.anchor_generator(ImageList(images, [(self.side, self.side)]), maps)[0]
        self.register_buffer("anchors", anchors)
        for name in ("mean", "std"):
            values = torch.tensor(getattr(network.transform, f"image_{name}"))
            self.register_buffer(name, values.view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns boxes, scores and labels."""
        network: Any = self.detector
        n, height, width, _ = images.shape
        x = (resize(images, self.side) - self.mean) / self.std
        outputs = network.head(list(network.backbone(x).values()))
        boxes = network.box_coder.decode_single(
            outputs["bbox_regression"].flatten(0, 1), self.anchors.expand(n, -1, -1).flatten(0, 1)
        )
        boxes = clip_boxes_to_image(boxes, (self.side, self.side)).reshape(n, -1, 4)
        candidates = min(network.topk_candidates, len(self.anchors))
        scores, places = outputs["cls_logits"].softmax(-1)[..., 1:].transpose(1, 2).topk(candidates)
        boxes = _take(boxes, places.flatten(1))
        kept = mask_of_nms(boxes.reshape(-1, candidates, 4), scores.flatten(0, 1), network.nms_thresh)
        kept = kept.reshape(scores.shape) & (scores > network.score_thresh)
        most = min(network.detections_per_img, scores.shape[1] * candidates)
        scores, places = (scores * kept).flatten(1).topk(most)
        boxes = _take(boxes, places) / self.side * torch.tensor([width, height, width, height])
        return boxes, scores, places // candidates + 1


@torch.library.custom_op("rexnet::mask_of_nms", mutates_args=())
def mask_of_nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Returns True (B, n) for the boxes (B, n, 4) that non-maximum suppression keeps in each of B groups."""
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for row in range(len(boxes)):
        kept[row, nms(boxes[row], scores[row], threshold)] = True
    return kept


@mask_of_nms.register_fake
def _(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def resize(images: Tensor, side: int) -> Tensor:
    """Returns RGB bytes (N, H, W, 3) as float (N, 3, side, side) of 0..1, rounded to bytes as in training."""
    x = F.interpolate(images.permute(0, 3, 1, 2).float(), size=(side, side), mode="bilinear", align_corners=False)
    return x.round() / 255


def _take(boxes: Tensor, places: Tensor) -> Tensor:
    """Returns the boxes (N, D, 4) at places (N, D) of boxes (N, A, 4)."""
    return boxes.gather(1, places.unsqueeze(2).expand(-1, -1, 4))
