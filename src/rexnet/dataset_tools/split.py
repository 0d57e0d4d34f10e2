"""Splits class folders that have no splits: writes a table of all images for `data.dataset=csv`."""

import csv
import hashlib
import logging
import os
from collections import Counter
from pathlib import Path

from rexnet.data.datasets.class_folders import class_folders, find_split, index_class_folders
from rexnet.data.datasets.csv_table import Row
from rexnet.data.datasets.index import SPLIT_NAMES, Index
from rexnet.data.datasets.remarks import remark_left_out
from rexnet.errors import ConfigError, DataError
from rexnet.system.atomic_files import atomic_write, require_writable
from rexnet.system.terminal import progress_bar

log = logging.getLogger(__name__)

NAME = "split.csv"


def write_split(root: Path, target: Path, val: float, test: float = 0.0) -> dict[str, int]:
    """Writes `path,label,split` of every image of class folders; returns the number of images in each split.

    Every class is in every split. The split of an image depends only on its bytes and on the other images of its
    class, not on names, so adding some images moves few. Equal files stay together in one split.

    `root` contains one folder for each class, or `train/` with them. The paths in the table at `target` are relative if
    it is in a folder above the images, else absolute.

    Raises:
        DataError: there are no class folders, there are splits already, or a class has too few images.
        ConfigError: the fractions leave no training images, or `target` exists or cannot be written.
    """
    if not (val > 0 and test >= 0 and val + test < 1):
        raise ConfigError(f"--val {val:g} --test {test:g}: should be fractions that leave images for training")
    if target.exists():
        raise ConfigError(f"{target}: exists already; delete it, or choose another file with --out")
    try:
        require_writable(target)
    except ConfigError as error:
        raise ConfigError(f"{error}; choose another file with --out") from None
    index = index_unsplit(root)
    base, folder = (Path(os.path.abspath(place)) for place in (index.root, target.parent))
    prefix = base.relative_to(folder) if base.is_relative_to(folder) else base
    for remark in remark_left_out(index):
        log.warning(remark)
    splits = _divide(index, {"test": test, "val": val})
    with atomic_write(target) as temp, open(temp, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        for path, label, split in zip(index.paths, index.labels.tolist(), splits, strict=True):
            writer.writerow(Row(str(prefix / path), index.class_names[label], split))
    return {name: splits.count(name) for name in ("train", "val", "test")}


def index_unsplit(root: Path) -> Index:
    """Indexes all images of `root`, or of `train/` in it."""
    if not root.is_dir():
        raise DataError(f"{root}: is not a folder; it should contain one folder for each class")
    splits = [folder.name for split in SPLIT_NAMES if (folder := find_split(root, split))]
    folder = find_split(root, "train") or root
    if set(splits) - {folder.name}:
        raise DataError(f"{root}: is split already: it has {', '.join(f'{name}/' for name in dict.fromkeys(splits))}")
    return index_class_folders(folder, class_folders(folder), "the folder itself")


def _divide(index: Index, fractions: dict[str, float]) -> list[str]:
    """Returns the split of each image: in each class, files in the order of their digests fill one split by one."""
    digests = []
    with progress_bar(len(index), " images") as bar:
        for position in range(len(index)):
            digests.append(hashlib.sha256(index.read(position)).hexdigest())
            bar.update(1)
    splits = [""] * len(index)
    labels, counts = index.labels.tolist(), index.class_counts().tolist()
    wanted = [
        {name: max(1, round(fraction * count)) for name, fraction in fractions.items() if fraction > 0}
        for count in counts
    ]
    taken = [Counter[str]() for _ in counts]
    split_of: dict[tuple[int, str], str] = {}
    for position in sorted(range(len(index)), key=lambda position: digests[position]):
        label = labels[position]
        key = label, digests[position]
        if key not in split_of:
            split_of[key] = next((name for name, n in wanted[label].items() if taken[label][name] < n), "train")
        splits[position] = split_of[key]
        taken[label][split_of[key]] += 1
    for label, name in enumerate(index.class_names):
        needed = len(wanted[label]) + 1
        if len(taken[label]) < needed:
            different = sum(key[0] == label for key in split_of)
            raise DataError(f"{index.root / name}: too few different images ({different}) for {needed} splits")
    return splits
