import os
import shutil
import tarfile
from pathlib import Path

import pytest

from rexnet.data.sources.names import Names
from rexnet.data.sources.source import FolderSource
from rexnet.data.sources.tar import open_tar
from rexnet.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five files whose content is their own name."""
    for name in "abcde":
        (tmp_path / f"{name}.jpg").write_bytes(name.encode())
    return tmp_path


def source(folder: Path, names: str) -> FolderSource:
    return FolderSource(folder, Names.pack(f"{name}.jpg" for name in names))


def test_files_are_read_by_position(folder: Path) -> None:
    files = source(folder, "abcde")
    assert (len(files), files.read(1), files.name(1)) == (5, b"b", str(folder / "b.jpg"))
    assert files.read_many([4, 0, 4]) == [b"e", b"a", b"e"]
    chosen = files.select([3, 3, 0])
    assert list(chosen.paths) == ["d.jpg", "d.jpg", "a.jpg"]
    assert chosen.read(2) == b"a"


def test_two_folders_become_one_below_their_common_folder(folder: Path) -> None:
    (folder / "sub").mkdir()
    shutil.copy(folder / "c.jpg", folder / "sub" / "x.jpg")
    both = source(folder, "ab").join(source(folder / "sub", "x"))
    assert (both.root, list(both.paths)) == (folder, ["a.jpg", "b.jpg", "sub/x.jpg"])
    assert both.read_many(range(3)) == [b"a", b"b", b"c"]


def test_a_folder_and_an_archive_cannot_be_joined(folder: Path) -> None:
    with tarfile.open(folder / "x.tar", "w") as tar:
        tar.add(folder / "a.jpg", "a.jpg")
    files, archive = source(folder, "a"), open_tar(folder / "x.tar")
    for first, second in ((files, archive), (archive, files)):
        with pytest.raises(DataError, match="cannot be joined"):
            first.join(second)


def test_the_stamp_changes_with_names_sizes_and_times(folder: Path) -> None:
    first = source(folder, "abc").stamp()
    assert source(folder, "abc").stamp() == first
    assert source(folder, "abd").stamp() != first
    os.utime(folder / "b.jpg", ns=(1, 1))
    assert source(folder, "abc").stamp() != first
    second = source(folder, "abc").stamp()
    (folder / "b.jpg").write_bytes(b"longer")
    os.utime(folder / "b.jpg", ns=(1, 1))
    assert source(folder, "abc").stamp() != second
