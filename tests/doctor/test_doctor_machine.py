import errno
import os
from collections import namedtuple
from pathlib import Path

import pytest

from rexnet.config import Config
from rexnet.doctor.machine import (
    check_arithmetic,
    check_disk,
    check_load,
    check_open_files,
    check_shared_memory,
    megabytes,
)
from rexnet.errors import ConfigError, DataError

Usage = namedtuple("Usage", "total used free")


def changed(config: Config, section: str, **values: object) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


@pytest.mark.parametrize(
    ("free", "level"), [(100_000_000, "error"), (299_999_999, "error"), (300_000_000, "warning"), (600_000_000, "ok")]
)
def test_the_disk_must_hold_all_checkpoints_and_the_one_in_the_making(
    free: int, level: str, small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(0, 0, free))
    (finding,) = check_disk(changed(small_config, "trainer", keep_best=3), 50_000_000)
    assert finding.level == level
    assert "5 checkpoints of 50 MB and one in the making need 300 MB" in finding.text
    assert ("lower trainer.keep_best" in finding.text) == (level == "error")


def test_a_folder_that_cannot_be_written_to_is_an_error(
    small_config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (finding,) = check_disk(changed(small_config, "trainer", runs_dir=tmp_path / "file" / "runs"), 1)
    assert (finding.level, "cannot be written to" in finding.text) == ("error", True)

    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    (finding,) = check_disk(small_config, 1)
    assert (finding.level, "No space left on device" in finding.text) == ("error", True)


@pytest.mark.parametrize(("limits", "remedy"), [((20, 9999), "ulimit -n 4096"), ((20, 20), "a higher hard limit")])
def test_too_few_open_files_are_an_error(
    limits: tuple[int, int], remedy: str, small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed(small_config, "data", num_workers=4)
    monkeypatch.setattr("resource.getrlimit", lambda _: limits)
    (finding,) = check_open_files(config)
    assert (finding.level, remedy in finding.text) == ("error", True)
    monkeypatch.setattr("os.listdir", lambda _: ["0"] * 20)  # files that are open now
    levels = []
    for limit in (75, 76, 107, 108):  # 20 + 32 to spare + 2 loaders x 4 processes x (3 + 2 batches x 2)
        monkeypatch.setattr("resource.getrlimit", lambda _, limit=limit: (limit, limit))
        levels += [finding.level for finding in check_open_files(config)]
    assert levels == ["error", "warning", "warning", "ok"]
    monkeypatch.setattr("resource.getrlimit", lambda _: (4096, 4096))
    (finding,) = check_open_files(config)
    assert finding.level == "ok"


def test_shared_memory_must_hold_the_batches(small_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config = changed(small_config, "data", num_workers=4)  # batches of 8 x 3 x 32 x 32 bytes
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(0, 0, 4 * 2 * 24_576))
    (finding,) = check_shared_memory(config, 1)
    assert finding.level == "ok"
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(0, 0, 4 * 2 * 24_576 - 1))
    with pytest.raises(DataError, match="--shm-size"):
        list(check_shared_memory(config, 1))
    (finding,) = check_shared_memory(small_config, 1)
    assert "not needed" in finding.text


def test_arithmetic_that_the_hardware_lacks_is_said(small_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rexnet.doctor.machine.has_fast_bf16", lambda _: False)
    (finding,) = check_arithmetic(changed(small_config, "trainer", precision="bf16"))
    assert (finding.level, "emulated" in finding.text) == ("warning", True)
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        list(check_arithmetic(changed(small_config, "trainer", precision="fp16")))


def test_a_busy_machine_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr("os.getloadavg", lambda: (2.0, 9.0, 9.0))
    assert list(check_load()) == []
    monkeypatch.setattr("os.getloadavg", lambda: (2.1, 0.0, 0.0))
    assert [finding.level for finding in check_load()] == ["warning"]


def test_sizes_are_for_people() -> None:
    assert [megabytes(size) for size in (43e6, 999e6, 1e9, 12.34e9)] == ["43 MB", "999 MB", "1.0 GB", "12.3 GB"]
