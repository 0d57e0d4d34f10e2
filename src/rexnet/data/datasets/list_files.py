"""Shared code of the layouts with list files: required files, published counts, and paths that must stay inside."""

import io
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rexnet.data.datasets.index import Index, build_index
from rexnet.data.sources.image_files import printable
from rexnet.errors import DataError

log = logging.getLogger(__name__)


class Published(NamedTuple):
    """A data set as its authors published it."""

    name: str
    classes: int
    images: dict[str, int]  # by split
    source: str


def find_folder(root: Path, folders: Sequence[str], marker: str, published: Published) -> Path:
    """Returns `root` or the first of `folders` below it that contains the file `marker`."""
    for folder in ("", *folders):
        if (root / folder / marker).exists():
            return root / folder
    raise DataError(
        f"{root}: has no {marker}, here or in {' or '.join(f'{folder}/' for folder in folders)}; it should be "
        f"{published.name} as published: {published.source}"
    )


def read_lines(path: Path, description: str) -> list[str]:
    """Reads the lines of a text file, stripped; `description` says in an error message what the file should be."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        return [line.strip() for line in text.rstrip().splitlines()]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; it should be {description}") from None


def read_mat(path: Path, key: str, content: bytes | None = None) -> Any:
    """Reads the variable `key` of a MATLAB file, or of `content` for a file in an archive."""
    from scipy.io import loadmat

    try:
        variables = loadmat(path if content is None else io.BytesIO(content), squeeze_me=True, variable_names=[key])
    except FileNotFoundError:
        raise DataError(f"{path}: missing") from None
    except Exception as error:  # scipy raises a dozen types for damaged files
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
    """Indexes the listed images below `folder`, each of which must exist."""
    if not paths:
        raise DataError(f"{listed_in}: lists no image of the split")
    for path in paths:
        if os.path.isabs(path) or ".." in path.split("/"):
            raise DataError(f"{listed_in}: lists an image outside of {folder}: {printable(path)}")
    require_present(folder, paths, listed_in)
    return build_index(folder, paths, labels, class_names, boxes)


def require_present(folder: Path, paths: Sequence[str], listed_in: Path) -> None:
    """Checks that every listed image exists."""
    missing = [path for path in paths if not os.path.lexists(os.path.join(folder, path))]
    if missing:
        advice = "" if printable(missing[0]) == missing[0] else f"; {listed_in.name} should be in UTF-8"
        raise DataError(
            f"{folder}: {printable(missing[0])} is listed in {listed_in.name} but missing; "
            f"{len(missing):,} of {len(paths):,} images are missing{advice}"
        )


def index_named(folder: Path, images: Sequence[tuple[str, str]], class_names: Sequence[str], listed_in: Path) -> Index:
    """Indexes the listed images below `folder`, each given as its path and the name of its class."""
    label_of = {name: label for label, name in enumerate(class_names)}
    for path, name in images:
        if name not in label_of:
            raise DataError(f"{listed_in}: has {printable(path)} of {name!r}, which is not a published class")
    labels = [label_of[name] for _, name in images]
    return index_listed(folder, [path for path, _ in images], labels, class_names, listed_in)


def check_counts(index: Index, split: str, published: Published) -> Index:
    """Returns `index` if it has the published number of images, or is a subset with fewer classes."""
    wanted, classes = published.images[split], len(index.class_names)
    if classes != published.classes:
        log.info(
            f"{index.root}: a subset of {published.name}: {len(index):,} images of {classes} classes "
            f"({wanted:,} of {published.classes:,} were published as {split})"
        )
    elif len(index) != wanted:
        raise DataError(
            f"{index.root}: has {len(index):,} images of the {split} split, but {published.name} has {wanted:,}; "
            f"complete it, or set data.dataset=folder for class folders of your own choice"
        )
    return index
