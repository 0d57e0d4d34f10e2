"""COCO's JSON (Lin et al., arXiv 1405.0312): images, annotations and categories of one split in one file."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rexnet.data.datasets.index import SPLIT_NAMES, Split
from rexnet.data.sources.image_files import printable
from rexnet.detection.box_index import Images, Objects
from rexnet.detection.outlines import Outlines, encode_outline
from rexnet.errors import DataError

SIZES_2017 = {"train": 118_287, "val": 5_000}  # images of COCO 2017


def find_annotations(root: Path, split: Split) -> Path:
    """Returns the annotations of a split in one of the usual places: COCO's, or those of Roboflow's export."""
    places = [f"annotations/instances_{split}2017.json", f"annotations/instances_{split}.json"]
    places += [f"{name}/_annotations.coco.json" for name in SPLIT_NAMES[split]]
    for place in places:
        if (root / place).exists():
            return root / place
    raise DataError(
        f"{root}: has no {places[0]}, {places[1]} or {places[2]}; name the file with data.{split}_annotations"
    )


def find_images(root: Path, split: Split, annotations: Path, example: str) -> Path:
    """Returns the folder that contains the image `example` of the split."""
    names = [f"{split}2017", f"images/{split}2017", f"images/{split}", split, "images", "."]
    folders = [*(root / name for name in names), annotations.parent]
    found = next((folder for folder in folders if os.path.lexists(folder / example)), None)
    if found is None:
        raise DataError(
            f"{root}: {printable(example)} of {annotations.name} is not in {', '.join(names[:-2])} or images; name the "
            f"folder with data.{split}_images"
        )
    return found


def read_coco(
    path: Path, class_names: Sequence[str] | None = None, with_masks: bool = False
) -> tuple[Images, Objects, tuple[str, ...]]:
    """Reads a file of annotations; returns its images, as if they were next to it, their objects, and the classes.

    Labels count the categories from 1, in the order of their numbers, which may have holes, or in that of
    `class_names`. Each annotation shrinks to a tuple as soon as it is parsed, and masks that are not needed are
    dropped: a file of COCO's size takes 7 s and 0.9 GB, instead of 14 s and 2.8 GB.

    Raises:
        DataError: the file is not COCO's JSON.
    """
    content = _parse(path, _shrink_with_masks if with_masks else _shrink)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"{path}: is not COCO's JSON of instances, which has a list {key!r}")
    images, annotations = content["images"], content["annotations"]
    if not images or not annotations or not content["categories"]:
        counts = ", ".join(f"{len(content[key]):,} {key}" for key in ("images", "annotations", "categories"))
        raise DataError(f"{path}: has {counts}; at least one of each is needed")
    names = [_field(path, image, "file_name", str) for image in images]
    ids = np.array([_field(path, image, "id", int) for image in images], np.int64)
    sizes = np.array([[_field(path, image, key, int) for key in ("height", "width")] for image in images], np.int32)
    name_of = {_field(path, one, "id", int): _field(path, one, "name", str) for one in content["categories"]}
    for values, what in ((ids.tolist(), "images"), (names, "images"), (list(name_of.values()), "categories")):
        if len(set(values)) < len(content[what]):
            raise DataError(f"{path}: two of its {what} have the same number or name")
    classes = tuple(class_names or (name_of[number] for number in sorted(name_of)))
    label_of = {number: classes.index(name) + 1 for number, name in name_of.items() if name in classes}

    rows = _numbers(path, annotations)
    order = np.argsort(ids)
    places = np.searchsorted(ids[order], rows[:, 1]).clip(max=len(ids) - 1)
    positions = np.where(ids[order][places] == rows[:, 1], order[places], -1)
    labels = np.array([label_of.get(number, 0) for number in rows[:, 2].tolist()], np.int64)
    boxes = np.concatenate((rows[:, 5:7], rows[:, 5:7] + rows[:, 7:9]), axis=1)
    outlines = Outlines.pack(annotation[9] for annotation in annotations) if with_masks else None
    objects = Objects(rows[:, 0], positions, labels, boxes, rows[:, 3] == 1, rows[:, 4], outlines)
    return Images(path.parent, names, sizes, ids), objects, classes


def check_sizes_2017(path: Path, split: Split, count: int) -> None:
    """Requires the number of images that COCO 2017 has in a split."""
    if count != SIZES_2017[split]:
        raise DataError(
            f"{path}: has {count:,} images, but COCO 2017 has {SIZES_2017[split]:,} in {split}2017; complete it, or "
            f"set data.dataset=coco for a choice of your own"
        )


def _parse(path: Path, shrink: Callable[[dict[str, Any]], Any]) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            raise DataError(f"{path}: is empty; it should be COCO's JSON of instances")
        return json.loads(text, object_hook=shrink)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; it should be COCO's JSON of instances") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not valid JSON: {error}") from None


def _shrink(found: dict[str, Any]) -> Any:
    """Replaces an annotation by a tuple: number, image, category, crowd, area and box, and here no mask."""
    if "image_id" not in found:
        return found
    box, get = found.get("bbox"), found.get
    numbers = get("id"), get("image_id"), get("category_id"), get("iscrowd"), get("area")
    return numbers + tuple(box) if isinstance(box, list) else numbers


def _shrink_with_masks(found: dict[str, Any]) -> Any:
    outline = encode_outline(found.get("segmentation")) if "image_id" in found else b""
    return (*_shrink(found), outline) if "image_id" in found else found


def _numbers(path: Path, annotations: list[Any]) -> np.ndarray:
    """Returns the first nine numbers of each annotation as float64 (m, 9)."""
    try:
        return np.array([annotation[:9] for annotation in annotations], np.float64).reshape(-1, 9)
    except (TypeError, ValueError, KeyError):
        for annotation in annotations:
            try:
                np.array(annotation[:9], np.float64).reshape(9)
            except (TypeError, ValueError, KeyError):
                number = annotation.get("id") if isinstance(annotation, dict) else annotation[0]
                raise DataError(
                    f"{path}: annotation {number} should have an image_id, a category_id and a bbox of four numbers"
                ) from None
        raise


def _field(path: Path, record: Any, key: str, kind: type) -> Any:
    """Returns a value of an image or category."""
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        raise DataError(f"{path}: each image and category needs {key!r}, found {str(record)[:80]}")
    return value
