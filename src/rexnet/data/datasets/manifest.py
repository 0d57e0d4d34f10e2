"""The list of every image of a data set that `rexnet data check` writes, and that training can go by."""

import csv
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rexnet.config.data_schema import SourceConfig
from rexnet.data.datasets.index import Index
from rexnet.data.sources.image_files import printable
from rexnet.errors import DataError
from rexnet.system.atomic_files import atomic_write

log = logging.getLogger(__name__)

NAME = "rexnet-manifest.csv"


class Entry(NamedTuple):
    """One image."""

    split: str
    path: str
    """Below the data set's root, or the folder of a table; in a tar below it, the tar's name comes first."""
    size: int
    """Bytes of the file."""
    sha256: str
    """Of the file's bytes; empty if it could not be read."""
    width: int
    height: int
    class_name: str
    fault: str
    """Why it cannot be used, or empty."""


def manifest_path(config: SourceConfig) -> Path:
    """Where the manifest of a data set lies: `data.manifest`, or in its root, or beside a root that is a file."""
    if config.manifest is not None:
        return config.manifest
    return config.root / NAME if config.root.is_dir() else config.root.with_name(f"{config.root.name}.{NAME}")


def paths_of(index: Index, root: Path) -> Iterator[str]:
    """The paths that a manifest of the data set at `root` has for the images of `index`."""
    is_table = root.is_file() and index.root != root  # its paths are relative to its folder
    prefix = os.path.relpath(index.root, root.parent if is_table else root)
    for path in index.paths:
        yield os.path.normpath(os.path.join(prefix, path))


def write_manifest(path: Path, entries: Iterable[Entry]) -> None:
    """Writes all entries, or leaves what is at `path` as it is.

    Raises:
        ConfigError: the folder cannot be written.
    """
    with (
        atomic_write(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(Entry._fields)
        writer.writerows(entries)


@contextmanager
def read_manifest(path: Path) -> Iterator[Iterator[Entry]]:
    """The entries of the manifest at `path`, one by one.

    Raises:
        DataError: it is missing or is not a manifest.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file)
            if tuple(next(rows, ())) != Entry._fields:
                raise DataError(f"{path}: is not a manifest of `rexnet data check`")
            yield (_entry(row, path) for row in rows)
    except OSError as error:
        raise DataError(
            f"{path}: the manifest cannot be read: {error.strerror}; `rexnet data check` writes it"
        ) from None


def leave_out_broken(index: Index, config: SourceConfig, split: str) -> Index:
    """`index` without the images that the manifest lists as broken; how many is said.

    Raises:
        DataError: the manifest is missing or of another state of the data, or nothing is left of a class.
    """
    path = manifest_path(config)
    names = list(paths_of(index, config.root))
    wanted, listed, faulty = set(names), set[str](), set[str]()
    with read_manifest(path) as entries:
        for entry in entries:  # a table may have an image in several splits, and so may the manifest
            if entry.path in wanted:
                listed.add(entry.path)
                if entry.fault:
                    faulty.add(entry.path)
    if listed != wanted:
        raise DataError(
            f"{path}: knows {len(listed):,} of the {len(wanted):,} images of the split {split}; make it anew with "
            f"`rexnet data check`"
        )
    if not faulty:
        return index
    broken = [position for position, name in enumerate(names) if name in faulty]
    kept = index.select([position for position, name in enumerate(names) if name not in faulty])
    lost = set(index.labels[broken].tolist()) - set(kept.labels.tolist())
    if lost:
        raise DataError(f"{index.root}: no sound image is left of class {index.class_names[min(lost)]}; see {path}")
    log.info(
        f"{index.root}: left out {len(broken):,} of {len(index):,} images of the split {split} that {path.name} lists "
        f"as broken, such as {printable(index.paths[min(broken)])}"
    )
    return kept


def _entry(row: list[str], path: Path) -> Entry:
    try:
        values: list[Any] = [*row[:2], int(row[2]), row[3], int(row[4]), int(row[5]), *row[6:]]
        return Entry(*values)
    except (IndexError, ValueError, TypeError):
        raise DataError(f"{path}: has a line that is no entry of a manifest: {row[:2]}") from None
