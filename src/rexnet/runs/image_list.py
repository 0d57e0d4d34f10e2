"""The list of a run's images, `images.csv.gz`, to which labels, sample order and logged metrics refer."""

import csv
import gzip
import itertools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rexnet.data.datasets.index import Index, Split
from rexnet.data.sources.image_files import join_names
from rexnet.errors import first_sentence
from rexnet.system.atomic_files import atomic_write

IMAGE_LIST = "images.csv.gz"
TEXT = ("utf-8", "surrogateescape", "")  # encoding, errors and newline
Listed = Index | Sequence[tuple[str, str]]  # of another task than classification: label and path of each image


def write_image_list(folder: Path, indexes: Mapping[Split, Listed]) -> None:
    """Writes the split, class and path of every image into a run folder, in the order of the data set."""
    with atomic_write(folder / IMAGE_LIST) as temporary, gzip.open(temporary, "wt", 1, *TEXT) as file:
        writer = csv.writer(file)
        writer.writerow(("split", "class", "path"))
        for split, index in indexes.items():
            writer.writerows((split, *image) for image in _images_of(index))


def describe_changes(folder: Path, indexes: Mapping[Split, Listed]) -> dict[Split, str]:
    """Describes by split how images differ from the list in a run folder; omits splits without changes or list."""
    path = folder / IMAGE_LIST
    if not path.is_file():
        return {}
    try:
        changes = {split: _describe_change(path, split, index) for split, index in indexes.items()}
    except (OSError, EOFError, ValueError, csv.Error, zlib.error) as error:
        return dict.fromkeys(indexes, f"unknown, since {IMAGE_LIST} cannot be read ({first_sentence(error)})")
    return {split: change for split, change in changes.items() if change}


def _describe_change(path: Path, split: Split, index: Listed) -> str:
    """Describes the difference between the listed images of a split and those of an index."""
    if all(before == after for before, after in itertools.zip_longest(_read(path, split), _images_of(index))):
        return ""
    old, new = ({image: name for name, image in images} for images in (_read(path, split), _images_of(index)))
    changes = {
        "added": [path for path in new if path not in old],
        "removed": [path for path in old if path not in new],
        "with another label": [path for path in new if old.get(path, new[path]) != new[path]],
    }
    parts = (f"{len(paths):,} {change} ({join_names(paths)})" for change, paths in changes.items() if paths)
    return ", ".join(parts) or "the same in another order"


def _images_of(index: Listed) -> Iterator[tuple[str, str]]:
    """Yields the class and path of each image."""
    if not isinstance(index, Index):
        return iter(index)
    names = index.class_names
    return ((names[label], path) for label, path in zip(index.labels.tolist(), index.paths, strict=True))


def _read(path: Path, split: Split) -> Iterator[tuple[str, str]]:
    """Yields the class and path of each listed image of a split."""
    with gzip.open(path, "rt", 9, *TEXT) as file:
        yield from ((name, image) for listed_in, name, image in csv.reader(file) if listed_in == split)
