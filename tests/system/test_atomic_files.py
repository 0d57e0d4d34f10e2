from pathlib import Path

import pytest

from rexnet.errors import ConfigError
from rexnet.system.atomic_files import atomic_write, require_writable, temporary_path


def broken_off(path: Path) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    with pytest.raises(RuntimeError):
        broken_off(path)
    assert list(path.parent.iterdir()) == []
    with atomic_write(path) as temporary:
        temporary.write_text("first")
    with pytest.raises(RuntimeError):
        broken_off(path)
    assert (path.read_text(), list(path.parent.iterdir())) == ("first", [path])


def test_a_temporary_folder_is_removed_with_its_content(tmp_path: Path) -> None:
    with temporary_path(tmp_path / "folder") as folder:
        folder.mkdir()
        (folder / "x").touch()
    assert list(tmp_path.iterdir()) == []


def test_asking_whether_a_file_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "folder" / "file.txt")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "x" / "y.txt", "cannot be written: Not a dir"),
    ):
        with pytest.raises(ConfigError, match=message):
            require_writable(path)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
