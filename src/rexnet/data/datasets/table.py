"""Any images by a table: CSV with the columns `path`, `label` and, for a single file, `split`."""

import csv
import os
from pathlib import Path

from rexnet.data.datasets.listing import index_listed
from rexnet.data.index import Index, Split
from rexnet.errors import DataError

Row = tuple[str, str]


def index_csv(root: Path, split: Split) -> Index:
    """The images that `root` lists: a CSV file with a `split` column, or a folder with `train.csv` and `val.csv`.

    Paths are relative to the folder of the CSV file; absolute ones must lie in it. The classes are the labels of the
    training images, in the order of numbers if all are numbers, else of text. Without images of the split `val`,
    `test` serves as it.

    Raises:
        DataError: a file, column or image is missing, a row is malformed, or a label is unknown in training.
    """
    folder = root.parent if root.is_file() else root
    rows = {name: _rows(root, name) for name in table_splits(root)}
    if "train" not in rows:
        raise DataError(f"{root}: has no images of the split 'train'")
    labels = {label for _, label in rows["train"]}
    class_names = sorted(labels, key=int if all(label.isdecimal() for label in labels) else None)
    name = "test" if split == "val" and "val" not in rows else split
    if name not in rows:
        raise DataError(f"{root}: has no images of the split {split!r}; it has {', '.join(rows)}")
    label_of = {label: number for number, label in enumerate(class_names)}
    unknown = next((label for _, label in rows[name] if label not in label_of), None)
    if unknown is not None:
        raise DataError(f"{root}: the label {unknown!r} of the split {name!r} has no training image")
    paths = [_relative(path, folder) for path, _ in rows[name]]
    return index_listed(folder, paths, [label_of[label] for _, label in rows[name]], class_names, _file(root, name))


def table_splits(root: Path) -> tuple[Split, ...]:
    """The splits that a CSV file or a folder of them has."""
    splits: tuple[Split, ...] = ("train", "val", "test")
    if root.is_file():
        present = {row["split"] for row in _read(root, ("path", "label", "split"))}
        if present - set(splits):
            raise DataError(f"{root}: a split should be train, val or test, found {sorted(present - set(splits))[0]!r}")
    else:
        present = {split for split in splits if (root / f"{split}.csv").is_file()}
        if not present:
            raise DataError(f"{root}: holds no train.csv; data.root may also be one CSV file with a split column")
    return tuple(split for split in splits if split in present)


def _rows(root: Path, split: Split) -> list[Row]:
    if root.is_file():
        table = _read(root, ("path", "label", "split"))
        return [(row["path"], row["label"]) for row in table if row["split"] == split]
    return [(row["path"], row["label"]) for row in _read(_file(root, split), ("path", "label"))]


def _file(root: Path, split: str) -> Path:
    return root if root.is_file() else root / f"{split}.csv"


def _read(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                found = ", ".join(reader.fieldnames or ()) or "nothing"
                raise DataError(f"{path}: its first line should name the columns {', '.join(columns)}; found {found}")
            rows = [{column: (row[column] or "").strip() for column in columns} for row in reader]
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}") from None
    for number, row in enumerate(rows, 2):
        if not all(row.values()):
            raise DataError(f"{path}, row {number}: should have {', '.join(columns)}; found {list(row.values())}")
    return rows


def _relative(path: str, folder: Path) -> str:
    """An absolute path below `folder` as a relative one."""
    absolute = os.path.abspath(folder)
    return os.path.relpath(path, absolute) if os.path.isabs(path) else path
