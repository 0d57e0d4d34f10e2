"""What the layouts with list files have in common: files that must be there, and paths that must stay inside."""

import io
import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rexnet.data.datasets.index import Index, build_index
from rexnet.data.sources.image_files import printable
from rexnet.errors import DataError

log = logging.getLogger(__name__)


class Published(NamedTuple):
    """What a data set has as its authors published it."""

    name: str
    classes: int
    images: dict[str, int]  # by split
    source: str


def find_folder(root: Path, folders: Sequence[str], marker: str, published: Published) -> Path:
    """`root` or the folder below it that holds the file `marker`.

    Raises:
        DataError: none does; named with where the data set is to be had.
    """
    for folder in ("", *folders):
        if (root / folder / marker).exists():
            return root / folder
    raise DataError(
        f"{root}: holds no {marker}, here or in {' or '.join(f'{folder}/' for folder in folders)}; it should be "
        f"{published.name} as published: {published.source}"
    )


def read_lines(path: Path, source: str) -> list[str]:
    """The lines of a text file that belongs to a data set, without white space around each and at the end.

    Raises:
        DataError: it cannot be read; `source` says what it should be.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        return [line.strip() for line in text.rstrip().splitlines()]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; it should be {source}") from None


def read_mat(path: Path, key: str, content: bytes | None = None) -> Any:
    """The variable `key` of a MATLAB file; `content` stands in for the file's, where it lies in an archive.

    Raises:
        DataError: the file is missing, damaged, or has no such variable.
    """
    from scipy.io import loadmat

    try:
        source = path if content is None else io.BytesIO(content)
        variables = loadmat(source, squeeze_me=True, variable_names=[key])
    except FileNotFoundError:
        raise DataError(f"{path}: missing") from None
    except Exception as error:  # scipy raises a dozen types for damaged files; all mean the same to the user
        raise DataError(f"{path}: cannot be read as a MATLAB file: {error}") from None
    if key not in variables:
        raise DataError(f"{path}: has no variable {key!r}")
    return np.atleast_1d(variables[key])


def index_listed(
    folder: Path,
    paths: Sequence[str],
    labels: Sequence[int],
    class_names: Sequence[str],
    listed_in: Path,
    boxes: np.ndarray | None = None,
) -> Index:
    """An index of the listed images below `folder`, after a look at each.

    Raises:
        DataError: none is listed, an image is missing, or a path leads out of the folder, also by a link.
    """
    if not paths:
        raise DataError(f"{listed_in}: names no image of the split")
    inside: dict[str, bool] = {}
    real = os.path.realpath(folder)
    for path in paths:
        if escapes(path) or not _stays_inside(folder, path, real, inside):
            raise DataError(f"{listed_in}: names an image that leads out of {folder}: {printable(path)}")
    missing = [path for path in paths if not os.path.lexists(os.path.join(folder, path))]
    if missing:
        raise DataError(
            f"{folder}: {printable(missing[0])} is named in {listed_in.name} but not there, "
            f"{len(missing):,} of {len(paths):,} images are missing"
        )
    return build_index(folder, paths, labels, class_names, boxes)


def index_named(folder: Path, images: Sequence[tuple[str, str]], class_names: Sequence[str], listed_in: Path) -> Index:
    """An index of the listed images below `folder`, each given as its path and the name of its class.

    Raises:
        DataError: a class is unknown, or what `index_listed` refuses.
    """
    label_of = {name: label for label, name in enumerate(class_names)}
    for path, name in images:
        if name not in label_of:
            raise DataError(f"{listed_in}: has {printable(path)} of {name!r}, which is none of the published classes")
    paths, names = [path for path, _ in images], [name for _, name in images]
    return index_listed(folder, paths, [label_of[name] for name in names], class_names, listed_in)


def escapes(path: str) -> bool:
    """Whether a relative path from a list file leads out of its folder by its text alone."""
    return os.path.isabs(path) or ".." in path.split("/")


def _stays_inside(folder: Path, path: str, real: str, known: dict[str, bool]) -> bool:
    """Whether links on the way lead out of `real`; folders are looked at once."""
    parent, whole = os.path.dirname(path), os.path.join(folder, path)
    if parent not in known:
        known[parent] = _is_below(os.path.realpath(os.path.join(folder, parent)), real)
    try:
        is_link = stat.S_ISLNK(os.lstat(whole).st_mode)
    except OSError:
        return known[parent]  # it is missing, which is another fault
    return known[parent] and (not is_link or _is_below(os.path.realpath(whole), real))


def _is_below(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder


def check_counts(index: Index, split: str, published: Published) -> Index:
    """`index` itself, if it has the published number of images, or fewer classes than published: a subset.

    Raises:
        DataError: all classes are there, but not all images, or more than there should be.
    """
    wanted, classes = published.images[split], len(index.class_names)
    if classes == published.classes and len(index) != wanted:
        raise DataError(
            f"{index.root}: has {len(index):,} images of the {split} split, but {published.name} has {wanted:,}; "
            f"complete it, or set data.dataset=folder for class folders of your own choice"
        )
    if classes != published.classes:
        log.info(
            f"{index.root}: a subset of {published.name}: {len(index):,} images of {classes} classes "
            f"({wanted:,} of {published.classes:,} were published as {split})"
        )
    return index
