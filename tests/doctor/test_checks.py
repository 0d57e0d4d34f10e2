from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rexnet.config import Config, load_config
from rexnet.data.datamodule import ImageData, fill_caches
from rexnet.doctor.checks import check_cache, check_classes, check_disk, check_precision
from rexnet.doctor.finding import Finding
from rexnet.errors import ConfigError

Usage = namedtuple("Usage", "total used free")


def levels(findings: Iterator[Finding]) -> list[tuple[str, str]]:
    return [(finding.level, finding.subject) for finding in findings]


def test_uneven_classes_and_classes_without_validation_images_are_reported(small_config: Config) -> None:
    data = ImageData(small_config)
    assert levels(check_classes(data)) == [("ok", "data"), ("warning", "data")]  # 15 validation images
    ants = np.flatnonzero(data.train_index.labels == 0)[:1]
    others = np.repeat(np.flatnonzero(data.train_index.labels > 0), 2)
    data.train_index = data.train_index.select([*ants, *others])
    data.val_index = data.val_index.select(np.flatnonzero(data.val_index.labels != 1))
    _, uneven, unseen, few = check_classes(data)
    assert uneven.text.startswith("ant has 1 images, bee 16; data.sampling=balanced")
    assert unseen.text.startswith("no validation image of bee;")
    assert few.text.startswith("10 validation images are too few: each changes top-1 by 10 points;")


def test_the_space_for_a_cache_is_checked(small_run: list[str]) -> None:
    config = load_config("finetune/folder.yaml", [*small_run, "data.cache=disk"])
    (finding,) = check_cache(ImageData(config))
    assert (finding.level, finding.text.startswith("needs about 184.3 kB, ")) == ("ok", True)
    fill_caches(config)
    (finding,) = check_cache(ImageData(config))
    assert (finding.level, finding.text) == ("ok", "is filled")


@pytest.mark.parametrize(("free", "level"), [(100_000_000, "error"), (299_999_999, "error"), (300_000_000, "ok")])
def test_the_disk_must_hold_all_checkpoints_and_a_temporary_one(
    free: int, level: str, small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(0, 0, free))
    finding = check_disk(small_config.trainer.model_copy(update={"keep_best": 3}), 50_000_000)
    assert finding.level == level
    assert "5 checkpoints of 50.0 MB and a temporary one need 300.0 MB" in finding.text
    assert ("lower trainer.keep_best" in finding.text) == (level == "error")


def test_a_folder_that_cannot_be_written_to_is_an_error(small_config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        check_disk(small_config.trainer.model_copy(update={"runs_dir": tmp_path / "file" / "runs"}), 1)


def test_a_precision_that_the_hardware_lacks_is_reported(small_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rexnet.doctor.checks.has_fast_bf16", lambda _: False)
    finding = check_precision(small_config.trainer.model_copy(update={"precision": "bf16"}))
    assert (finding.level, "emulated" in finding.text) == ("warning", True)
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        check_precision(small_config.trainer.model_copy(update={"precision": "fp16"}))


@pytest.mark.parametrize(("load", "level"), [(0.6, "ok"), (1.3, "warning")])
def test_other_programs_are_reported(
    load: float, level: str, small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    finding = check_precision(small_config.trainer.model_copy(update={"precision": "fp32", "accelerator": "cpu"}))
    assert (finding.level, "load of 1.3" in finding.text) == (level, level == "warning")
