from pathlib import Path

import pytest
from conftest import SMALL_RUN

from rexnet.cli import main
from rexnet.config import load_config
from rexnet.doctor.examine import examine
from rexnet.doctor.finding import Finding, attempt
from rexnet.errors import ConfigError, DataError


@pytest.fixture
def shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the dry run and the measurement of the loader."""
    monkeypatch.setattr("rexnet.doctor.estimate.SECONDS", 0.05)
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))  # no other programs
    for module in ("dry_run", "examine"):
        monkeypatch.setattr(f"rexnet.doctor.{module}.STEPS", 10)


def test_a_good_run_passes_all_checks_and_leaves_nothing_behind(
    shortened: None, small_run: list[str], tmp_path: Path
) -> None:
    # The images of the tests are noise on one colour; without mixing they are learned in a few steps.
    plain = ["augmentation.randaugment=null", "augmentation.color_jitter=0", "model.dropout=0"]
    findings = examine(load_config("finetune/folder", [*small_run, *plain]))
    found = {finding.subject: finding for finding in reversed(list(findings))}
    assert {finding.level for subject, finding in found.items() if subject != "loading"} == {"ok"}
    assert "24 training and 15 validation images of 3 classes, 8 to 8 per class; 3 steps" in found["data"].text
    assert "up to learning rate 0.05" in found["learning"].text
    assert found["estimate"].text.startswith("about ")
    assert "for 6 steps at" in found["estimate"].text
    assert "2 validations" in found["estimate"].text
    assert list((tmp_path / "runs").iterdir()) == []


def test_each_finding_is_a_line_and_an_error_gives_exit_code_2(
    small_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["doctor", "finetune/folder.yaml", *small_run]
    nowhere = tmp_path / "nowhere"
    assert main([*arguments, f"data.root={nowhere}"]) == 2
    assert capsys.readouterr().out.startswith(f"error    config        data.root: {nowhere} does not exist")
    assert not (tmp_path / "runs").exists()

    monkeypatch.setattr("rexnet.doctor.examine.examine", lambda _: [Finding("warning", "x", "y")])
    assert main(arguments) == 0
    assert capsys.readouterr().out == "warning  x             y\n"


@pytest.mark.parametrize("name", ["TORCHELASTIC_RUN_ID", "SLURM_STEP_NUM_TASKS"])
def test_one_of_several_processes_refuses_to_check(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "2")
    with pytest.raises(ConfigError, match="in a single process"):
        list(examine(load_config("finetune/folder.yaml", SMALL_RUN)))


def test_an_error_ends_its_check() -> None:
    def check():
        yield Finding("ok", "x", "first")
        raise DataError("then")

    assert [str(finding) for finding in attempt("x", check())] == [
        "ok       x             first",
        "error    x             then",
    ]


def test_too_little_shared_memory_is_reported_before_a_loader_worker_dies_of_it(
    shortened: None, small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_small(*_: object) -> None:
        raise DataError("/dev/shm: too small")

    monkeypatch.setattr("rexnet.data.loaders.require_shared_memory", too_small)
    *_, last = examine(load_config("finetune/folder.yaml", [*small_run, "data.num_workers=4"]))
    assert str(last) == "error    training      /dev/shm: too small"
