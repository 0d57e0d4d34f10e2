"""Pascal VOC (Everingham et al., IJCV 2010): one XML file for each image, and lists of names for each split."""

import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rexnet.data.datasets.index import Split
from rexnet.data.datasets.list_files import read_lines
from rexnet.data.sources.image_files import is_image
from rexnet.detection.box_index import Images, Objects
from rexnet.errors import DataError

LISTS: dict[str, tuple[str, ...]] = {"train": ("train", "trainval"), "val": ("val", "test")}
EDGES = ("xmin", "ymin", "xmax", "ymax")


def find_voc(root: Path, split: Split, name: str | None = None) -> Path:
    """Returns the list of a split's images in ImageSets/Main, by its name or the usual one."""
    bases = [root, *sorted(root.glob("VOC2*")), *sorted(root.glob("VOCdevkit/VOC2*"))]
    for base in bases:
        for stem in (name,) if name else LISTS[split]:
            if (path := base / "ImageSets" / "Main" / f"{stem.removesuffix('.txt')}.txt").exists():
                return path
    raise DataError(
        f"{root}: has no ImageSets/Main/{name or LISTS[split][0]}.txt, here or in VOC2007 or VOC2012; it should be in the "
        f"form of Pascal VOC"
    )


def read_voc(path: Path, class_names: Sequence[str] | None = None) -> tuple[Images, Objects, tuple[str, ...]]:
    """Reads the XML files of all images in a list.

    Edges of VOC's boxes are pixels counted from 1; here, as in COCO, they are the lines around the pixels, counted
    from 0. Objects marked as difficult become crowds, which evaluation ignores. Labels are in the order of
    `class_names`, or alphabetical.

    Raises:
        DataError: a file is missing or not in VOC's form.
    """
    base = path.parents[2]
    names = [line.split()[0] for line in read_lines(path, "a list of Pascal VOC") if line]
    folder = base / "JPEGImages"
    file_of = {os.path.splitext(name)[0]: name for name in sorted(os.listdir(folder)) if is_image(name)}
    sizes, rows, found = [], [], []
    for position, name in enumerate(names):
        file = base / "Annotations" / f"{name}.xml"
        try:
            tree = ET.parse(file).getroot()  # noqa: S314 - expat limits the expansion of entities
            sizes.append([int(_text(tree, f"size/{side}")) for side in ("height", "width")])
            for one in tree.iter("object"):
                edges = [float(_text(one, f"bndbox/{edge}")) for edge in EDGES]
                rows.append((position, edges[0] - 1, edges[1] - 1, *edges[2:], one.findtext("difficult") == "1"))
                found.append(_text(one, "name"))
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror}; {path.name} lists it") from None
        except (ET.ParseError, ValueError) as error:
            raise DataError(f"{file}: is not an annotation of Pascal VOC: {error}") from None
    classes = tuple(class_names or sorted(set(found)))
    label_of = {name: label for label, name in enumerate(classes, 1)}
    table = np.array(rows, np.float64).reshape(-1, 6)
    labels = np.array([label_of.get(name, 0) for name in found], np.int64)
    paths = [file_of.get(name, f"{name}.jpg") for name in names]
    images = Images(folder, paths, np.array(sizes, np.int32).reshape(-1, 2), np.arange(1, len(names) + 1))
    numbers = np.arange(1, len(table) + 1)
    return images, Objects(numbers, table[:, 0].astype(np.int64), labels, table[:, 1:5], table[:, 5] == 1), classes


def _text(element: ET.Element, key: str) -> str:
    text = element.findtext(key)
    if text is None:
        raise ValueError(f"it has no {key}")
    return text.strip()
