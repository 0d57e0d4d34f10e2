"""Class folders: `train/CLASS/*.jpg` and the same for validation and test, as files or inside a tar."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rexnet.class_names import class_name
from rexnet.data.datasets.index import Index, Layout, Split, assign_splits, build_index, distinct_splits, label_source
from rexnet.data.sources.image_files import (
    IMAGE_SUFFIXES,
    describe_left_out,
    is_hidden,
    is_image,
    join_names,
    printable,
)
from rexnet.data.sources.source import Source
from rexnet.data.sources.tar import by_folder, open_tar
from rexnet.errors import DataError


def index_folders(root: Path | Source, split: Split) -> Index:
    """Indexes the class folders below a folder with a name of the split; the training images define the classes.

    Images may lie deeper in their class folder. Without another folder for validation, `test/` takes its place. `root`
    may be a tar that contains the same folders, or the source of all images in such folders.
    """
    if isinstance(root, Source):
        return _index_source(root, split)
    if root.is_file():
        return _index_source(open_tar(root), split)
    train, folder = _split_folder(root, "train"), _split_folder(root, split)
    return index_class_folders(folder, class_folders(train), f"{train.name}/")


def find_split(root: Path, split: Split) -> Path | None:
    """Returns the folder of a split in `root`; for `val`, `test/` if there is no other."""
    name = assign_splits((entry.name for entry in _entries(root) if _is_folder(entry)), root).get(split)
    return None if name is None else root / name


def index_class_folders(folder: Path, class_names: Collection[str], classes_of: str) -> Index:
    """Indexes the images below `folder`, whose subfolders must be exactly `class_names`.

    `classes_of` says in messages where `class_names` come from.
    """
    folder_of = class_folders(folder)
    _require_same_classes(class_names, folder_of, classes_of, folder)
    top = _entries(folder, hidden=True)
    left_out = [_path(entry) for entry in top if is_hidden(entry.name) or not _is_folder(entry)]
    paths, counts = list[str](), list[int]()
    for name in class_names:
        path, others = folder / folder_of[name], list[str]()
        images = sorted(_images(str(path), path.name, (os.path.realpath(folder),), others), key=by_folder)
        if not images:
            suffixes, instead = ", ".join(sorted(IMAGE_SUFFIXES)), describe_left_out(others) or "nothing"
            raise DataError(f"{path}: this class has no image ({suffixes}); it has {instead}")
        paths += images
        counts.append(len(images))
        left_out += others
    index = build_index(folder, paths, np.repeat(np.arange(len(class_names)), counts), tuple(class_names))
    return replace(index, left_out=tuple(left_out))


def class_folders(folder: Path) -> dict[str, str]:
    """Maps the name of each class in `folder` to that of its folder, sorted."""
    entries = _entries(folder)
    folder_of = _name_classes((entry.name for entry in entries if _is_folder(entry)), folder)
    if not folder_of:
        found = f"only {join_names(map(_path, entries))}" if entries else "it is empty"
        raise DataError(f"{folder}: has no class folders, {found}")
    return dict(sorted(folder_of.items()))


def _name_classes(folders: Iterable[str], place: Path) -> dict[str, str]:
    """Maps the name of each class to that of its folder in `place`, in their order."""
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


def index_tar_folders(tar: Source, prefix: str, class_names: Sequence[str] | None = None) -> Index:
    """Indexes the images of a tar or a listing whose path is `prefix`, a class, and a name.

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


def folder_splits(root: Path | Source) -> tuple[Split, ...]:
    """Returns the splits that have a folder; `test/` counts as `val` only if there is no other."""
    if isinstance(root, Path) and not root.is_file():
        return distinct_splits(assign_splits((entry.name for entry in _entries(root) if _is_folder(entry)), root))
    source = root if isinstance(root, Source) else open_tar(root)
    return distinct_splits(assign_splits(sorted(_top_folders(source)[1]), source.root))


def _index_source(source: Source, split: Split) -> Index:
    top, names = _top_folders(source)
    found = assign_splits(sorted(names), source.root)
    if "train" not in found or split not in found:
        missing = _folders_of(split if "train" in found else "train")
        raise DataError(
            f"{source.root}: has no {missing} with one folder for each class; it contains {join_names(sorted(names))}"
        )
    train = index_tar_folders(source, f"{top}{found['train']}/")
    return train if split == "train" else index_tar_folders(source, f"{top}{found[split]}/", train.class_names)


def _top_folders(source: Source) -> tuple[str, set[str]]:
    """Returns the only top folder of a tar (or an empty string), and the names of the folders below it."""
    first = {path.partition("/")[0] for path in source.paths}
    if len(first) != 1 or assign_splits(sorted(first), source.root):
        return "", first
    top = f"{first.pop()}/"
    return top, {path.removeprefix(top).partition("/")[0] for path in source.paths}


def _images(folder: str, path: str, above: tuple[str, ...], left_out: list[str]) -> Iterator[str]:
    """Yields the paths of the images in a class folder and below it, and adds others to `left_out`.

    Links to folders are followed, but not in a circle.
    """
    real = os.path.realpath(folder)
    if any(os.path.commonpath((real, upper)) == real for upper in above):
        raise DataError(f"{printable(folder)}: is a link that leads back to {printable(real)}; remove it")
    for entry in _entries(folder, hidden=True):
        inner = f"{path}/{_path(entry)}"
        if inner.endswith("/") and not is_hidden(entry.name):
            yield from _images(entry.path, inner[:-1], (*above, real), left_out)
        elif is_image(entry.name) and not inner.endswith("/"):
            yield inner
        else:
            left_out.append(inner)


def _entries(folder: Path | str, hidden: bool = False) -> list[os.DirEntry[str]]:
    """Lists a folder sorted by name, on request with hidden files."""
    try:
        with os.scandir(folder) as entries:
            shown = (entry for entry in entries if hidden or not is_hidden(entry.name))
            return sorted(shown, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{printable(folder)}: cannot be listed: {error.strerror}") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; reading it will raise a clear error
        return False


def _split_folder(root: Path, split: Split) -> Path:
    folder = find_split(root, split)
    if folder is not None:
        return folder
    entries = _entries(root)
    is_split = not any(map(_is_folder, entries)) or find_split(root, "test") or find_split(root, "val")
    found = join_names(map(_path, entries))
    advice = "" if is_split else f"; to hold out images for validation: rexnet data split {printable(root)}"
    raise DataError(f"{root}: has no {_folders_of(split)} with one folder for each class; it contains {found}{advice}")


def _folders_of(split: Split) -> str:
    return "val/ or test/" if split == "val" else f"{split}/"


def _require_same_classes(wanted: Iterable[str], found: Iterable[str], classes_of: str, folder: Path) -> None:
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    names = missing or unknown
    count = "one class" if len(names) == 1 else f"{len(names)} classes"
    if missing:
        raise DataError(
            f"{folder}: lacks {count} of {classes_of}: {join_names(names)}; add images of it, or list all in a table "
            f"(data.dataset=csv), which may lack it, as `evaluate --data` may"
        )
    if unknown:
        raise DataError(f"{folder}: has {count} unknown to {classes_of}: {join_names(names)}")


def _path(entry: os.DirEntry[str]) -> str:
    return entry.name + "/" * _is_folder(entry)


LAYOUT = Layout(index_folders, folder_splits)
