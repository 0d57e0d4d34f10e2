"""COCO's JSON (Lin et al., arXiv 1405.0312): images, annotations and categories of one split in one file."""

import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rexnet.data.datasets.index import SPLIT_NAMES, Split
from rexnet.data.sources.names import Names
from rexnet.data.sources.source import FolderSource
from rexnet.detection.box_index import BoxIndex
from rexnet.errors import DataError

FORM = "it should be COCO's JSON of instances"


def find_coco(root: Path, split: Split) -> tuple[Path, Path]:
    """Returns annotations and images of a split, where COCO or Roboflow's export have them."""
    official, short = f"annotations/instances_{split}2017.json", f"annotations/instances_{split}.json"
    places = [(official, f"{split}2017"), (official, f"images/{split}2017"), (short, f"images/{split}"), (short, split)]
    places += [(f"{name}/_annotations.coco.json", name) for name in SPLIT_NAMES[split]]
    for annotations, images in places:
        if (root / annotations).exists() and (root / images).exists():
            return root / annotations, root / images
    raise DataError(
        f"{root}: has neither {official} with {split}2017/, nor {short} with images/{split}/, nor {places[4][0]}; name "
        f"them with data.{split}_annotations and data.{split}_images"
    )


def read_coco(
    path: Path, folder: Path, class_names: Sequence[str] | None = None, with_masks: bool = False
) -> tuple[BoxIndex, np.ndarray]:
    """Reads annotations of the images in a folder; returns them as `clean_index` takes them, with their numbers.

    Labels count the categories from 1, in the order of their numbers, which may have holes, or of `class_names`.
    Annotations shrink to tuples while the file is parsed: one of COCO's size takes 6 s and 1.0 GB, instead of 12 s and
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
    for what, values in {"images": image_ids.tolist(), "file_names": paths, "categories": name_of.values()}.items():
        if len({*values}) < len(categories if what == "categories" else paths):
            raise DataError(f"{path}: two of its {what} have the same name or id")
    classes = tuple(class_names or (name_of[number] for number in sorted(name_of)))
    label_of = {number: classes.index(name) + 1 for number, name in name_of.items() if name in classes}
    position_of = {number: position for position, number in enumerate(image_ids.tolist())}
    index = BoxIndex(
        FolderSource(folder, Names.pack(paths)),
        classes,
        image_ids,
        sizes,
        np.array([position_of.get(number, -1) for number in numbers[:, 1].tolist()]),
        np.concatenate((numbers[:, 5:7], numbers[:, 5:7] + numbers[:, 7:9]), axis=1),
        np.array([label_of.get(number, 0) for number in numbers[:, 2].tolist()]),
        numbers[:, 3] == 1,
        numbers[:, 4],
        Names.pack(row[9] for row in rows) if with_masks else None,
    )
    return index, numbers[:, 0]


def _shrink(with_masks: bool, found: dict[str, Any]) -> Any:
    """Replaces an annotation by a tuple: number, image, category, crowd, area, box and, if needed, mask as JSON."""
    if "image_id" not in found:
        return found
    get, box, mask = found.get, found.get("bbox"), found.get("segmentation")
    edges = box if isinstance(box, list) and len(box) == 4 else (math.nan,) * 4
    outline = json.dumps(mask) if with_masks and mask else ""
    return get("id"), get("image_id"), get("category_id"), get("iscrowd"), get("area"), *edges, outline
