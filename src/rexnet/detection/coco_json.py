"""COCO's JSON (Lin et al., arXiv 1405.0312): images, annotations and categories of one split in one file."""

import functools
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rexnet.data.datasets.index import SPLIT_NAMES, Split
from rexnet.data.sources.image_files import printable
from rexnet.data.sources.names import Names
from rexnet.detection.box_index import Annotations
from rexnet.errors import DataError

FORM = "it should be COCO's JSON of instances"


def find_annotations(root: Path, split: Split) -> Path:
    """Returns the annotations of a split in one of the usual places: COCO's, or those of Roboflow's export."""
    places = [f"annotations/instances_{split}2017.json", f"annotations/instances_{split}.json"]
    places += [f"{name}/_annotations.coco.json" for name in SPLIT_NAMES[split]]
    found = next((root / place for place in places if (root / place).exists()), None)
    if found is None:
        raise DataError(f"{root}: has none of {', '.join(places)}; name the file with data.{split}_annotations")
    return found


def find_images(root: Path, split: Split, annotations: Path, example: str) -> Path:
    """Returns the usual folder that contains the image `example` of the split."""
    names = [f"{split}2017", f"images/{split}2017", f"images/{split}", split, "images", "."]
    for folder in (*(root / name for name in names), annotations.parent):
        if os.path.lexists(folder / example):
            return folder
    raise DataError(
        f"{root}: {printable(example)} of {annotations.name} is missing, or not in {', '.join(names[:-1])}; name the "
        f"folder with data.{split}_images"
    )


def read_coco(path: Path, class_names: Sequence[str] | None = None, with_masks: bool = False) -> Annotations:
    """Reads the annotations of images that are next to the file.

    Labels count the categories from 1, in the order of their numbers, which may have holes, or of `class_names`.
    Annotations shrink to tuples while the file is parsed: one of COCO's size takes 5 s and 0.9 GB, instead of 13 s and
    2.8 GB.

    Raises:
        DataError: the file is not COCO's JSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_hook=functools.partial(_shrink, with_masks))
        images, rows, categories = (content[key] for key in ("images", "annotations", "categories"))
        paths = [str(image["file_name"]) for image in images]
        image_ids = np.array([image["id"] for image in images], np.int64)
        sizes = np.array([(image["height"], image["width"]) for image in images], np.int32)
        name_of = {int(one["id"]): str(one["name"]) for one in categories}
        numbers = np.array([row[:9] for row in rows], np.float64)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; {FORM}") from None
    except KeyError as error:
        raise DataError(f"{path}: lacks {error}; {FORM}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read: {error}; {FORM}") from None
    if not (paths and len(rows) and name_of):
        counts = f"{len(paths):,} images, {len(rows):,} annotations and {len(name_of):,} categories"
        raise DataError(f"{path}: has {counts}; at least one of each is needed")
    if len({*paths}) < len(paths) or len({*image_ids.tolist()}) < len(paths):
        raise DataError(f"{path}: two of its images have the same file_name or id")
    if len({*name_of.values()}) < len(categories):
        raise DataError(f"{path}: two of its categories have the same name or id")
    classes = tuple(class_names or (name_of[number] for number in sorted(name_of)))
    label_of = {number: classes.index(name) + 1 for number, name in name_of.items() if name in classes}
    position_of = {number: position for position, number in enumerate(image_ids.tolist())}
    return Annotations(
        classes,
        path.parent,
        paths,
        sizes,
        image_ids,
        numbers[:, 0],
        np.array([position_of.get(number, -1) for number in numbers[:, 1].tolist()], np.int64),
        np.array([label_of.get(number, 0) for number in numbers[:, 2].tolist()], np.int64),
        np.concatenate((numbers[:, 5:7], numbers[:, 5:7] + numbers[:, 7:9]), axis=1),
        numbers[:, 3] == 1,
        numbers[:, 4],
        Names.pack(row[9] for row in rows) if with_masks else None,
    )


def _shrink(with_masks: bool, found: dict[str, Any]) -> Any:
    """Replaces an annotation by a tuple: number, image, category, crowd, area, box and, if needed, mask as JSON."""
    if "image_id" not in found:
        return found
    get, box, mask = found.get, found.get("bbox"), found.get("segmentation")
    edges = box if isinstance(box, list) and len(box) == 4 else (math.nan,) * 4
    outline = json.dumps(mask) if with_masks and mask else ""
    return get("id"), get("image_id"), get("category_id"), get("iscrowd"), get("area"), *edges, outline
