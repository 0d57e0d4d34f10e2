"""Class folders: `train/CLASS/*.jpg` and the same below `val/`, `validation/` or `test/`, as files or inside a tar."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from rexnet.data.datasets.index import Index, Layout, Split, build_index, label_source
from rexnet.data.sources.image_files import IMAGE_SUFFIXES, is_hidden, is_image, printable
from rexnet.data.sources.names import Names
from rexnet.data.sources.source import Source
from rexnet.data.sources.tar import by_folder, open_tar
from rexnet.errors import DataError

FOLDER_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "validation", "test"),
    "test": ("test",),
}
SPLIT_FOLDERS = ("train", "val", "validation", "test")
NAMED = 5  # files or folders in a message


def index_folders(root: Path | Source, split: Split) -> Index:
    """Indexes class folders below `train/` or below `val/`, `validation/` or `test/`; `train/` defines the classes.

    Images may lie deeper in their class folder. `root` may be a tar that contains the same folders, or the source of
    all images in such folders.
    """
    if isinstance(root, Source):
        return _index_source(root, split)
    if root.is_file():
        return _index_source(open_tar(root), split)
    train = _split_folder(root, "train")
    return index_class_folders(_split_folder(root, split), class_folders(train), "train/")


def index_class_folders(folder: Path, class_names: Sequence[str], classes_of: str) -> Index:
    """Indexes the images below `folder`, whose subfolders must be exactly `class_names`.

    `classes_of` says in messages where `class_names` come from.
    """
    _require_same_classes(class_names, class_folders(folder), classes_of, folder)
    counts: list[int] = []

    def paths() -> Iterator[str]:
        for name in class_names:
            images = sorted(_images(str(folder / name), name, (os.path.realpath(folder),)), key=by_folder)
            if not images:
                raise DataError(f"{folder / name}: this class has no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
            counts.append(len(images))
            yield from images

    packed = Names.pack(paths())  # fills `counts` as well
    return build_index(folder, packed, np.repeat(np.arange(len(class_names)), counts), class_names)


def class_folders(folder: Path) -> tuple[str, ...]:
    """Returns the names of the folders in `folder`, which are its classes, sorted."""
    entries = _entries(folder)
    names = tuple(entry.name for entry in entries if _is_folder(entry))
    if not names:
        raise DataError(f"{folder}: has no class folders, {f'only {_list(entries)}' if entries else 'it is empty'}")
    return names


def index_tar_folders(tar: Source, prefix: str, class_names: Sequence[str] | None = None) -> Index:
    """Indexes the images of a tar or a listing whose path is `prefix`, a class, and a name.

    `prefix` is empty or ends with a slash. Without `class_names`, all folders are classes, sorted.
    """
    numbers: dict[str, int] = {}

    def number(path: str) -> int:
        class_name, slash, _ = path.removeprefix(prefix).partition("/")
        return numbers.setdefault(class_name, len(numbers)) if slash and path.startswith(prefix) else -1

    found = np.fromiter(map(number, tar.paths), np.int64, len(tar))
    class_names = tuple(numbers) if class_names is None else class_names
    _require_same_classes(class_names, tuple(numbers), "the training images", tar.root / prefix)
    positions = np.flatnonzero(found >= 0)
    if not len(positions):
        raise DataError(f"{tar.root}: has no image of the split")
    label_of = np.array([class_names.index(name) for name in numbers], np.int64)
    source = tar if len(positions) == len(tar) else tar.select(positions)
    return label_source(source, label_of[found[positions]], class_names)


def folder_splits(root: Path | Source) -> tuple[Split, ...]:
    """Returns the splits that have a folder; `test/` counts as `val` only if there is no other."""
    if not isinstance(root, Source) and root.is_file():
        root = open_tar(root)
    names = _top_folders(root)[1] if isinstance(root, Source) else {entry.name for entry in _entries(root)}
    has_val = bool(names & {"val", "validation"})
    return ("train", *(("val",) if has_val or "test" not in names else ()), *(("test",) if "test" in names else ()))


def _index_source(source: Source, split: Split) -> Index:
    top, names = _top_folders(source)
    wanted = next((name for name in FOLDER_NAMES[split] if name in names), None)
    if "train" not in names or wanted is None:
        missing = "train/" if "train" not in names else _folders_of(split)
        found = _join(sorted(names))
        raise DataError(f"{source.root}: has no {missing} with one folder for each class; it contains {found}")
    train = index_tar_folders(source, f"{top}train/")
    return train if wanted == "train" else index_tar_folders(source, f"{top}{wanted}/", train.class_names)


def _top_folders(source: Source) -> tuple[str, set[str]]:
    """Returns the only top folder of a tar (or an empty string), and the names of the folders below it."""
    first = {path.partition("/")[0] for path in source.paths}
    if len(first) != 1 or first.intersection(SPLIT_FOLDERS):
        return "", first
    top = f"{first.pop()}/"
    return top, {path.removeprefix(top).partition("/")[0] for path in source.paths}


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


def _require_same_classes(wanted: Sequence[str], found: Sequence[str], classes_of: str, folder: Path) -> None:
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
