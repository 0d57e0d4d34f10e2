"""Class folders: `train/CLASS/*.jpg` and the same below `val/`, `validation/` or `test/`; as files or inside a tar."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rexnet.data.datasets.index import Index, Split, build_index
from rexnet.data.sources.image_files import IMAGE_SUFFIXES, is_hidden, is_image, printable
from rexnet.data.sources.shared_memory import Names, share
from rexnet.data.sources.tar import Archive, Members, by_folder, load_members
from rexnet.errors import DataError

FOLDER_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "validation", "test"),
    "test": ("test",),
}
NAMED = 5  # files or folders in a message


def index_folders(root: Path, split: Split) -> Index:
    """Class folders below `train/` and below `val/`, `validation/` or `test/`; the classes are those of `train/`.

    Images may lie deeper in their class folder. `root` may be a tar with the same folders in it.

    Raises:
        DataError: a folder is missing, a class is empty, or the two splits have different classes.
    """
    if root.is_file():
        return _index_tar(root, split)
    train = root / "train"
    if not train.is_dir():
        raise DataError(
            f"{root}: has no train/ with one folder for each class; it holds {_list(_entries(root))}{_advice(root)}"
        )
    folder = _split_folder(root, split)
    return index_class_folders(folder, class_folders(train), "train/")


def index_class_folders(folder: Path, class_names: Sequence[str], classes_of: str) -> Index:
    """The images below `folder`, whose folders must be exactly `class_names`.

    Args:
        folder: holds one folder for each class.
        class_names: the classes in their order.
        classes_of: where `class_names` are from, for messages.

    Raises:
        DataError: a class is missing, unknown or empty, or links lead in a circle.
    """
    _require_same_classes(class_names, class_folders(folder), classes_of, folder)
    counts: list[int] = []

    def paths() -> Iterator[str]:
        for name in class_names:
            images = sorted(_images(str(folder / name), name, (os.path.realpath(folder),)), key=by_folder)
            if not images:
                raise DataError(f"{folder / name}: this class holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
            counts.append(len(images))
            yield from images

    packed = Names.pack(paths())  # fills `counts` as well
    return build_index(folder, packed, np.repeat(np.arange(len(class_names)), counts), class_names)


def class_folders(folder: Path) -> tuple[str, ...]:
    """The folders in `folder`, which are its classes, in order of name.

    Raises:
        DataError: there are none.
    """
    names = tuple(entry.name for entry in _entries(folder) if _is_folder(entry))
    if not names:
        entries = _entries(folder)
        raise DataError(f"{folder}: holds no class folders, {f'only {_list(entries)}' if entries else 'it is empty'}")
    return names


def index_tar_folders(tar: Path, members: Members, prefix: str, class_names: Sequence[str] | None = None) -> Index:
    """The images of a tar whose path is `prefix`, a class, and a name.

    Args:
        tar: the archive.
        members: its images.
        prefix: the folder in it that holds the class folders, with a slash, or nothing.
        class_names: the classes in their order; None: all there are, in order of name.

    Raises:
        DataError: a class is missing or unknown.
    """
    numbers: dict[str, int] = {}

    def number(name: str) -> int:
        is_inside = name.startswith(prefix) and "/" in name[len(prefix) :]
        return numbers.setdefault(class_of(name, prefix), len(numbers)) if is_inside else -1

    found = np.fromiter((number(name) for name in members.names), np.int64, len(members.names))
    class_names = tuple(numbers) if class_names is None else class_names
    _require_same_classes(class_names, tuple(numbers), "the training images", tar / prefix)
    label_of = np.array([class_names.index(name) for name in numbers], np.int64)
    positions = np.flatnonzero(found >= 0)
    return index_members(tar, members, positions, label_of[found[positions]], class_names)


def class_of(name: str, prefix: str) -> str:
    """The class in a member's path."""
    return name[len(prefix) :].partition("/")[0]


def index_members(
    tar: Path, members: Members, positions: np.ndarray, labels: Sequence[int] | np.ndarray, class_names: Sequence[str]
) -> Index:
    """An index of the members of a tar at `positions`.

    Raises:
        DataError: there are none.
    """
    if not len(positions):
        raise DataError(f"{tar}: holds no image of the split")
    archive = Archive(tar, members.stamp)
    index = Index(
        tar, members.names, share(np.array(labels, np.int64)), tuple(class_names), None, archive, members.spans
    )
    if len(positions) == len(members.names):
        return index  # as it is, without a copy
    names = Names.pack(members.names[position] for position in positions.tolist())
    return replace(index, paths=names, spans=share(members.spans[positions]))


def folder_splits(root: Path) -> tuple[Split, ...]:
    """The splits that there are folders for, without repeating `test/` as `val`."""
    names = tar_folders(load_members(root))[1] if root.is_file() else {e.name for e in _entries(root)}
    has_val = bool(names & {"val", "validation"})
    return ("train", *(("val",) if has_val or "test" not in names else ()), *(("test",) if "test" in names else ()))


def _index_tar(tar: Path, split: Split) -> Index:
    members = load_members(tar)
    top, names = tar_folders(members)
    wanted = next((name for name in FOLDER_NAMES[split] if name in names), None)
    if "train" not in names or wanted is None:
        missing = "train/" if "train" not in names else " or ".join(f"{name}/" for name in FOLDER_NAMES[split])
        raise DataError(f"{tar}: has no {missing} with one folder for each class; it holds {_join(sorted(names))}")
    train = index_tar_folders(tar, members, f"{top}train/")
    return train if wanted == "train" else index_tar_folders(tar, members, f"{top}{wanted}/", train.class_names)


def tar_folders(members: Members) -> tuple[str, set[str]]:
    """The folder that everything in a tar lies in (or nothing), and the names of the folders in that."""
    split_names = {name for names in FOLDER_NAMES.values() for name in names}
    first = {name.partition("/")[0] for name in members.names}
    if len(first) != 1 or first & split_names:
        return "", first
    top = f"{first.pop()}/"
    return top, {class_of(name, top) for name in members.names}


def _images(folder: str, path: str, above: tuple[str, ...]) -> Iterator[str]:
    """Paths of the images in a class folder and below; links to folders are followed, but not in a circle."""
    real = os.path.realpath(folder)
    if any(os.path.commonpath((real, upper)) == real for upper in above):
        raise DataError(f"{printable(folder)}: is a link that leads back to {printable(real)}; remove it")
    for entry in _entries(folder):
        if _is_folder(entry):
            yield from _images(entry.path, f"{path}/{entry.name}", (*above, real))
        elif is_image(entry.name):
            yield f"{path}/{entry.name}"


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """What a folder holds, in order of name, without hidden files and what archives leave behind."""
    try:
        with os.scandir(folder) as entries:
            shown = (entry for entry in entries if not is_hidden(entry.name))
            return sorted(shown, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{printable(folder)}: cannot be listed: {error.strerror}") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; reading it will say so
        return False


def _split_folder(root: Path, split: Split) -> Path:
    for name in FOLDER_NAMES[split]:
        if (root / name).is_dir():
            return root / name
    wanted = " or ".join(f"{name}/" for name in FOLDER_NAMES[split])
    raise DataError(f"{root}: has no {wanted}; it holds {_list(_entries(root))}{_advice(root)}")


def _advice(root: Path) -> str:
    """What to do where all images lie together."""
    folders = {entry.name for entry in _entries(root) if _is_folder(entry)}
    others = {name for names in FOLDER_NAMES.values() for name in names} - {"train"}
    if folders & others or not folders:
        return ""
    return f"; to hold a part of all images back for validation: rexnet data split {printable(root)}"


def _require_same_classes(wanted: Sequence[str], found: Sequence[str], classes_of: str, folder: Path) -> None:
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing:
        raise DataError(f"{folder}: lacks {_count(missing)} of {classes_of}: {_join(missing)}")
    if unknown:
        raise DataError(f"{folder}: has {_count(unknown)} unknown to {classes_of}: {_join(unknown)}")


def _count(names: Sequence[str]) -> str:
    return "one class" if len(names) == 1 else f"{len(names)} classes"


def _list(entries: Sequence[os.DirEntry[str]]) -> str:
    return _join([e.name + "/" * _is_folder(e) for e in entries])


def _join(names: Iterable[str]) -> str:
    shown = [printable(name) for name in names]
    rest = f" and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    return ", ".join(shown[:NAMED]) + rest if shown else "nothing"
