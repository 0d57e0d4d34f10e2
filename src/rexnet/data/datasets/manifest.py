"""The manifest of a data set: a table of every image, which `rexnet data check` writes and training can read."""

import csv
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rexnet.config.data_schema import SourceConfig
from rexnet.data.datasets.index import Index
from rexnet.errors import DataError
from rexnet.system.atomic_files import atomic_write

NAME = "rexnet-manifest.csv"


class Entry(NamedTuple):
    """One image."""

    split: str
    path: str
    """Relative to the root of the data set or the folder of a table; begins with the name of a tar below the root."""
    size: int  # in bytes
    sha256: str  # of the file; empty if it could not be read
    width: int
    height: int
    class_name: str
    fault: str  # reason why the image cannot be used; empty if it can


def manifest_path(config: SourceConfig) -> Path:
    """Returns the path of a manifest: `data.manifest`, or a file in the root, or next to a root that is a file."""
    if config.manifest is not None:
        return config.manifest
    return config.root / NAME if config.root.is_dir() else config.root.with_name(f"{config.root.name}.{NAME}")


def paths_of(index: Index, root: Path) -> Iterator[str]:
    """Yields the paths of the images of `index` as the manifest of the data set at `root` has them."""
    is_table = root.is_file() and index.root != root  # its paths are relative to its folder
    prefix = os.path.relpath(index.root, root.parent if is_table else root)
    for path in index.paths:
        yield os.path.normpath(os.path.join(prefix, path))


def write_manifest(path: Path, entries: Iterable[Entry]) -> None:
    """Writes a manifest atomically."""
    with atomic_write(path) as temp, open(temp, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Entry._fields)
        writer.writerows(entries)


@contextmanager
def read_manifest(path: Path) -> Iterator[Iterator[Entry]]:
    """Opens the manifest at `path` and yields an iterator of its entries."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file)
            if tuple(next(rows, ())) != Entry._fields:
                raise DataError(f"{path}: is not a manifest of `rexnet data check`")
            yield (_entry(row, path) for row in rows)
    except OSError as error:
        message = f"{path}: the manifest cannot be read: {error.strerror}; `rexnet data check` writes it"
        raise DataError(message) from None


def leave_out_broken(index: Index, config: SourceConfig, split: str) -> Index:
    """Returns `index` without the images that the manifest lists as broken, and logs their number."""
    path = manifest_path(config)
    names = list(paths_of(index, config.root))
    with read_manifest(path) as entries:  # an image of a table may be in several splits
        faults = {entry.path: entry.fault for entry in entries}
    known = sum(name in faults for name in names)
    if known < len(names):
        raise DataError(
            f"{path}: knows {known:,} of the {len(names):,} images of the split {split}; create it again with "
            f"`rexnet data check`"
        )
    broken = [position for position, name in enumerate(names) if faults[name]]
    if not broken:
        return index
    kept = index.select([position for position, name in enumerate(names) if not faults[name]])
    lost = set(index.labels[broken].tolist()) - set(kept.labels.tolist())
    if lost:
        raise DataError(f"{index.root}: class {index.class_names[min(lost)]} has no valid image left; see {path}")
    return replace(kept, left_out=(*index.left_out, *(index.paths[position] for position in broken)))


def _entry(row: list[str], path: Path) -> Entry:
    try:
        values: list[Any] = [*row[:2], int(row[2]), row[3], int(row[4]), int(row[5]), *row[6:]]
        return Entry(*values)
    except (IndexError, ValueError, TypeError):
        raise DataError(f"{path}: has a line that is not an entry of a manifest: {row[:2]}") from None
