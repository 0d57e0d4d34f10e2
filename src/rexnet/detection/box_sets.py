"""Loads the boxes of a split for any data set of a detector's configuration."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rexnet.config.detection_schema import DetectionDataConfig
from rexnet.data.datasets.cub200 import index_cub200
from rexnet.data.datasets.index import Split
from rexnet.data.sources.decode import read_size
from rexnet.detection.box_index import Annotations, BoxIndex, build_box_index
from rexnet.detection.coco_json import find_annotations, find_images, read_coco
from rexnet.detection.voc_xml import find_voc, read_voc
from rexnet.errors import DataError

COCO_2017 = {"train": 118_287, "val": 5_000}  # images


def load_box_index(
    data: DetectionDataConfig, split: Split, class_names: Sequence[str] | None = None, with_masks: bool = False
) -> BoxIndex:
    """Loads the images of a split with their objects.

    Args:
        data: the data set.
        split: `train` or `val`.
        class_names: the order of the labels; None: that of the data set. Objects of other classes are defects.
        with_masks: load the masks of the objects, too.

    Raises:
        DataError: something is missing, inconsistent or, if so configured, defective.
    """
    root, path = data.root, data.root
    if not root.is_dir():
        raise DataError(f"data.root: {root.absolute()} does not exist; it should contain the {data.dataset} data set")
    if with_masks and not data.dataset.startswith("coco"):
        raise DataError(f"data.dataset: {data.dataset} has no masks, which mask_rcnn needs; use coco")
    keys = ("train_annotations", "train_images") if split == "train" else ("val_annotations", "val_images")
    listed, folder = (getattr(data, key) for key in keys)
    if data.dataset == "cub200":
        found = read_cub(root, split)
    elif data.dataset == "voc":
        path = find_voc(root, split, listed)
        found = read_voc(path, class_names)
    else:
        path = root / listed if listed else find_annotations(root, split)
        found = read_coco(path, class_names, with_masks)
        place = root / folder if folder else find_images(root, split, path, found.paths[0])
        found = found._replace(folder=place)
        if data.dataset == "coco2017" and len(found.paths) != COCO_2017[split]:
            raise DataError(
                f"{path}: has {len(found.paths):,} images, but COCO 2017 has {COCO_2017[split]:,} in {split}2017; "
                f"complete it, or set data.dataset=coco for images of your own choice"
            )
    return build_box_index(found, path, data.on_bad_box, data.on_missing_image)


def read_cub(root: Path, split: Split) -> Annotations:
    """Reads CUB-200-2011 as published: one bird in each image, and its species as the class."""
    index = index_cub200(root, split, with_boxes=True)
    assert index.boxes is not None
    numbers, areas = np.arange(len(index)), np.full(len(index), np.nan)
    sizes = np.array([read_size(index.name(position)) for position in numbers.tolist()], np.int32)
    boxes, crowd, labels = index.boxes.astype(np.float64), areas == 0, index.labels + 1
    paths = list(index.paths)
    return Annotations(
        index.class_names, index.root, paths, sizes, numbers + 1, numbers, numbers, labels, boxes, crowd, areas
    )
