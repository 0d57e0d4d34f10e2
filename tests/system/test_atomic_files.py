import os
import platform
import subprocess
import time
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
    assert list(tmp_path.iterdir()) == []  # nor the folders that were made for it
    with atomic_write(path) as temporary:
        temporary.write_text("first")
    with pytest.raises(RuntimeError):
        broken_off(path)
    assert (path.read_text(), list(path.parent.iterdir())) == ("first", [path])


def test_what_a_killed_process_of_this_machine_left_goes_with_the_next_writing(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    node, path = platform.node(), tmp_path / "file.txt"
    for name in (f".file.{node}-{gone.pid}.txt", f".file.{node}-{os.getppid()}.txt", f".file.other-{gone.pid}.txt"):
        (tmp_path / name).write_text("half")
    (tmp_path / f".folder.{node}-{gone.pid}").mkdir()
    for entry in tmp_path.iterdir():
        os.utime(entry, (time.time() - 3601, time.time() - 3601))
    (tmp_path / f".file.{node}-{2**22 + 1}.txt").write_text("half")  # just now, perhaps by another container
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
    stay = {
        f".file.{node}-{os.getppid()}.txt",
        f".file.other-{gone.pid}.txt",
        f".file.{node}-{2**22 + 1}.txt",
    }  # whose process lives, or may live
    assert {entry.name for entry in tmp_path.iterdir()} == {"file.txt", f".folder.{node}-{gone.pid}", *stay}
    with temporary_path(tmp_path / "folder") as folder:
        folder.mkdir()
        (folder / "x").touch()
    assert {entry.name for entry in tmp_path.iterdir()} == {"file.txt", *stay}


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
