import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rexnet.checkpoints import durable
from rexnet.checkpoints.checkpoint import read_checkpoint
from rexnet.checkpoints.durable import digest_path, find_damage, remove_durable, remove_stale_temporaries
from rexnet.errors import CheckpointError
from rexnet.training.checkpoint_io import DurableCheckpointIO


def content(step: int) -> dict:
    return {"rexnet": {}, "state_dict": {"w": torch.full((2000,), float(step))}, "step": step}


def save(path: Path, step: int) -> bytes:
    DurableCheckpointIO().save_checkpoint(content(step), path)
    return path.read_bytes()


def test_a_file_has_its_digest_beside_it_and_the_previous_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "last.ckpt"
    first, second = save(path, 1), save(path, 2)
    assert path.read_bytes() == second
    assert path.with_name("previous.ckpt").read_bytes() == first
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == ["last.ckpt", "last.ckpt.sha256", "previous.ckpt", "previous.ckpt.sha256"]
    for name in ("last.ckpt.sha256", "previous.ckpt.sha256"):
        done = subprocess.run(["sha256sum", "-c", name], cwd=path.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_every_flipped_bit_and_every_truncation_is_found(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    whole = save(path, 1)
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(len(whole) * 8, (200,), generator=generator).tolist()
    for place in places:
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        assert find_damage(path) == "damaged: its sha256 is not the one in last.ckpt.sha256"
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="cannot be read as a checkpoint, damaged"):
            read_checkpoint(path)
    path.write_bytes(whole)
    assert find_damage(path) is None
    assert read_checkpoint(path)["step"] == 1


def test_a_file_that_came_without_its_digest_is_checked_by_its_archive(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    whole = save(path, 1)
    digest_path(path).unlink()
    assert find_damage(path) is None
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1  # inside a tensor, which torch.load reads without a word
    path.write_bytes(flipped)
    assert "does not match its checksum" in str(find_damage(path))
    path.write_bytes(whole[:-1])
    assert find_damage(path) == "truncated or not one"


@pytest.mark.parametrize("moment", range(14))
def test_whenever_the_process_is_killed_a_whole_file_with_its_digest_is_there(moment: int, tmp_path: Path) -> None:
    """Kills at the n-th call to the file system; every state in between must verify, as the old file or the new."""
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
        "durable.write_durably(path, lambda file: file.write(b'third' * 999), 5000, backup='previous.ckpt')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path), str(moment)], check=False, timeout=60)
    assert done.returncode in (0, 9)
    assert find_damage(path) is None
    assert path.read_bytes() in (second, b"third" * 999)
    previous = path.with_name("previous.ckpt")
    assert find_damage(previous) is None
    assert previous.read_bytes() in (first, second)
    remove_stale_temporaries(tmp_path)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["last.ckpt", "last.ckpt.sha256", "previous.ckpt", "previous.ckpt.sha256"]


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
            monkeypatch.setattr(durable, "sha256_of", lambda _: "0" * 64)
        case "read-only":
            monkeypatch.setattr("builtins.open", fail)
        case "device full":
            monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CheckpointError, match=f"could not be written, the previous file is untouched: .*{message}"):
        save(path, 2)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert find_damage(path) is None
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.ckpt", "last.ckpt.sha256"]


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


def test_sweeping_and_removing_leave_nothing_behind(tmp_path: Path) -> None:
    save(tmp_path / "last.ckpt", 1)
    for name in (".last.ckpt.7.tmp", ".last.ckpt.sha256.7.tmp", "gone.ckpt.sha256"):
        (tmp_path / name).write_text("half")
    assert remove_stale_temporaries(tmp_path) == [".last.ckpt.7.tmp", ".last.ckpt.sha256.7.tmp", "gone.ckpt.sha256"]
    assert find_damage(tmp_path / "last.ckpt") is None
    remove_durable(tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_folder_plays_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert save(tmp_path / "last.ckpt", 1)
