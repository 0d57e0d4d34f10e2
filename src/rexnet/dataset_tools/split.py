"""Divides class folders that have no splits: a table of every image, which training and evaluation read."""

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from rexnet.data.datasets.class_folders import FOLDER_NAMES, class_folders, index_class_folders
from rexnet.data.datasets.csv_table import Row
from rexnet.data.datasets.index import Index
from rexnet.errors import ConfigError, DataError
from rexnet.system.atomic_files import atomic_write
from rexnet.system.terminal import progress_bar

NAME = "split.csv"


def write_split(root: Path, target: Path, val: float, test: float = 0.0) -> dict[str, int]:
    """Writes `path,label,split` for every image of class folders, and gives the number of images in each split.

    Every class has its share in every split. Which images are held back depends on their bytes alone: not on their
    names or their number, so that a few more images move few. Files of the same bytes stay together in one split.

    Args:
        root: holds one folder for each class, or `train/` with them.
        target: the table, in a folder above the images.
        val: share of the images of each class for validation, above 0.
        test: share for a last test, which is taken first.

    Raises:
        DataError: there are no class folders, the splits are made already, or a class has too few images.
        ConfigError: the shares leave nothing, or `target` is there or cannot be written.
    """
    if not (val > 0 and test >= 0 and val + test < 1):
        raise ConfigError(f"--val {val:g} --test {test:g}: should be shares that leave images to train on")
    if target.exists():
        raise ConfigError(f"{target}: is there already; delete it, or name another file with --out")
    index = _index(root)
    if not index.root.resolve().is_relative_to(target.parent.resolve()):
        raise ConfigError(f"{target}: should lie in {root}, or in a folder above it")
    groups = _same_bytes(index)
    splits = dict(
        pair for label in range(len(index.class_names)) for pair in _divide(index, groups[label], label, val, test)
    )
    base = index.root.resolve().relative_to(target.parent.resolve())
    with atomic_write(target) as temporary, open(temporary, "w", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        for position, path in enumerate(index.paths):
            writer.writerow(Row(str(base / path), index.class_names[index.labels[position]], splits[position]))
    return {name: list(splits.values()).count(name) for name in ("train", "val", "test")}


def _index(root: Path) -> Index:
    """All images of `root`, or of the `train/` in it."""
    if not root.is_dir():
        raise DataError(f"{root}: is not a folder; it should hold one folder for each class")
    splits = [name for names in FOLDER_NAMES.values() for name in names if (root / name).is_dir()]
    if set(splits) - {"train"}:
        raise DataError(
            f"{root}: is divided already: it holds {', '.join(f'{name}/' for name in dict.fromkeys(splits))}"
        )
    folder = root / "train" if splits else root
    return index_class_folders(folder, class_folders(folder), "the folder itself")


def _same_bytes(index: Index) -> dict[int, dict[str, list[int]]]:
    """For each class the positions of its images, by the digest of their bytes."""
    groups: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    with progress_bar(len(index), " images") as bar:
        for position in range(len(index)):
            digest = hashlib.sha256(index.read(position)).hexdigest()
            groups[int(index.labels[position])][digest].append(position)
            bar.update(1)
    return groups


def _divide(
    index: Index, groups: dict[str, list[int]], label: int, val: float, test: float
) -> Iterator[tuple[int, str]]:
    """Position and split of each image of a class; digests are as good as drawn lots."""
    total = sum(len(positions) for positions in groups.values())
    wanted = {name: max(1, round(share * total)) for name, share in (("test", test), ("val", val)) if share > 0}
    taken = dict.fromkeys((*wanted, "train"), 0)
    for digest in sorted(groups):
        name = next((name for name in wanted if taken[name] < wanted[name]), "train")
        taken[name] += len(groups[digest])
        yield from ((position, name) for position in groups[digest])
    if not all(taken.values()):
        folder = index.root / index.class_names[label]
        raise DataError(f"{folder}: too few different images ({len(groups)}) for {len(taken)} splits")
