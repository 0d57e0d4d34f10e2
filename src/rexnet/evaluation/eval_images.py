"""Which images a classifier is measured on, and which of its classes they belong to."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rexnet.class_names import IMAGENET_CLASSES, match_classes
from rexnet.config import Config
from rexnet.data.datasets.by_name import detect_layout, load_eval_index
from rexnet.data.datasets.class_folders import FOLDER_NAMES, class_folders, index_class_folders
from rexnet.data.datasets.index import Index, Split, build_index
from rexnet.data.sources.image_files import is_image
from rexnet.data.sources.shared_memory import share
from rexnet.errors import DataError

WORDNET = re.compile(r"(n\d{8})_")  # how ImageNet's files begin
TAKES_FOLDERS = ("imagenet", "cars", "flowers102")  # in class folders, of which they know how many there should be


def find_images(config: Config, split: Split, root: Path | None = None) -> Index:
    """The images to measure on.

    Args:
        config: of the training, which says where its data is and in which layout.
        split: which images.
        root: other images: a data set of any layout; class folders, with or without `val/` or `test/` around them; or
            files named as in ImageNet, `n01440764_tench.JPEG`. None: those of the training.

    Raises:
        DataError: there are none, or they are inconsistent.
    """
    if root is None:
        return load_eval_index(config.data, split)
    if not root.exists():
        raise DataError(f"{root}: does not exist")
    layout, own = detect_layout(root), config.data.dataset
    if layout == "folder" and (root.is_file() or (root / "train").is_dir()):
        is_own = own in TAKES_FOLDERS and (own != "imagenet" or any(root.glob("train/n0*")))
        layout = own if is_own else "folder"
    elif layout == "folder":
        return _index_loose(root, split)
    data = config.data.model_copy(
        update={"dataset": layout} if layout == own else {"dataset": layout, "train_on": "train"}
    )
    return load_eval_index(data, split, root)


def _index_loose(root: Path, split: Split) -> Index:
    """Class folders without a training set beside them, or a folder of ImageNet's files."""
    folder = next((root / name for name in FOLDER_NAMES[split] if (root / name).is_dir()), root)
    files = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and is_image(entry.name))
    if not files:
        return index_class_folders(folder, class_folders(folder), "the folder itself")
    numbers = [WORDNET.match(name) for name in files]
    unnamed = next((name for name, number in zip(files, numbers, strict=True) if number is None), None)
    if unnamed is not None:
        raise DataError(
            f"{folder}: holds {unnamed}, whose class nothing tells; it should hold one folder for each class, or files "
            f"named as in ImageNet (n01440764_NAME.JPEG)"
        )
    classes = [number[1] for number in numbers if number is not None]
    names, labels = np.unique(classes, return_inverse=True)
    return build_index(folder, files, labels, [str(name) for name in names])


def fit_to_classes(index: Index, class_names: Sequence[str], model: str) -> tuple[Index, str | None]:
    """`index` with labels that are rows of `class_names`, and a line on it where its own classes are others.

    Args:
        index: the images.
        class_names: those of the classifier, of which the images may have some only; all of them compete.
        model: name of the classifier, for messages.

    Raises:
        DataError: a class of the images is none of the classifier's.
    """
    if index.class_names == tuple(class_names):
        return index, None
    rows = _match(index.class_names, class_names)
    if len(rows) < len(index.class_names) or len(set(rows.values())) < len(rows):
        own = f"the {len(class_names):,} of {model}"
        unknown = [name for label, name in enumerate(index.class_names) if label not in rows]
        what = ", ".join(unknown[:3]) + f" and {len(unknown) - 3} more" * (len(unknown) > 3) or "two of the same name"
        raise DataError(
            f"{index.root}: has {len(index.class_names)} classes, other than {own}, which does not know: {what}"
        )
    row_of = np.array([rows[label] for label in range(len(rows))], np.int64)
    fitted = replace(index, labels=share(row_of[index.labels]), class_names=tuple(class_names))
    if len(rows) == len(class_names):
        return fitted, None
    return fitted, f"the images are of {len(rows)} of the {len(class_names):,} classes, by name; all of them compete"


def _match(names: Sequence[str], class_names: Sequence[str]) -> dict[int, int]:
    """Row of `class_names` for each of `names`: by the names, and for ImageNet's classes by all names they have."""
    rows = dict(match_classes(names, class_names, len(class_names)))
    if len(rows) < len(names) and is_imagenet(class_names):
        rows = dict(match_classes(names, None, IMAGENET_CLASSES)) | rows
    return rows


def is_imagenet(class_names: Sequence[str]) -> bool:
    """Whether these are the classes of ImageNet-1k in their order, by WordNet numbers or English names."""
    if len(class_names) != IMAGENET_CLASSES:
        return False
    pairs = match_classes(class_names, None, IMAGENET_CLASSES)
    return len(pairs) > 0.98 * IMAGENET_CLASSES and all(row == source for row, source in pairs)


def name_roots(roots: Sequence[Path]) -> dict[Path, str]:
    """The shortest ends of paths that tell data sets from each other, such as `flowers12/test`; never a split alone."""
    splits = {name for names in FOLDER_NAMES.values() for name in names} | {"images", "jpg"}  # as of birds and flowers
    whole = {root: root.resolve() for root in roots}

    def end(root: Path, parts: int) -> str:
        return "/".join(whole[root].parts[1:][-parts:])

    def name(root: Path) -> str:
        others, most = [other for other in whole if whole[other] != whole[root]], len(whole[root].parts)
        ends = {n: end(root, n) for n in range(1 + (whole[root].name in splits), most)}
        return next((text for n, text in ends.items() if all(end(other, n) != text for other in others)), str(root))

    return {root: name(root) for root in whole}


def mark_root(root: Path) -> str:
    """A data set's name for files, such as `flowers12-test-3fa91c`: no other folder has it, in whichever call."""
    digest = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{name_roots([root])[root].replace('/', '-')}-{digest[:6]}"
