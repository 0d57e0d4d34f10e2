"""Class folders: `train/CLASS/*.jpg` and the same for validation and test, as files or inside a tar."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from rexnet.class_names import class_name
from rexnet.data.datasets.index import Index, Layout, Split, assign_splits, build_index, distinct_splits, label_source
from rexnet.data.sources.image_files import (
    IMAGE_SUFFIXES,
    LeftOut,
    describe_left_out,
    is_hidden,
    is_image,
    join_names,
    merge_left_out,
    note_left_out,
    printable,
)
from rexnet.data.sources.names import Names
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
    found = assign_splits((entry.name for entry in _entries(root) if _is_folder(entry)), root)
    name = found.get(split) or (found.get("test") if split == "val" else None)
    return None if name is None else root / name


def index_class_folders(folder: Path, class_names: Collection[str], classes_of: str) -> Index:
    """Indexes the images below `folder`, whose subfolders must be exactly `class_names`.

    `classes_of` says in messages where `class_names` come from.
    """
    folder_of = class_folders(folder)
    _require_same_classes(class_names, folder_of, classes_of, folder)
    counts: list[int] = []
    left_out: LeftOut = {}
    for entry in _entries(folder, hidden=True):
        if is_hidden(entry.name) or not _is_folder(entry):
            _note_entry(left_out, entry, entry.name)

    def paths() -> Iterator[str]:
        nonlocal left_out
        for name in class_names:
            path, others = folder / folder_of[name], LeftOut()
            images = sorted(_images(str(path), path.name, (os.path.realpath(folder),), others), key=by_folder)
            if not images:
                instead = f"; it has {describe_left_out(others)}" if others else ""
                raise DataError(f"{path}: this class has no image ({', '.join(sorted(IMAGE_SUFFIXES))}){instead}")
            left_out = merge_left_out(left_out, others)
            counts.append(len(images))
            yield from images

    packed = Names.pack(paths())  # fills `counts` and `left_out` as well
    index = build_index(folder, packed, np.repeat(np.arange(len(class_names)), counts), tuple(class_names))
    return replace(index, left_out=left_out)


def class_folders(folder: Path) -> dict[str, str]:
    """Maps the name of each class in `folder` to that of its folder, sorted."""
    entries = _entries(folder)
    folder_of = _name_classes((entry.name for entry in entries if _is_folder(entry)), folder)
    if not folder_of:
        raise DataError(f"{folder}: has no class folders, {f'only {_list(entries)}' if entries else 'it is empty'}")
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
    left_out = tar.left_out if class_names is None else {}  # of the whole tar, so that it is said once
    names = tuple(_name_classes(numbers, tar.root / prefix))
    class_names = tuple(sorted(names)) if class_names is None else class_names
    _require_same_classes(class_names, names, "the training images", tar.root / prefix)
    positions = np.flatnonzero(found >= 0)
    if not len(positions):
        raise DataError(f"{tar.root}: has no image of the split")
    label_of = np.array([class_names.index(name) for name in names], np.int64)
    source = tar if len(positions) == len(tar) else tar.select(positions)
    return replace(label_source(source, label_of[found[positions]], class_names), left_out=left_out)


def folder_splits(root: Path | Source) -> tuple[Split, ...]:
    """Returns the splits that have a folder; `test/` counts as `val` only if there is no other."""
    if isinstance(root, Path) and not root.is_file():
        return distinct_splits(assign_splits((entry.name for entry in _entries(root) if _is_folder(entry)), root))
    source = root if isinstance(root, Source) else open_tar(root)
    return distinct_splits(assign_splits(sorted(_top_folders(source)[1]), source.root))


def _index_source(source: Source, split: Split) -> Index:
    top, names = _top_folders(source)
    found = assign_splits(sorted(names), source.root)
    wanted = found.get(split) or (found.get("test") if split == "val" else None)
    if "train" not in found or wanted is None:
        missing = _folders_of(split if "train" in found else "train")
        raise DataError(
            f"{source.root}: has no {missing} with one folder for each class; it contains {join_names(sorted(names))}"
        )
    train = index_tar_folders(source, f"{top}{found['train']}/")
    return train if split == "train" else index_tar_folders(source, f"{top}{wanted}/", train.class_names)


def _top_folders(source: Source) -> tuple[str, set[str]]:
    """Returns the only top folder of a tar (or an empty string), and the names of the folders below it."""
    first = {path.partition("/")[0] for path in source.paths}
    if len(first) != 1 or assign_splits(sorted(first), source.root):
        return "", first
    top = f"{first.pop()}/"
    return top, {path.removeprefix(top).partition("/")[0] for path in source.paths}


def _images(folder: str, path: str, above: tuple[str, ...], left_out: LeftOut) -> Iterator[str]:
    """Yields the paths of the images in a class folder and below it, and counts what is left out.

    Links to folders are followed, but not in a circle.
    """
    real = os.path.realpath(folder)
    if any(os.path.commonpath((real, upper)) == real for upper in above):
        raise DataError(f"{printable(folder)}: is a link that leads back to {printable(real)}; remove it")
    for entry in _entries(folder, hidden=True):
        inner = f"{path}/{entry.name}"
        if is_image(entry.name) and not _is_folder(entry):
            yield inner
        elif _is_folder(entry) and not is_hidden(entry.name):
            yield from _images(entry.path, inner, (*above, real), left_out)
        else:
            _note_entry(left_out, entry, inner)


def _note_entry(left_out: LeftOut, entry: os.DirEntry[str], path: str) -> None:
    """Counts a file that is not taken, or the files in a hidden folder."""
    if not _is_folder(entry):
        note_left_out(left_out, path)
        return
    with suppress(OSError):
        for name in sorted(os.listdir(entry.path)):
            note_left_out(left_out, f"{path}/{name}")


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
    folders = [entry.name for entry in entries if _is_folder(entry)]
    is_split = not folders or assign_splits(folders, root).keys() - {"train"}
    advice = "" if is_split else f"; to hold out images for validation: rexnet data split {printable(root)}"
    raise DataError(
        f"{root}: has no {_folders_of(split)} with one folder for each class; it contains {_list(entries)}{advice}"
    )


def _folders_of(split: Split) -> str:
    return "val/ or test/" if split == "val" else f"{split}/"


def _require_same_classes(wanted: Iterable[str], found: Iterable[str], classes_of: str, folder: Path) -> None:
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    for names, verb, relation in ((missing, "lacks", "of"), (unknown, "has", "unknown to")):
        if names:
            count = "one class" if len(names) == 1 else f"{len(names)} classes"
            raise DataError(f"{folder}: {verb} {count} {relation} {classes_of}: {join_names(names)}")


def _list(entries: Sequence[os.DirEntry[str]]) -> str:
    return join_names([e.name + "/" * _is_folder(e) for e in entries])


LAYOUT = Layout(index_folders, folder_splits)
