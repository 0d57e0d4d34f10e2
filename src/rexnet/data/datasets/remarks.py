"""Remarks on the data of a run: which splits it uses, what it leaves out, and what its results do not cover."""

import numpy as np

from rexnet.config.data_schema import DataConfig
from rexnet.data.datasets.by_name import splits_of
from rexnet.data.datasets.index import Index
from rexnet.data.sources.image_files import describe_left_out, join_names, printable

FEW_IMAGES = 20  # validation images; each then changes the accuracy by 5 points
MANY_DROPPED = 0.1  # share of the training images that an epoch leaves out


def describe_splits(config: DataConfig) -> str:
    """Returns the end of a sentence: which split takes the place of `val` or is not used; may be empty."""
    splits = splits_of(config)
    if config.train_on == "train+val" or "test" not in splits:
        return ""
    if "val" in splits:
        return "; the split test is not used (`rexnet evaluate RUN --split test` takes it)"
    return "; validation uses the split test, because there is no other"


def remark_left_out(index: Index) -> list[str]:
    """Returns a sentence about the files that were left out, if there are any."""
    text = describe_left_out(index.left_out)
    return [f"{index.root}: left out {text}"] if text else []


def remark_on_data(config: DataConfig, train: Index, val: Index) -> list[str]:
    """Returns a sentence about each property of the images that a user may not expect."""
    remarks = remark_left_out(train) + remark_left_out(val)
    nested = [path for path in train.paths if path.count("/") > 1] if config.dataset == "folder" else []
    if nested and config.root.is_dir():
        remarks.append(
            f"{train.root}: {len(nested):,} of {len(train):,} images are in folders of a class folder, such as "
            f"{printable(nested[0])}; their class is the first folder, {printable(nested[0].partition('/')[0])}"
        )
    missing = [val.class_names[number] for number in np.setdiff1d(train.labels, val.labels)]
    if missing:
        remarks.append(f"no validation image of {join_names(missing)}; the accuracy does not cover them")
    same_place = train.root.resolve() == val.root.resolve()
    if same_place and (shared := sorted(set(train.paths) & set(val.paths))):
        remarks.append(
            f"{len(shared):,} validation images are training images, too, such as {printable(shared[0])}; the accuracy "
            f"on them says nothing about new images"
        )
    if len(val) <= FEW_IMAGES:
        images = "one validation image is" if len(val) == 1 else f"{len(val)} validation images are"
        remarks.append(f"{images} too few: each changes top-1 by {100 / len(val):.0f} points; hold out more")
    dropped = len(train) % config.step_images
    if config.last_batch == "drop" and MANY_DROPPED * len(train) < dropped < len(train):
        remarks.append(
            f"each epoch leaves out {dropped:,} of {len(train):,} training images, which fill no batch of "
            f"{config.step_images}; data.last_batch=pad uses all"
        )
    return remarks
