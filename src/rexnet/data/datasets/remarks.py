"""Remarks on the data of a run: which splits it uses, what it leaves out, and what its results do not cover."""

from collections.abc import Iterator

import numpy as np

from rexnet.config.data_schema import DataConfig
from rexnet.data.datasets.by_name import splits_of
from rexnet.data.datasets.index import Index
from rexnet.data.sources.image_files import describe_left_out, join_names, printable

FEW_IMAGES = 20  # validation images of which each changes the accuracy by 5 points
MANY_DROPPED = 0.1  # of the training images, in each epoch


def describe_splits(config: DataConfig) -> str:
    """Says which split validation uses instead of `val`, or which one training does not use; else it is empty."""
    splits = splits_of(config)
    if config.train_on == "train+val" or "test" not in splits:
        return ""
    if "val" not in splits:
        return "validation uses the split test, because there is no other"
    return "the split test is not used (`rexnet evaluate RUN --split test` takes it)"


def remark_left_out(index: Index) -> list[str]:
    """Returns a sentence about the files that are not among the images, if there are any."""
    return [f"{index.root}: left out {describe_left_out(index.left_out)}"] if index.left_out else []


def remark_on_data(config: DataConfig, train: Index, val: Index) -> Iterator[str]:
    """Yields a sentence about everything that a user may not expect of the images."""
    yield from remark_left_out(train)
    yield from remark_left_out(val)
    if config.dataset == "folder" and config.root.is_dir():
        nested = [path for path in train.paths if path.count("/") > 1] if _has_nested(train) else []
        if nested:
            yield (
                f"{train.root}: {len(nested):,} of {len(train):,} images are in folders of a class folder, such as "
                f"{printable(nested[0])}; their class is the first folder, {printable(nested[0].partition('/')[0])}"
            )
    missing = [val.class_names[number] for number in np.setdiff1d(train.labels, val.labels)]
    if missing:
        yield f"no validation image of {join_names(missing)}; the accuracy does not cover them"
    if len(val) <= FEW_IMAGES:
        images = "1 validation image" if len(val) == 1 else f"{len(val)} validation images"
        yield f"only {images}: each changes top-1 by {100 / len(val):.0f} points; hold out more"
    dropped = len(train) % config.batch_size
    if config.last_batch == "drop" and MANY_DROPPED * len(train) < dropped < len(train):
        yield (
            f"each epoch leaves out {dropped:,} of {len(train):,} training images, which fill no batch of "
            f"{config.batch_size}; data.last_batch=pad uses all"
        )


def _has_nested(index: Index) -> bool:
    """Returns True if a path has more than one slash, without making a string of each."""
    return bool(np.count_nonzero(index.paths.text == ord("/")) > len(index))
