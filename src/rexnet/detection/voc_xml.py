"""Pascal VOC (Everingham et al., IJCV 2010): one XML file for each image, and lists of names for each split."""

import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rexnet.data.datasets.index import Split
from rexnet.data.datasets.list_files import read_lines
from rexnet.data.sources.names import Names
from rexnet.data.sources.source import FolderSource
from rexnet.detection.box_index import BoxIndex
from rexnet.errors import DataError

LISTS: dict[Split, tuple[str, ...]] = {"train": ("train", "trainval"), "val": ("val", "test")}


def find_voc(root: Path, split: Split, name: str | None = None) -> Path:
    """Returns the list of a split's images in ImageSets/Main: the one called `name`, or the usual one."""
    for base in (root, *sorted(root.glob("VOC2*")), *sorted(root.glob("VOCdevkit/VOC2*"))):
        for stem in (name,) if name else LISTS[split]:
            if (path := base / "ImageSets" / "Main" / f"{stem}.txt").exists():
                return path
    place = f"ImageSets/Main/{name or LISTS[split][0]}.txt"
    raise DataError(f"{root}: has no {place}, here or in VOC2007/ or VOC2012/; it should be in the form of Pascal VOC")


def read_voc(path: Path, class_names: Sequence[str] | None = None) -> tuple[BoxIndex, np.ndarray]:
    """Reads the XML files of all images in a list; returns them as `clean_index` takes them, with running numbers.

    VOC counts pixels from 1, and its boxes include their last ones; as in COCO, ours are the lines around the pixels,
    counted from 0. Evaluation ignores difficult objects. Labels are in the order of `class_names`, or alphabetical.

    Raises:
        DataError: a file is missing or not in VOC's form.
    """
    base, sizes, rows, found = path.parents[2], [], [], []
    names = [line.split()[0] for line in read_lines(path, "a list of Pascal VOC") if line]
    for position, name in enumerate(names):
        file = base / "Annotations" / f"{name}.xml"
        try:
            tree = ET.parse(file).getroot()  # noqa: S314 - expat limits the expansion of entities
            sizes.append([int(_text(tree, f"size/{side}")) for side in ("height", "width")])
            for one in tree.iter("object"):
                edges = (float(_text(one, f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax"))
                rows.append((*edges, position, one.findtext("difficult") == "1"))
                found.append(_text(one, "name"))
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror}; {path.name} lists it") from None
        except (ET.ParseError, ValueError) as error:
            raise DataError(f"{file}: is not an annotation of Pascal VOC: {error}") from None
    classes = tuple(class_names or sorted(set(found)))
    file_of = {os.path.splitext(name)[0]: name for name in sorted(os.listdir(base / "JPEGImages"))}
    table = np.array(rows, np.float64).reshape(-1, 6)
    numbers = np.arange(1, len(names) + len(rows) + 1)
    index = BoxIndex(
        FolderSource(base / "JPEGImages", Names.pack(file_of.get(name, f"{name}.jpg") for name in names)),
        classes,
        numbers[: len(names)],
        np.array(sizes, np.int32).reshape(-1, 2),
        table[:, 4].astype(np.int64),
        table[:, :4] - (1, 1, 0, 0),
        np.array([classes.index(name) + 1 if name in classes else 0 for name in found], np.int64),
        table[:, 5] == 1,
        np.full(len(rows), np.nan),
    )
    return index, numbers[: len(rows)]


def _text(element: ET.Element, key: str) -> str:
    if (text := element.findtext(key)) is None:
        raise ValueError(f"it has no {key}")
    return text.strip()
