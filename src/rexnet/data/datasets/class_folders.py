"""Class folders: `train/CLASS/*.jpg` and the same below `val/`, `validation/` or `test/`, as files or inside a tar."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from rexnet.class_names import class_name
from rexnet.data.datasets.index import Index, Layout, Split, build_index, label_source
from rexnet.data.sources.image_files import IMAGE_SUFFIXES, is_hidden, is_image, printable
from rexnet.data.sources.names import Names
from rexnet.data.sources.tar import TarSource, by_folder, open_tar
from rexnet.errors import DataError

FOLDER_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "validation", "test"),
    "test": ("test",),
}
SPLIT_FOLDERS = ("train", "val", "validation", "test")
NAMED = 5  # files or folders in a message


def index_folders(root: Path, split: Split) -> Index:
    """Indexes class folders below `train/` or below `val/`, `validation/` or `test/`; `train/` defines the classes.

    Images may lie deeper in their class folder. `root` may be a tar that contains the same folders.
    """
    if root.is_file():
        return _index_tar(root, split)
    train = _split_folder(root, "train")
    return index_class_folders(_split_folder(root, split), class_folders(train), "train/")


def index_class_folders(folder: Path, class_names: Sequence[str], classes_of: str) -> Index:
    """Indexes the images below `folder`, whose subfolders must be exactly `class_names`.

    `classes_of` says in messages where `class_names` come from.
    """
    folder_of = _folders_by_class(folder)
    _require_same_classes(class_names, folder_of, classes_of, folder)
    counts: list[int] = []

    def paths() -> Iterator[str]:
        for name in class_names:
            path = folder / folder_of[name]
            images = sorted(_images(str(path), path.name, (os.path.realpath(folder),)), key=by_folder)
            if not images:
                raise DataError(f"{path}: this class has no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
            counts.append(len(images))
            yield from images

    packed = Names.pack(paths())  # fills `counts` as well
    return build_index(folder, packed, np.repeat(np.arange(len(class_names)), counts), class_names)


def class_folders(folder: Path) -> tuple[str, ...]:
    """Returns the names of the classes in `folder`, which are those of its folders, sorted."""
    return tuple(sorted(_folders_by_class(folder)))


def _folders_by_class(folder: Path) -> dict[str, str]:
    """Maps the name of each class in `folder` to that of its folder."""
    entries = _entries(folder)
    folder_of = _name_classes((entry.name for entry in entries if _is_folder(entry)), folder)
    if not folder_of:
        raise DataError(f"{folder}: has no class folders, {f'only {_list(entries)}' if entries else 'it is empty'}")
    return folder_of


def _name_classes(folders: Iterable[str], place: Path) -> dict[str, str]:
    """Maps the name of each class to that of its folder in `place`."""
    folder_of: dict[str, str] = {}
    for folder in folders:
        try:
            name = class_name(folder)
        except ValueError as error:
            problem = f"{error}, as names of classes have to be; rename this folder"
            raise DataError(f"{printable(place / folder)}: {problem}") from None
        if folder_of.setdefault(name, folder) != folder:
            raise DataError(f"{place}: has two folders {name}, in composed and in decomposed letters; merge them")
    return folder_of


def index_tar_folders(tar: TarSource, prefix: str, class_names: Sequence[str] | None = None) -> Index:
    """Indexes the images of a tar whose path is `prefix`, a class, and a name.

    `prefix` is empty or ends with a slash. Without `class_names`, all folders are classes, sorted.
    """
    numbers: dict[str, int] = {}

    def number(path: str) -> int:
        folder, slash, _ = path.removeprefix(prefix).partition("/")
        return numbers.setdefault(folder, len(numbers)) if slash and path.startswith(prefix) else -1

    found = np.fromiter(map(number, tar.paths), np.int64, len(tar))
    names = tuple(_name_classes(numbers, tar.root / prefix))
    class_names = tuple(sorted(names)) if class_names is None else class_names
    _require_same_classes(class_names, names, "the training images", tar.root / prefix)
    positions = np.flatnonzero(found >= 0)
    if not len(positions):
        raise DataError(f"{tar.root}: has no image of the split")
    label_of = np.array([class_names.index(name) for name in names], np.int64)
    source = tar if len(positions) == len(tar) else tar.select(positions)
    return label_source(source, label_of[found[positions]], class_names)


def folder_splits(root: Path) -> tuple[Split, ...]:
    """Returns the splits that have a folder; `test/` counts as `val` only if there is no other."""
    names = _tar_folders(open_tar(root))[1] if root.is_file() else {e.name for e in _entries(root)}
    has_val = bool(names & {"val", "validation"})
    return ("train", *(("val",) if has_val or "test" not in names else ()), *(("test",) if "test" in names else ()))


def _index_tar(path: Path, split: Split) -> Index:
    tar = open_tar(path)
    top, names = _tar_folders(tar)
    wanted = next((name for name in FOLDER_NAMES[split] if name in names), None)
    if "train" not in names or wanted is None:
        missing = "train/" if "train" not in names else _folders_of(split)
        raise DataError(f"{path}: has no {missing} with one folder for each class; it contains {_join(sorted(names))}")
    train = index_tar_folders(tar, f"{top}train/")
    return train if wanted == "train" else index_tar_folders(tar, f"{top}{wanted}/", train.class_names)


def _tar_folders(tar: TarSource) -> tuple[str, set[str]]:
    """Returns the only top folder of a tar (or an empty string), and the names of the folders below it."""
    first = {path.partition("/")[0] for path in tar.paths}
    if len(first) != 1 or first.intersection(SPLIT_FOLDERS):
        return "", first
    top = f"{first.pop()}/"
    return top, {path.removeprefix(top).partition("/")[0] for path in tar.paths}


def _images(folder: str, path: str, above: tuple[str, ...]) -> Iterator[str]:
    """Yields the paths of the images in a class folder and below it; follows links to folders, but not in a circle."""
    real = os.path.realpath(folder)
    if any(os.path.commonpath((real, upper)) == real for upper in above):
        raise DataError(f"{printable(folder)}: is a link that leads back to {printable(real)}; remove it")
    for entry in _entries(folder):
        if _is_folder(entry):
            yield from _images(entry.path, f"{path}/{entry.name}", (*above, real))
        elif is_image(entry.name):
            yield f"{path}/{entry.name}"


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """Lists a folder sorted by name, without hidden files."""
    try:
        with os.scandir(folder) as entries:
            shown = (entry for entry in entries if not is_hidden(entry.name))
            return sorted(shown, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{printable(folder)}: cannot be listed: {error.strerror}") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; reading it will raise a clear error
        return False


def _split_folder(root: Path, split: Split) -> Path:
    for name in FOLDER_NAMES[split]:
        if (root / name).is_dir():
            return root / name
    entries = _entries(root)
    folders = {entry.name for entry in entries if _is_folder(entry)}
    is_split = not folders or folders.intersection(SPLIT_FOLDERS[1:])
    advice = "" if is_split else f"; to hold out images for validation: rexnet data split {printable(root)}"
    raise DataError(
        f"{root}: has no {_folders_of(split)} with one folder for each class; it contains {_list(entries)}{advice}"
    )


def _folders_of(split: Split) -> str:
    return " or ".join(f"{name}/" for name in FOLDER_NAMES[split])


def _require_same_classes(wanted: Iterable[str], found: Iterable[str], classes_of: str, folder: Path) -> None:
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    for names, verb, relation in ((missing, "lacks", "of"), (unknown, "has", "unknown to")):
        if names:
            count = "one class" if len(names) == 1 else f"{len(names)} classes"
            raise DataError(f"{folder}: {verb} {count} {relation} {classes_of}: {_join(names)}")


def _list(entries: Sequence[os.DirEntry[str]]) -> str:
    return _join([e.name + "/" * _is_folder(e) for e in entries])


def _join(names: Iterable[str]) -> str:
    shown = [printable(name) for name in names]
    rest = f" and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    return ", ".join(shown[:NAMED]) + rest if shown else "nothing"


LAYOUT = Layout(index_folders, folder_splits)
