import os
from pathlib import Path

import pytest

from rexnet.cli import main
from rexnet.config import Config, dump_config, load_config
from rexnet.errors import ConfigError
from rexnet.models.factory import adopt_preprocessing
from rexnet.runs.resume_rules import load_run_config
from rexnet.training.run_training import TrainingResult


def test_an_unchanged_file_resumes_a_network_with_its_own_preprocessing(small_run: list[str], tmp_path: Path) -> None:
    name = "model.name=timm/mobilenetv1_100"  # mean and std 0.5, other than those of the file
    overrides = [argument for argument in small_run if not argument.startswith("model.")]
    adopted = adopt_preprocessing(load_config("finetune/folder.yaml", [*overrides, name]))
    assert adopted.data.mean == (0.5, 0.5, 0.5)
    (tmp_path / "config.yaml").write_text(dump_config(adopted))
    load_run_config(tmp_path, [*overrides, name], config="finetune/folder.yaml")
    with pytest.raises(ConfigError, match=r"but optimizer\.lr goes from 0\.05 to 0\.1; to allow it"):
        load_run_config(tmp_path, [*overrides, name, "optimizer.lr=0.1"], config="finetune/folder.yaml")


def test_auto_is_the_run_that_was_started_last_and_never_a_new_one(
    small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    resumed: list[Path] = []

    def train(config: Config, resume: Path, allowed: list[str]) -> TrainingResult:
        resumed.append(resume)
        return TrainingResult({}, resume, None, 0)

    monkeypatch.setattr("rexnet.training.classification.train", train)
    runs = tmp_path / "runs"
    auto = ["train", "--resume", "auto", f"trainer.runs_dir={runs}"]
    assert main(auto) == 2
    assert f"{runs}: holds no run" in capsys.readouterr().err
    for age, name in enumerate(("b", "c", "a")):  # the latest is the first by name
        (runs / name).mkdir(parents=True)
        (runs / name / "config.yaml").write_text(dump_config(load_config("finetune/folder.yaml", small_run)))
        os.utime(runs / name / "config.yaml", (age, age))
    (runs / "d").mkdir()  # no run
    assert main(auto) == 0
    assert resumed == [runs / "a"]


def test_auto_accumulation_of_a_file_does_not_refuse_the_number_that_the_run_settled_on(
    small_run: list[str], tmp_path: Path
) -> None:
    settled = load_config("finetune/folder.yaml", [*small_run, "trainer.accumulate=2"])
    (tmp_path / "config.yaml").write_text(dump_config(settled))
    load_run_config(tmp_path, [*small_run, "trainer.accumulate=auto"], config="finetune/folder.yaml")
    with pytest.raises(ConfigError, match=r"trainer\.accumulate goes from 2 to 4; to allow it"):
        load_run_config(tmp_path, [*small_run, "trainer.accumulate=4"], config="finetune/folder.yaml")
