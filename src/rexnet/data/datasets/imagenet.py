"""ImageNet-1k (ILSVRC 2012) as downloaded: class folders or the original tars, and the devkit.

Classes are in the order of their WordNet IDs. The devkit's data/readme describes `synsets` in meta.mat and the file of
validation labels, one number a line.
"""

import re
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rexnet.class_names import first_synonyms, imagenet_synonyms
from rexnet.data.datasets.class_folders import class_folders, index_class_folders, index_tar_folders
from rexnet.data.datasets.index import Index, Layout, Split, build_index, label_source
from rexnet.data.datasets.list_files import Published, check_counts, read_lines, read_mat
from rexnet.data.sources.image_files import is_hidden, is_image
from rexnet.data.sources.tar import TarSource, open_tar
from rexnet.errors import DataError, first_sentence

PUBLISHED = Published(
    "ImageNet-1k",
    1000,
    {"train": 1_281_167, "val": 50_000},
    "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php, after registration",
)
TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT, DEVKIT_TAR = "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12.tar.gz"
META, LABELS = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
LARGEST_ANNOTATION = 64 << 20


class Devkit(NamedTuple):
    """Annotations of the devkit, by WordNet ID in sorted order."""

    synonyms: dict[str, str]  # of each class, separated by commas
    train_counts: dict[str, int]  # images of each class
    val_classes: dict[str, str]  # class of each validation image, by its name without suffix


def index_imagenet(root: Path, split: Split) -> Index:
    """Indexes the training or validation images below `root`.

    The images are in `train/` and `val/` (class folders; `val/` may be flat) or in the tars as downloaded. A flat
    `val/` and the validation tar need the devkit. Without it the classes are those of the training images, which may
    be a subset of the 1,000.
    """
    if split == "test":
        raise DataError(f"{root}: the labels of ImageNet's test images are not public; evaluate on val")
    devkit = load_devkit(root)
    index = _index_split(root, split, devkit)
    _check(index, split, devkit)
    synonyms = devkit.synonyms if devkit else imagenet_synonyms()
    return replace(index, class_names=first_synonyms(index.class_names, synonyms))


def load_devkit(root: Path) -> Devkit | None:
    """Loads the devkit in `root`, packed or unpacked; returns None if there is none."""
    if (root / DEVKIT).is_dir():
        place = root / DEVKIT
        meta = read_mat(place / META, "synsets")
        lines = read_lines(place / LABELS, "the validation labels of the devkit")
    elif (root / DEVKIT_TAR).is_file():
        place = root / DEVKIT_TAR
        content = _unpack(place, (META, LABELS))
        meta = read_mat(place / META, "synsets", content[META])
        lines = content[LABELS].decode("ascii", errors="replace").splitlines()
    else:
        return None
    try:
        leaves = sorted((row for row in meta if int(row["num_children"]) == 0), key=lambda row: str(row["WNID"]))
        wnid_of = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in leaves}
        synonyms = {str(row["WNID"]): str(row["words"]) for row in leaves}
        counts = {str(row["WNID"]): int(row["num_train_images"]) for row in leaves}
        labels = [wnid_of[int(line)] for line in lines if line.strip()]
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(f"{place}: is not a devkit of ILSVRC 2012: {first_sentence(error)}") from None
    return Devkit(synonyms, counts, {f"ILSVRC2012_val_{n:08d}": wnid for n, wnid in enumerate(labels, 1)})


def _unpack(tar: Path, wanted: Sequence[str]) -> dict[str, bytes]:
    """Returns the contents of those members of a compressed tar whose paths end like `wanted`."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(tar, "r:gz") as file:
            for member in file:
                name = next((name for name in wanted if f"/{member.name}".endswith(f"/{name}")), None)
                if name is not None and member.isreg() and member.size <= LARGEST_ANNOTATION:
                    stream = file.extractfile(member)
                    assert stream is not None, "regular files have content"
                    found[name] = stream.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{tar}: cannot be unpacked: {first_sentence(error)}; copy it again") from None
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(f"{tar}: lacks {' and '.join(missing)}; it should be the devkit of ILSVRC 2012, tasks 1 and 2")
    return found


def _training_classes(root: Path) -> tuple[str, ...]:
    if (root / "train").is_dir():
        return tuple(class_folders(root / "train"))
    return tuple(sorted({path.partition("/")[0] for path in _open_tar(root, "train").paths}))


def _index_split(root: Path, split: Split, devkit: Devkit | None) -> Index:
    classes = tuple(devkit.synonyms) if devkit else _training_classes(root)
    folder = root / split
    if folder.is_dir():
        if split == "train" or any(entry.is_dir() for entry in folder.iterdir() if not is_hidden(entry.name)):
            return index_class_folders(folder, classes, "the devkit" if devkit else "the training images")
        names = sorted(entry.name for entry in folder.iterdir() if is_image(entry.name))
        return build_index(folder, names, _labels_of(folder, names, classes, devkit), classes)
    tar = _open_tar(root, split)
    if split == "train" or all("/" in path for path in tar.paths):
        return index_tar_folders(tar, "", classes)
    return label_source(tar, _labels_of(tar.root, tar.paths, classes, devkit), classes)


def _labels_of(place: Path, names: Sequence[str], classes: Sequence[str], devkit: Devkit | None) -> list[int]:
    """Returns the devkit's labels of validation images that are not in class folders."""
    if devkit is None:
        raise DataError(
            f"{place}: has no class folders, so its labels come from the devkit; put {DEVKIT_TAR} next to it "
            f"({PUBLISHED.source})"
        )
    label_of = {wnid: label for label, wnid in enumerate(classes)}
    stems = [re.sub(r"^.*/|\.[^.]*$", "", name) for name in names]
    unknown = next((stem for stem in stems if stem not in devkit.val_classes), None)
    if unknown is not None:
        count, first = len(devkit.val_classes), next(iter(devkit.val_classes), "none")
        raise DataError(f"{place}: the devkit has no label of {unknown}; it has {count:,}, from {first} on")
    return [label_of[devkit.val_classes[stem]] for stem in stems]


def _open_tar(root: Path, split: Split) -> TarSource:
    tar = TRAIN_TAR if split == "train" else VAL_TAR
    if not (root / tar).is_file():
        raise DataError(f"{root}: has neither {split}/ nor {tar}; ImageNet is at {PUBLISHED.source}")
    return open_tar(root / tar)


def _check(index: Index, split: Split, devkit: Devkit | None) -> None:
    """Compares the numbers of images with the devkit's, or without one with the published ones."""
    if devkit is None:
        check_counts(index, split, PUBLISHED)
    elif split == "val" and len(index) != len(devkit.val_classes):
        raise DataError(f"{index.root}: has {len(index):,} images; the devkit has {len(devkit.val_classes):,}")
    elif split == "train":
        for wnid, count in zip(index.class_names, index.class_counts().tolist(), strict=True):
            if count != (wanted := devkit.train_counts[wnid]):
                raise DataError(f"{index.root}: has {count:,} images of class {wnid}; the devkit has {wanted:,}")


LAYOUT = Layout(index_imagenet, ("train", "val"), (TRAIN_TAR, VAL_TAR, DEVKIT, DEVKIT_TAR))
