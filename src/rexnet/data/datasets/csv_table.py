"""Images listed in CSV files with the columns `path`, `label` and, for a single file, `split`."""

import codecs
import csv
import io
import itertools
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rexnet.class_names import class_name
from rexnet.data.datasets.index import (
    SPLIT_NAMES,
    Index,
    Layout,
    Split,
    assign_splits,
    build_index,
    distinct_splits,
    label_source,
)
from rexnet.data.datasets.list_files import require_present
from rexnet.data.remote.remote_source import RemoteSource
from rexnet.data.sources.image_files import printable
from rexnet.errors import DataError

DELIMITERS = ",;\t"  # a table is separated by the one that its first line has most of
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
ADVICE = "save it as 'CSV UTF-8', as Excel calls it"
MAX_SHOWN = 100  # characters of a header in a message


class Row(NamedTuple):
    """A row of a table."""

    path: str
    label: str
    split: str = ""


def index_csv(place: Path | RemoteSource, split: Split) -> Index:
    """Indexes the images that a CSV file with a `split` column or a folder with a table of each split lists.

    Paths are absolute or relative to the folder of the CSV file. The classes are the labels of the training images (or
    of all images in a table without training images), sorted as numbers if all are numbers, else as text. Without
    images of the split `val`, `test` takes its place.
    """
    root = place.copies if isinstance(place, RemoteSource) else place
    tables = _read_splits(root)
    if not tables.get(split):
        raise DataError(f"{root}: has no images of the split {split!r}; it has {', '.join(tables) or 'none'}")
    labels = {row.label for row in tables.get("train", tables[split])}
    are_numbers = all(label.isdecimal() for label in labels)
    class_names = sorted(labels, key=lambda label: (int(label) if are_numbers else 0, label))  # also 1 and 01
    label_of = {label: number for number, label in enumerate(class_names)}
    unknown = next((row.label for row in tables[split] if row.label not in label_of), None)
    if unknown is not None:
        raise DataError(f"{root}: the label {unknown!r} of the split {split!r} has no training image")
    _require_one_label(tables, root)
    paths, labels_of_rows = [row.path for row in tables[split]], [label_of[row.label] for row in tables[split]]
    if isinstance(place, RemoteSource):
        return label_source(place.find(paths), labels_of_rows, class_names)
    folder, listed_in = (root.parent, root) if root.is_file() else (root, _tables_in(root)[split])
    require_present(folder, paths, listed_in)
    if any(os.path.isabs(path) or ".." in path.split("/") for path in paths):
        base, folder = os.path.abspath(folder), _common_folder(folder, tables)
        paths = [os.path.relpath(os.path.join(base, path), folder) for path in paths]
    return build_index(folder, paths, labels_of_rows, class_names)


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


def _common_folder(folder: Path, tables: Mapping[Split, Sequence[Row]]) -> Path:
    """Returns the folder of the tables if all images are below it, else the lowest one above all images."""
    base = os.path.abspath(folder)
    folders = {os.path.dirname(os.path.join(base, row.path)) for rows in tables.values() for row in rows}
    common = os.path.commonpath(map(os.path.normpath, folders))
    return folder if Path(common).is_relative_to(base) else Path(common)


def _spelled_as_on_disk(folder: Path, path: str) -> str:
    """Returns a path, in another Unicode form or with slashes for backslashes if only that exists."""
    if path.isascii() and "\\" not in path:
        return path
    forms = (path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD")), path.replace("\\", "/"))
    return next((form for form in forms if os.path.lexists(os.path.join(folder, form))), path)


def read_table(path: Path, columns: tuple[str, ...]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Returns the names of all columns in lower case, and line number and cells of each row that is not empty.

    Raises:
        DataError: the file cannot be read, or lacks one of `columns`.
    """
    rows = []
    try:
        content = path.read_bytes()
        encoding, errors = ("utf-16", "strict") if content.startswith(UTF_16) else ("utf-8-sig", "surrogateescape")
        text = content.decode(encoding, errors)
        delimiter = max(DELIMITERS, key=text.partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        names = [name.strip().lower() for name in next(reader, [])]
        if not set(columns) <= set(names):
            found = printable(", ".join(names))[:MAX_SHOWN] or "nothing"
            raise DataError(f"{path}: its first line should name the columns {', '.join(columns)}; found {found}")
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if any(cells):
                rows.append((reader.line_num, cells))
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}; {ADVICE}") from None
    return names, rows


def _read(path: Path, columns: tuple[str, ...]) -> list[Row]:
    names, rows = read_table(path, columns)
    places = [names.index(column) for column in columns]
    return [_row(cells, places, len(names), path.parent, f"{path}, line {line}") for line, cells in rows]


def _row(cells: Sequence[str], places: Sequence[int], columns: int, folder: Path, where: str) -> Row:
    if any(cells[columns:]):
        raise DataError(f"{where}: has {len(cells)} values for {columns} columns; put those with a comma in quotes")
    values = [cells[place] if place < len(cells) else "" for place in places]
    if not all(values):
        raise DataError(f"{where}: should have {', '.join(Row._fields[: len(values)])}; found {values}")
    row = Row(*values)
    try:
        return row._replace(path=_spelled_as_on_disk(folder, row.path), label=class_name(row.label))
    except ValueError as error:
        raise DataError(f"{where}: the label {printable(row.label)} {error}; {ADVICE}") from None


LAYOUT = Layout(index_csv, table_splits, ("train.csv",))
