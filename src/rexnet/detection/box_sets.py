"""Loads the boxes of a split for any data set of a detector's configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from rexnet.config.detection_schema import DetectionDataConfig
from rexnet.data.datasets.cub200 import index_cub200
from rexnet.data.datasets.index import Split
from rexnet.data.sources.decode import read_size
from rexnet.detection.box_index import BoxIndex, clean_index
from rexnet.detection.coco_json import find_coco, read_coco
from rexnet.detection.voc_xml import find_voc, read_voc
from rexnet.errors import DataError

COCO_2017 = {"train": 118_287, "val": 5_000}  # images


def load_box_index(
    data: DetectionDataConfig, split: Split, class_names: Sequence[str] | None = None, with_masks: bool = False
) -> BoxIndex:
    """Loads the images of the split `train` or `val` with their objects.

    Args:
        data: the data set.
        split: the split.
        class_names: the order of the labels; None: that of the data set. Objects of other classes are defects.
        with_masks: load the masks of the objects, too.

    Raises:
        DataError: something is missing, inconsistent or, if so configured, defective.
    """
    root, path = data.root, data.root
    if not root.is_dir():
        raise DataError(f"data.root: {root.absolute()} is not a folder; it should contain the {data.dataset} data set")
    if with_masks and not data.dataset.startswith("coco"):
        raise DataError(f"data.dataset: {data.dataset} has no masks, which mask_rcnn needs; use coco")
    keys = ("train_annotations", "train_images") if split == "train" else ("val_annotations", "val_images")
    named, folder = (getattr(data, key) for key in keys)
    if data.dataset == "cub200":
        index, ids = read_cub(root, split)
    elif data.dataset == "voc":
        path = find_voc(root, split, named)
        index, ids = read_voc(path, class_names)
    else:
        path, images = (root / named, root / (folder or ".")) if named else find_coco(root, split)
        index, ids = read_coco(path, images, class_names, with_masks)
        if data.dataset == "coco2017" and len(index) != COCO_2017[split]:
            raise DataError(
                f"{path}: has {len(index):,} images, but COCO 2017 has {COCO_2017[split]:,} in {split}2017; complete "
                f"it, or set data.dataset=coco for images of your own choice"
            )
    return clean_index(index, ids, path, data.on_bad_box, data.on_missing_image)


def detect_boxes(root: Path) -> Literal["coco", "voc"] | None:
    """Returns the form of the annotations at `root`, by its files; None: there are no boxes."""
    marks = ("annotations/instances_*.json", "*/_annotations.coco.json")
    if any(any(root.glob(mark)) for mark in marks):
        return "coco"
    return "voc" if any(any(root.glob(f"{base}ImageSets/Main")) for base in ("", "VOC2*/", "VOCdevkit/*/")) else None


def read_cub(root: Path, split: Split) -> tuple[BoxIndex, np.ndarray]:
    """Reads CUB-200-2011 as published: one bird in each image, and its species as the class."""
    index = index_cub200(root, split, with_boxes=True)
    numbers, unknown = np.arange(len(index)), np.full(len(index), np.nan)
    sizes = np.array([read_size(index.name(position)) for position in numbers.tolist()], np.int32)
    boxes = np.asarray(index.boxes, np.float64)
    parts = index.class_names, numbers + 1, sizes, numbers, boxes, index.labels + 1, numbers < 0, unknown
    return BoxIndex(index.source, *parts), numbers
