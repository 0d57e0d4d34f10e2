import errno
import io
import os
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import write_images

from rexnet.data.datasets.class_folders import folder_splits, index_folders
from rexnet.data.datasets.digits import write_digits
from rexnet.data.datasets.index import Split, join
from rexnet.data.sources.image_files import describe_left_out
from rexnet.errors import DataError


def folder_root(root: Path, splits: dict[str, list[str]]) -> Path:
    for split, classes in splits.items():
        for name in classes:
            write_images(root / split / name, 2, hue=1, size=(8, 8))
    return root


def packed(root: Path, tar: Path, top: str = "") -> Path:
    with tarfile.open(tar, "w") as file:
        file.add(root, arcname=top or ".")
    return tar


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "dev", "test"])
def test_class_folders_are_indexed_in_the_order_of_their_names(name: str, tmp_path: Path) -> None:
    root = folder_root(tmp_path, {"train": ["b", "a"], name: ["a", "b"]})
    train, val = index_folders(root, "train"), index_folders(root, "val")
    assert train.class_names == val.class_names == ("a", "b")
    assert list(train.paths) == ["a/000.png", "a/001.png", "b/000.png", "b/001.png"]
    np.testing.assert_array_equal(train.labels, [0, 0, 1, 1])
    assert val.root == root / name
    assert len(val) == 4


@pytest.mark.parametrize("as_tar", [False, True])
@pytest.mark.parametrize("name", ["val", "valid", "Validation", "dev"])
def test_test_is_a_split_of_its_own_where_there_is_one(name: str, as_tar: bool, tmp_path: Path) -> None:
    root = folder_root(tmp_path / "r", {"Training": ["a"], name: ["a"], "test": ["a"], "other": ["b"]})
    root = packed(root, tmp_path / "r.tar") if as_tar else root
    for split, folder in {"train": "Training", "val": name, "test": "test"}.items():
        index = index_folders(root, split)
        assert index.paths[0] == f"{folder}/a/000.png" if as_tar else index.root.name == folder
    assert folder_splits(root) == ("train", "val", "test")


@pytest.mark.parametrize("as_tar", [False, True])
def test_two_folders_of_one_split_are_refused(as_tar: bool, tmp_path: Path) -> None:
    root = folder_root(tmp_path / "r", {"train": ["a"], "val": ["a"], "Valid": ["a"]})
    root = packed(root, tmp_path / "r.tar") if as_tar else root
    for index in (index_folders, lambda root, _: folder_splits(root)):
        with pytest.raises(DataError, match="has both Valid and val, which are names of one split; merge them"):
            index(root, "val")


@pytest.mark.parametrize("top", ["", "flowers"])
def test_a_tar_of_class_folders_gives_the_same_images(
    top: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = folder_root(tmp_path / "images", {"train": ["b", "a"], "validation": ["a", "b"], "test": ["a", "b"]})
    (root / "train" / "._a").mkdir()
    (root / "train" / "a" / "._000.png").write_bytes(b"x")
    (root / "train" / "a" / "x.HEIC").write_bytes(b"x")
    tar = packed(root, tmp_path / "images.tar", top)
    prefix = f"{top}/" if top else ""
    for split, name in {"train": "train", "val": "validation", "test": "test"}.items():
        there, here = index_folders(tar, split), index_folders(root, split)
        assert list(there.paths) == [f"{prefix}{name}/{path}" for path in here.paths]
        assert there.class_names == here.class_names
        np.testing.assert_array_equal(there.labels, here.labels)
        assert [there.read(n) for n in range(len(there))] == [here.read(n) for n in range(len(here))]
    assert folder_splits(tar) == ("train", "val", "test")
    assert f"images.tar: left out 1 .heic ({prefix}train/a/x.HEIC); convert .heic" in caplog.text


def test_classes_are_in_the_order_of_their_names_in_tars_too(tmp_path: Path) -> None:
    root = folder_root(tmp_path / "r", {"train": ["a", "a-b", "a b"], "val": ["a", "a-b", "a b"]})
    write_images(root / "train" / "a" / "x", 1, hue=0)
    here, there = index_folders(root, "train"), index_folders(packed(root, tmp_path / "r.tar"), "train")
    assert here.class_names == there.class_names == ("a", "a b", "a-b")
    assert [f"train/{path}" for path in here.paths] == list(there.paths)
    assert here.labels.tolist() == there.labels.tolist() == [0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("as_tar", [False, True])
def test_composed_and_decomposed_letters_are_the_same_class(as_tar: bool, tmp_path: Path) -> None:
    root = folder_root(tmp_path / "r", {"train": ["cafe\u0301", "cafz"], "val": ["caf\xe9", "cafz"]})
    tar = packed(root, tmp_path / "r.tar")
    train, val = (index_folders(tar if as_tar else root, split) for split in ("train", "val"))
    assert train.class_names == val.class_names == ("cafz", "caf\xe9")
    assert train.labels.tolist() == ([1, 1, 0, 0] if as_tar else [0, 0, 1, 1])
    assert train.read(0).startswith(b"\x89PNG")
    folder_root(root, {"train": ["caf\xe9"]})
    with pytest.raises(DataError, match=r"train.?: has two folders caf\xe9, in composed and in decomposed letters"):
        index_folders(packed(root, tmp_path / "s.tar") if as_tar else root, "train")


@pytest.mark.parametrize("as_tar", [False, True])
@pytest.mark.parametrize(
    ("name", "message"),
    [("caf\udce9", r"train/caf\\xe9: is not UTF-8 text, .* rename this folder"), ("a\nb", r"a\\nb: contains control")],
)
def test_a_class_whose_name_is_no_line_of_text_is_named(name: str, message: str, as_tar: bool, tmp_path: Path) -> None:
    root = folder_root(tmp_path / "r", {"train": ["a"], "val": ["a"]})
    (root / "train" / "a").rename(root / "train" / name)
    with pytest.raises(DataError, match=message):
        index_folders(packed(root, tmp_path / "r.tar") if as_tar else root, "train")


def test_hidden_files_and_leftovers_of_archives_are_no_classes_and_no_images(tmp_path: Path) -> None:
    root = folder_root(tmp_path, {"train": ["a", ".ipynb_checkpoints", "__MACOSX"], "val": ["a"]})
    write_images(root / "train" / "a" / ".ipynb_checkpoints", 1, hue=0)
    write_images(root / "train" / "a" / "__MACOSX", 1, hue=0)
    (root / "train" / "a" / "._000.png").write_bytes(b"x")
    (root / "train" / "a" / "notes.txt").write_text("x")
    assert index_folders(root, "train").class_names == ("a",)
    assert list(index_folders(root, "train").paths) == ["a/000.png", "a/001.png"]


def test_what_is_left_out_is_counted_with_an_example(tmp_path: Path) -> None:
    root = folder_root(tmp_path, {"train": ["a", ".25mm", "__MACOSX"], "val": ["a"]})
    write_images(root / "train/a/.ipynb_checkpoints", 1, hue=0)
    for name in (
        "a/x.HEIC",
        "a/deep/y.heic",
        "a/z",
        "readme.md",
        "a/._000.png",
        "a/.DS_Store",
        "loose.JPG",
        ".gitkeep",
    ):
        (root / "train" / name).parent.mkdir(exist_ok=True)
        (root / "train" / name).write_bytes(b"x")
    train = index_folders(root, "train")
    assert list(train.paths) == ["a/000.png", "a/001.png"]
    assert describe_left_out(train.left_out).startswith(
        "2 .heic (a/deep/y.heic), 1 .md (readme.md), 1 broken or outside of the class folders (loose.JPG), 2 hidden "
        "(.25mm/), 1 without suffix (a/z); convert .heic to JPEG, for which"
    )
    assert describe_left_out(index_folders(root, "val").left_out) == ""
    assert train.select([0]).left_out == train.left_out
    assert join(train, index_folders(root, "val")).left_out == train.left_out
    (root / "val/a/000.png").rename(root / "val/a/000.heic")
    (root / "val/a/001.png").unlink()
    with pytest.raises(
        DataError, match=r"this class has no image \(.*\); it has 1 \.heic \(a/000\.heic\); convert \.heic to"
    ):
        index_folders(root, "val")


def test_images_deeper_in_a_class_folder_belong_to_it(tmp_path: Path) -> None:
    root = folder_root(tmp_path, {"train": ["a", "b"], "val": ["a", "b"]})
    write_images(root / "train" / "a" / "images" / "more", 1, hue=0)
    index = index_folders(root, "train")
    assert list(index.paths)[2] == "a/images/more/000.png"
    assert index.labels.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".PNG", ".webp", ".gif", ".tif", ".jfif", ".jp2", ".PNM"])
def test_suffixes_are_known_in_any_case(suffix: str, tmp_path: Path) -> None:
    root = folder_root(tmp_path, {"train": ["a"], "val": ["a"]})
    os.rename(root / "train" / "a" / "000.png", root / "train" / "a" / f"x{suffix}")
    assert len(index_folders(root, "train")) == 2


def test_names_in_any_encoding_are_kept(tmp_path: Path) -> None:
    root = folder_root(tmp_path, {"train": ["a"], "val": ["a"]})
    os.rename(root / "train" / "a" / "000.png", os.fsencode(root) + b"/train/a/\xff\n.png")
    index = index_folders(root, "train")
    assert list(index.paths) == ["a/001.png", "a/\udcff\n.png"]
    assert index.read(1).startswith(b"\x89PNG")


def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    root = folder_root(tmp_path, {"train": ["a"], "val": ["a"]})
    write_images(tmp_path / "elsewhere", 3, hue=0)
    (root / "train" / "a" / "more").symlink_to(tmp_path / "elsewhere")
    assert len(index_folders(root, "train")) == 5
    (tmp_path / "elsewhere" / "back").symlink_to(root / "train" / "a")
    with pytest.raises(DataError, match=r"more/back: is a link that leads back to .*train/a; remove it"):
        index_folders(root, "train")
    (tmp_path / "elsewhere" / "back").unlink()
    (root / "train" / "loop").symlink_to("..")
    (root / "val" / "loop").symlink_to("..")
    with pytest.raises(DataError, match=r"train/loop: is a link that leads back"):
        index_folders(root, "train")


def test_files_that_cannot_be_read_are_kept_so_that_reading_names_them(tmp_path: Path) -> None:
    root = folder_root(tmp_path, {"train": ["a"], "val": ["a"]})
    os.mkfifo(root / "train" / "a" / "pipe.jpg")
    (root / "train" / "a" / "self.jpg").symlink_to("self.jpg")
    (root / "train" / "a" / "zone.jpg").symlink_to("nowhere.jpg")
    index = index_folders(root, "train")
    for position, message in {2: "is not a regular file", 3: "Too many levels", 4: "No such file"}.items():
        with pytest.raises(DataError, match=message):
            index.read(position)


@pytest.mark.parametrize("as_tar", [False, True])
@pytest.mark.parametrize(
    ("splits", "split", "message"),
    [
        ({"val": ["a"]}, "train", r"has no train/ with one folder for each class; it contains val"),
        ({"train": ["a"], "x": ["a"]}, "val", r"has no val/ or test/ .*; it contains "),
        ({"train": ["a", "b", "c"], "val": ["a"]}, "val", r"val: lacks 2 classes of .*: b, c"),
        ({"train": ["a"], "val": ["a", "z"]}, "val", r"val: has one class unknown to .*: z"),
        ({"train": ["a", "b", "c"], "val": ["a", "c"]}, "val", r"val: lacks one class of .*: b"),
    ],
)
def test_a_folder_that_is_not_as_it_should_be_is_named(
    splits: dict[str, list[str]], split: Split, message: str, as_tar: bool, tmp_path: Path
) -> None:
    root = folder_root(tmp_path / "r", splits)
    with pytest.raises(DataError, match=message):
        index_folders(packed(root, tmp_path / "r.tar") if as_tar else root, split)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    root = folder_root(tmp_path, {"train": ["a"], "val": ["a"]})
    (root / "train" / "empty").mkdir()
    with pytest.raises(DataError, match=r"train/empty: this class has no image"):
        index_folders(root, "train")
    (root / "train" / "a").rename(root / "a")
    (root / "train" / "empty").rmdir()
    with pytest.raises(DataError, match=r"train: has no class folders, it is empty"):
        index_folders(root, "train")


def test_a_file_that_is_no_tar_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(DataError, match=r"x\.tar: is not a valid tar"):
        index_folders(tmp_path / "x.tar", "train")
    with tarfile.open(tmp_path / "y.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("train/notes.txt"), io.BytesIO())
    with pytest.raises(DataError, match=r"y\.tar: has no train/ .*it contains nothing"):
        index_folders(tmp_path / "y.tar", "train")


def test_the_digits_are_written_once_with_360_held_out(tmp_path: Path) -> None:
    root = write_digits(tmp_path / "digits")
    train, val = index_folders(root, "train"), index_folders(root, "val")
    assert (len(train), len(val)) == (1437, 360)
    assert train.class_names == tuple("0123456789")
    numbers = {re.sub(r"\D", "", Path(path).stem) for index in (train, val) for path in index.paths}
    assert len(numbers) == 1797
    stamp = (root / "train").stat().st_mtime_ns
    assert write_digits(root) == root
    assert (root / "train").stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_the_digits_of_a_faster_process_are_taken_and_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def rename_too_late(source: Path, target: Path) -> None:
        shutil.copytree(source, target, dirs_exist_ok=True)
        rename(source, target)  # which fails now, since the target is not empty

    (tmp_path / "digits").mkdir()
    monkeypatch.setattr(os, "rename", rename_too_late)
    assert len(index_folders(write_digits(tmp_path / "digits"), "val")) == 360
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(DataError, match=r"the digits cannot be written to .*full: No space left"):
        write_digits(tmp_path / "full")
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_the_digits_do_not_touch_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="contains other files"):
        write_digits(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
