"""Images listed in CSV files with the columns `path`, `label` and, for a single file, `split`."""

import csv
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rexnet.data.datasets.index import SPLIT_NAMES, Index, Layout, Split, assign_splits, distinct_splits, label_source
from rexnet.data.datasets.list_files import index_listed
from rexnet.data.remote.remote_source import RemoteSource
from rexnet.data.sources.image_files import printable
from rexnet.errors import DataError

MAX_SHOWN = 100  # characters of a header in a message


class Row(NamedTuple):
    """A row of a table."""

    path: str
    label: str
    split: str = ""


def index_csv(place: Path | RemoteSource, split: Split) -> Index:
    """Indexes the images that a CSV file with a `split` column or a folder with a table of each split lists.

    Paths are relative to the folder of the CSV file; absolute ones must be inside it. The classes are the labels of
    the training images (or of all images in a table without training images), sorted as numbers if all are numbers,
    else as text. Without images of the split `val`, `test` takes its place.
    """
    root = place.copies if isinstance(place, RemoteSource) else place
    tables = _read_splits(root)
    name: Split = "test" if split == "val" and not tables.get("val") and "test" in tables else split
    if not tables.get(name):
        raise DataError(f"{root}: has no images of the split {name!r}; it has {', '.join(tables) or 'none'}")
    labels = {row.label for row in tables.get("train", tables[name])}
    class_names = sorted(labels, key=int if all(label.isdecimal() for label in labels) else None)
    label_of = {label: number for number, label in enumerate(class_names)}
    unknown = next((row.label for row in tables[name] if row.label not in label_of), None)
    if unknown is not None:
        raise DataError(f"{root}: the label {unknown!r} of the split {name!r} has no training image")
    _require_one_label(tables, root)
    labels_of_rows = [label_of[row.label] for row in tables[name]]
    if isinstance(place, RemoteSource):
        return label_source(place.find([row.path for row in tables[name]]), labels_of_rows, class_names)
    folder, listed_in = (root.parent, root) if root.is_file() else (root, _tables_in(root)[name])
    top = os.path.abspath(folder)
    paths = [os.path.relpath(row.path, top) if os.path.isabs(row.path) else row.path for row in tables[name]]
    return index_listed(folder, paths, labels_of_rows, class_names, listed_in)


def table_splits(place: Path | RemoteSource) -> tuple[Split, ...]:
    """Returns the splits of a CSV file or a folder of them: `train`, and `val` or `test` or both."""
    return distinct_splits(_read_splits(place.copies if isinstance(place, RemoteSource) else place))


def _read_splits(root: Path) -> dict[Split, list[Row]]:
    """Reads the rows of each split that exists, `train` first."""
    if root.is_dir():
        tables = {split: _read(file, ("path", "label")) for split, file in _tables_in(root).items()}
        if not tables:
            raise DataError(f"{root}: has no train.csv; data.root may also be one CSV file with a split column")
        return tables
    rows = _read(root, Row._fields)
    present = {row.split for row in rows}
    named = assign_splits(sorted(present), root)
    if unknown := present - set(named.values()):
        raise DataError(f"{root}: a split should be train, val or test, found {min(unknown)!r}")
    return {split: [row for row in rows if row.split == named[split]] for split in SPLIT_NAMES if split in named}


def _tables_in(folder: Path) -> dict[Split, Path]:
    """Returns the table of each split that has one, `train` first."""
    stems = assign_splits(sorted(file.stem for file in folder.glob("*.csv")), folder)
    return {split: folder / f"{stems[split]}.csv" for split in SPLIT_NAMES if split in stems}


def _require_one_label(tables: Mapping[Split, Sequence[Row]], root: Path) -> None:
    """Refuses an image that is listed with two labels, in one split or in several."""
    label_of: dict[str, str] = {}
    for row in itertools.chain.from_iterable(tables.values()):
        other = label_of.setdefault(os.path.normpath(row.path), row.label)
        if other != row.label:
            raise DataError(f"{root}: lists {printable(row.path)} as {other!r} and as {row.label!r}; keep one of them")


def _read(path: Path, columns: tuple[str, ...]) -> list[Row]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or ()
            if not set(columns) <= set(names):
                found = printable(", ".join(names))[:MAX_SHOWN] or "nothing"
                raise DataError(f"{path}: its first line should name the columns {', '.join(columns)}; found {found}")
            rows = [Row(*((line[column] or "").strip() for column in columns)) for line in reader]
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}") from None
    for number, row in enumerate(rows, 2):
        values = row[: len(columns)]
        if not all(values):
            raise DataError(f"{path}, row {number}: should have {', '.join(columns)}; found {list(values)}")
    return rows


LAYOUT = Layout(index_csv, table_splits, ("train.csv",))
