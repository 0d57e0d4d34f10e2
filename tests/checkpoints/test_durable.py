import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rexnet.checkpoints.checkpoint import read_checkpoint
from rexnet.checkpoints.durable import find_damage, remove_stale_temporaries
from rexnet.errors import CheckpointError
from rexnet.training.checkpoint_io import DurableCheckpointIO


def content(step: int) -> dict:
    return {"rexnet": {}, "state_dict": {"w": torch.full((2000,), float(step))}, "step": step}


def save(path: Path, step: int) -> bytes:
    DurableCheckpointIO().save_checkpoint(content(step), path)
    return path.read_bytes()


def test_the_previous_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "last.ckpt"
    first, second = save(path, 1), save(path, 2)
    assert path.read_bytes() == second
    assert path.with_name("previous.ckpt").read_bytes() == first
    assert sorted(file.name for file in path.parent.iterdir()) == ["last.ckpt", "previous.ckpt"]


def test_every_flipped_bit_is_found_or_changes_no_value(tmp_path: Path) -> None:
    """Some bits of an archive, such as those of a date, mean nothing."""
    path = tmp_path / "small.ckpt"
    small = {"rexnet": {}, "state_dict": {"w": torch.arange(5.0)}, "step": 1}
    torch.save(small, path)
    whole = path.read_bytes()
    changed, found = [], 0
    entry = whole.rfind(b"PK\1\2", 0, whole.rfind(b"small/data/0"))  # of the tensor in the directory of the archive
    for place in (*range(0, 8 * len(whole), 40), *range(8 * entry, 8 * entry + 464)):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            read = read_checkpoint(path)
        except CheckpointError:
            found += 1
            continue
        if read["step"] != 1 or not torch.equal(read["state_dict"]["w"], small["state_dict"]["w"]):
            changed.append(place)
    assert changed == []
    assert found > 400


def test_a_flipped_bit_of_a_tensor_and_every_truncation_are_found(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    whole = save(path, 1)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1  # inside a tensor, which torch.load alone reads without an error
    path.write_bytes(flipped)
    assert find_damage(path) == "damaged: its part archive/data/0 does not match its checksum"
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="cannot be read as a checkpoint, truncated or not one"):
            read_checkpoint(path)
    path.write_bytes(whole)
    assert find_damage(path) is None
    assert read_checkpoint(path)["step"] == 1


@pytest.mark.parametrize("moment", range(6))
def test_whenever_the_process_is_killed_a_whole_file_is_there(moment: int, tmp_path: Path) -> None:
    """Kills at the n-th call to the file system; every state in between must be whole, as the old file or the new."""
    path = tmp_path / "last.ckpt"
    first, second = save(path, 1), save(path, 2)
    script = (
        "import os, sys\n"
        "from rexnet.checkpoints import durable\n"
        "calls = 0\n"
        "def counted(function):\n"
        "    def wrapper(*arguments, **keywords):\n"
        "        global calls\n"
        "        calls += 1\n"
        "        if calls > int(sys.argv[2]): os._exit(9)\n"
        "        return function(*arguments, **keywords)\n"
        "    return wrapper\n"
        "for name in ('replace', 'link', 'fsync'): setattr(os, name, counted(getattr(os, name)))\n"
        "from pathlib import Path\n"
        "path = Path(sys.argv[1])\n"
        "durable.save_durably({'step': 3}, path, backup='previous.ckpt')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path), str(moment)], check=False, timeout=60)
    assert done.returncode in (0, 9)
    assert find_damage(path) is None
    assert path.read_bytes() == second or torch.load(path, weights_only=True) == {"step": 3}
    previous = path.with_name("previous.ckpt")
    assert find_damage(previous) is None
    assert previous.read_bytes() in (first, second)
    remove_stale_temporaries(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]


def test_where_the_file_system_has_no_links_the_previous_file_is_kept_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    first = save(tmp_path / "last.ckpt", 1)
    monkeypatch.setattr(os, "link", refused)
    save(tmp_path / "last.ckpt", 2)
    assert (tmp_path / "previous.ckpt").read_bytes() == first
    assert find_damage(tmp_path / "previous.ckpt") is None


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("full", r"it needs 1,0\d\d,\d\d\d bytes, and 0 are free in "),
        ("read-only", "Read-only file system"),
        ("disk lies", "what was read back differs from what was written"),
        ("device full", "No space left on device"),
    ],
)
def test_what_cannot_be_written_leaves_the_previous_file_and_says_why(
    fault: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    before = save(path, 1)

    def fail(*_: object) -> None:
        raise OSError(30, "Read-only file system") if fault == "read-only" else OSError(28, "No space left on device")

    match fault:
        case "full":
            monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
        case "disk lies":
            monkeypatch.setattr(os, "fsync", lambda number: os.pwrite(number, b"\1", 2000))
        case "read-only":
            monkeypatch.setattr("builtins.open", fail)
        case "device full":
            monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CheckpointError, match=f"could not be written, the previous file is untouched: .*{message}"):
        save(path, 2)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert find_damage(path) is None
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.ckpt"]


def test_what_would_execute_code_or_is_not_finite_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    before = save(path, 1)
    with pytest.raises(CheckpointError, match="it could not be loaded again"):
        DurableCheckpointIO().save_checkpoint({**content(2), "path": tmp_path}, path)
    bad = content(2)
    bad["state_dict"]["w"][7] = float("inf")
    with pytest.raises(CheckpointError, match=r"not written, since state_dict\.w is not finite"):
        DurableCheckpointIO().save_checkpoint(bad, path)
    assert path.read_bytes() == before


def test_removing_stale_temporaries_and_checkpoints_leaves_nothing_behind(tmp_path: Path) -> None:
    save(tmp_path / "last.ckpt", 1)
    (tmp_path / ".last.ckpt.7.tmp").write_text("half")
    assert remove_stale_temporaries(tmp_path) == [".last.ckpt.7.tmp"]
    assert find_damage(tmp_path / "last.ckpt") is None
    DurableCheckpointIO().remove_checkpoint(tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_folder_plays_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert save(tmp_path / "last.ckpt", 1)
