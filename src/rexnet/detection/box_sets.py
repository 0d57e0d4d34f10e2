"""Loads the boxes of a split for any data set of a detector's configuration."""

from collections.abc import Sequence

import numpy as np

DetectionDataConfig = object
from rexnet.data.datasets.cub200 import index_cub200
from rexnet.data.datasets.index import Split
from rexnet.data.sources.decode import read_size
from rexnet.detection.box_index import BoxIndex, Images, Objects, build_box_index
from rexnet.detection.coco_json import check_sizes_2017, find_annotations, find_images, read_coco
from rexnet.detection.voc_xml import find_voc, read_voc
from rexnet.errors import DataError


def load_box_index(
    data: DetectionDataConfig, split: Split, class_names: Sequence[str] | None = None, with_masks: bool = False
) -> BoxIndex:
    """Loads the images of `split` with their objects.

    Args:
        data: the data set.
        split: `train` or `val`.
        class_names: the order of the labels; None: that of the data set. Objects of other classes are defects.
        with_masks: load the masks of the objects, too.

    Raises:
        DataError: something is missing, inconsistent or, if so configured, defective.
    """
    root = data.root
    if not root.is_dir():
        raise DataError(f"data.root: {root.absolute()} does not exist; it should contain the {data.dataset} data set")
    named = data.train_annotations if split == "train" else data.val_annotations
    if with_masks and data.dataset in ("voc", "cub200"):
        raise DataError(f"data.dataset: {data.dataset} has no masks; they need coco")
    if data.dataset == "cub200":
        path = root
        images, objects, classes = read_cub(data, split)
    elif data.dataset == "voc":
        path = find_voc(root, split, named)
        images, objects, classes = read_voc(path, class_names)
    else:
        path = root / named if named else find_annotations(root, split)
        images, objects, classes = read_coco(path, class_names, with_masks)
        folder = data.train_images if split == "train" else data.val_images
        images = images._replace(folder=root / folder if folder else find_images(root, split, path, images.paths[0]))
        if data.dataset == "coco2017":
            check_sizes_2017(path, split, len(images.paths))
    return build_box_index(images, objects, classes, path, data.on_bad_box, data.on_missing_image)


def read_cub(data: DetectionDataConfig, split: Split) -> tuple[Images, Objects, tuple[str, ...]]:
    """Reads CUB-200-2011: one bird in each image, and its species as the class."""
    index = index_cub200(data.root, split, with_boxes=True)
    assert index.boxes is not None
    sizes = np.array([read_size(index.name(position)) for position in range(len(index))], np.int32)
    numbers = np.arange(len(index))
    boxes, crowd = index.boxes.astype(np.float64), np.zeros(len(index), bool)
    images = Images(index.root, list(index.paths), sizes, numbers + 1)
    return images, Objects(numbers, numbers, index.labels + 1, boxes, crowd), index.class_names
