import errno
import os
from collections import namedtuple
from pathlib import Path

import pytest

from rexnet.config import Config
from rexnet.doctor.machine_checks import (
    check_disk,
    check_open_files,
    check_precision,
    check_shared_memory,
)
from rexnet.errors import ConfigError, DataError

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("free", "level"), [(100_000_000, "error"), (299_999_999, "error"), (300_000_000, "ok")])
def test_the_disk_must_hold_all_checkpoints_and_a_temporary_one(
    free: int, level: str, small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(0, 0, free))
    (finding,) = check_disk(small_config.trainer.model_copy(update={"keep_best": 3}), 50_000_000)
    assert finding.level == level
    assert "5 checkpoints of 50.0 MB and a temporary one need 300.0 MB" in finding.text
    assert ("lower trainer.keep_best" in finding.text) == (level == "error")


def test_a_folder_that_cannot_be_written_to_is_an_error(
    small_config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (finding,) = check_disk(small_config.trainer.model_copy(update={"runs_dir": tmp_path / "file" / "runs"}), 1)
    assert (finding.level, "cannot be written to" in finding.text) == ("error", True)

    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    (finding,) = check_disk(small_config.trainer, 1)
    assert (finding.level, "No space left on device" in finding.text) == ("error", True)


@pytest.mark.parametrize(("limits", "remedy"), [((20, 9999), "ulimit -n 4096"), ((20, 20), "a higher hard limit")])
def test_too_few_open_files_are_an_error(limits: tuple[int, int], remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: limits)
    (finding,) = check_open_files(4)
    assert (finding.level, remedy in finding.text) == ("error", True)
    monkeypatch.setattr("os.listdir", lambda _: ["0"] * 20)  # files that are open now
    levels = []
    for limit in (107, 108, 4096):  # 20 + 32 to spare + 2 loaders x 4 workers x (3 + 2 batches x 2)
        monkeypatch.setattr("resource.getrlimit", lambda _, limit=limit: (limit, limit))
        levels += [finding.level for finding in check_open_files(4)]
    assert levels == ["error", "ok", "ok"]


def test_shared_memory_must_hold_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 8 * 3 * 32 * 32
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(0, 0, 4 * 2 * 24_576))
    (finding,) = check_shared_memory(4, size)
    assert finding.level == "ok"
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(0, 0, 4 * 2 * 24_576 - 1))
    with pytest.raises(DataError, match="--shm-size"):
        list(check_shared_memory(4, size))
    (finding,) = check_shared_memory(0, size)
    assert "not needed" in finding.text


def test_a_precision_that_the_hardware_lacks_is_reported(small_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rexnet.doctor.machine_checks.has_fast_bf16", lambda _: False)
    (finding,) = check_precision(small_config.trainer.model_copy(update={"precision": "bf16"}))
    assert (finding.level, "emulated" in finding.text) == ("warning", True)
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        list(check_precision(small_config.trainer.model_copy(update={"precision": "fp16"})))
