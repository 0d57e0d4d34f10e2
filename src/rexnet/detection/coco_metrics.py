"""COCO's average precision (AP) and recall (AR), in percent, computed by faster-coco-eval."""

import logging
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert

from rexnet.detection.box_index import BoxIndex

log = logging.getLogger(__name__)

BOX_METRICS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100")
MASK_METRICS = tuple(f"mask_{name}" for name in BOX_METRICS[:6])


class Detections(NamedTuple):
    """The detections in one image, best first."""

    boxes: np.ndarray  # float32 (n, 4): left, top, right and bottom in pixels
    scores: np.ndarray  # float32 (n,)
    labels: np.ndarray  # int64 (n,), from 1
    masks: tuple[dict[str, Any], ...] = ()  # COCO's run lengths of each mask, of Mask R-CNN

    @classmethod
    def of(cls, output: dict[str, Tensor], scale: Tensor) -> "Detections":
        """Takes the output of a detector for one image, whose file is larger by `scale` (4,)."""
        from faster_coco_eval.core import mask

        boxes, scores, labels = (output[key].float().cpu().numpy() for key in ("boxes", "scores", "labels"))
        pixels = (output["masks"][:, 0] > 0.5).byte().cpu().numpy() if "masks" in output else ()
        boxes = boxes * scale.cpu().numpy()
        return cls(boxes, scores, labels.astype(np.int64), tuple(mask.encode(np.asfortranarray(m)) for m in pixels))

    def above(self, score: float) -> "Detections":
        """Returns the detections of at least this score."""
        kept = np.flatnonzero(self.scores >= score)
        masks = tuple(self.masks[at] for at in kept) if self.masks else ()
        return Detections(self.boxes[kept], self.scores[kept], self.labels[kept], masks)


class Scores(NamedTuple):
    """The metrics of a split."""

    values: dict[str, float]  # by name; a metric without any object, as of small ones, is missing
    per_class: dict[str, float]  # AP by class
    precision: list[float]  # mean over the classes at IoU 0.5, at the recalls 0, 0.01, ... 1


def evaluate_detections(index: BoxIndex, found: Sequence[Detections], class_names: Sequence[str]) -> Scores:
    """Compares the detections in each image of an index with its objects, as pycocotools does."""
    boxes = _run_engine(index, found, class_names, "bbox")
    values = dict(zip(BOX_METRICS, boxes.stats, strict=False))
    if index.outlines is not None:
        values |= dict(zip(MASK_METRICS, _run_engine(index, found, class_names, "segm").stats, strict=False))
    precision = boxes.eval["precision"][..., 0, -1]  # IoU, recall, class; -1 without objects
    present = (precision[0] > -1).all(0)
    per_class = {name: 100 * float(precision[..., at].mean()) for at, name in enumerate(class_names) if present[at]}
    values = {name: 100 * float(value) for name, value in values.items() if value > -1}
    return Scores(values, per_class, precision[0][:, present].mean(1).tolist())


def find_truth(index: BoxIndex, position: int) -> Detections:
    """Returns the objects of an image, without crowds, as detections with a score of 1."""
    objects = index.objects_of(position)
    counted = ~index.crowd[objects]
    boxes, labels = index.boxes[objects][counted], index.labels[objects][counted]
    return Detections(boxes, np.ones(len(boxes), np.float32), labels)


def coco_results(found: Detections, image_id: int) -> list[dict[str, Any]]:
    """Returns detections in COCO's form of results, with labels as categories."""
    rows = zip(_sides(found.boxes), found.scores.tolist(), found.labels.tolist(), strict=True)
    results = [{"image_id": image_id, "category_id": label, "bbox": box, "score": score} for box, score, label in rows]
    for result, mask in zip(results, found.masks, strict=False):
        result["segmentation"] = mask
    return results


def coco_truth(index: BoxIndex, class_names: Sequence[str], with_masks: bool = False) -> dict[str, Any]:
    """Returns the objects of an index in COCO's form, with positions as numbers of images and labels as categories."""
    images = [{"id": at, "height": high, "width": wide} for at, (high, wide) in enumerate(index.sizes.tolist())]
    columns = (index.images.tolist(), index.labels.tolist(), _sides(index.boxes), index.areas.tolist())
    annotations: list[dict[str, Any]] = [
        {"id": number, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": int(crowd)}
        for number, (image, label, box, area, crowd) in enumerate(zip(*columns, index.crowd, strict=True), 1)
    ]
    if with_masks:
        for one, mask in zip(annotations, chain.from_iterable(map(index.runs_of, range(len(index)))), strict=True):
            one["segmentation"] = mask
    return {"images": images, "annotations": annotations, "categories": coco_categories(class_names)}


def coco_categories(class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the classes in COCO's form."""
    return [{"id": label, "name": name} for label, name in enumerate(class_names, 1)]


def gather_detections(mine: dict[int, Detections], count: int) -> list[Detections]:
    """Returns the detections of all `count` images in order, in every process; each gives those of its own images."""
    parts = [mine]
    if torch.distributed.is_initialized():
        parts = [{} for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(parts, mine)
    found = {position: each for part in parts for position, each in part.items()}
    assert found.keys() == set(range(count)), f"validation saw {len(found)} of {count} images"
    return [found[position] for position in range(count)]


def _run_engine(index: BoxIndex, found: Sequence[Detections], class_names: Sequence[str], kind: str) -> Any:
    from faster_coco_eval.core import COCO, COCOeval_faster

    truth = COCO(coco_truth(index, class_names, kind == "segm"))
    results = [result for position, each in enumerate(found) for result in coco_results(each, position)]
    engine = COCOeval_faster(truth, truth.loadRes(results), kind, print_function=log.debug)
    engine.run()
    return engine


def _sides(boxes: np.ndarray) -> list[list[float]]:
    """Returns boxes (n, 4) as left, top, width and height."""
    sides: list[list[float]] = box_convert(torch.from_numpy(boxes).double(), "xyxy", "xywh").tolist()
    return sides
