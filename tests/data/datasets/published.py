"""Stand-ins for published data sets, and where the real annotations lie."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from rexnet.data.datasets.index import Index

SHARED = Path(__file__).parents[4] / "shared" / "data"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not part of the project")


def touch(folder: Path, paths: Iterable[str]) -> None:
    """Stand-ins for images; indexing does not read them."""
    names = [os.path.join(folder, path) for path in paths]
    for parent in {os.path.dirname(name) for name in names}:
        os.makedirs(parent, exist_ok=True)
    for name in names:
        open(name, "w").close()


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def seen(index: Index) -> list[tuple[str, str]]:
    return [(path, index.class_names[label]) for path, label in zip(index.paths, index.labels.tolist(), strict=True)]
