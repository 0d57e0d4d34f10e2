"""What the data set of a run holds: numbers by class, and single images as evaluation saw them."""

from typing import Any

import numpy as np

from rexnet.class_names import readable_names
from rexnet.config import Config
from rexnet.data.augment.transforms import build_eval_transform
from rexnet.data.dataset import ImageDataset
from rexnet.data.datasets import load_index
from rexnet.data.datasets.index import Index, Split
from rexnet.errors import DataError
from rexnet.preprocessing import resolve_preprocessing


def open_split(config: Config, split: Split) -> Index | None:
    """The images of a split, or None where they are not on this machine (any more)."""
    if not config.data.root.exists():  # the digits would be made there, and an archive fetched
        return None
    try:
        return load_index(config.data.model_copy(update={"download": False}), split)
    except DataError:
        return None


def describe_data(config: Config, train: Index | None, val: Index | None) -> dict[str, Any]:
    """Numbers of images and classes, and the smallest and largest class of the training images."""
    facts: dict[str, Any] = {"root": str(config.data.root), "dataset": config.data.dataset, "splits": []}
    for name, index in {"training": train, "validation": val}.items():
        if index is not None:
            facts["splits"].append((name, len(index), *_extremes(index)))
    return facts


def count_classes(index: Index | None, classes: int) -> np.ndarray | None:
    """Images of each class, int64 (classes,); None without images, or with other classes."""
    if index is None or len(index.class_names) != classes:
        return None
    return np.bincount(index.labels, minlength=classes)


def view_images(config: Config, index: Index, positions: list[int]) -> list[np.ndarray | None]:
    """Images as the network saw them in evaluation, uint8 (size, size, 3); None for one that cannot be read."""
    dataset = ImageDataset(index, build_eval_transform(resolve_preprocessing(config, index.class_names)))

    def view(position: int) -> np.ndarray | None:
        try:
            return dataset.view(position, 0)
        except DataError:
            return None

    return [view(position) for position in positions]


def _extremes(index: Index) -> tuple[str, str]:
    """The smallest and the largest class in words."""
    counts = np.bincount(index.labels, minlength=len(index.class_names))
    least, most = int(counts.argmin()), int(counts.argmax())
    if counts[least] == counts[most]:
        return f"{counts[least]:,} each", f"{counts[most]:,} each"
    names = readable_names((index.class_names[least], index.class_names[most]))
    return f"{names[0]} ({counts[least]:,})", f"{names[1]} ({counts[most]:,})"
