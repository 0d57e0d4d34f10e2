"""Tests of studies/sweep.py and of `rexnet sweep`, with short runs in place of trainings."""

import csv
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import SMALL_RUN

from rexnet.cli import main
from rexnet.config import dump_config, load_config
from rexnet.data.datasets import load_index
from rexnet.runs.run import Run
from rexnet.runs.run_folder import table_columns
from rexnet.studies import sweep

COLUMNS = table_columns(("top1", "top5", "loss"))

Train = Callable[[Sequence[str]], int]


def value_of(command: Sequence[str], key: str) -> str:
    return next(word.partition("=")[2] for word in reversed(command) if word.startswith(f"{key}="))


def pretend(command: Sequence[str], top1: float | None, detail: str = "") -> int:
    """Leaves the files of a run that finished with `top1`, or failed."""
    run = Path(value_of(command, "trainer.runs_dir")) / value_of(command, "trainer.run_name")
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text(dump_config(load_config("quickstart")))
    row = dict.fromkeys(COLUMNS, "") | {"epoch": "1", "step": "9", "val/top1": str(top1 or 0)}
    (run / "metrics.csv").write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
    state = {"state": "failed" if top1 is None else "finished", "detail": detail, "pid": 0, "host": "", "started": 0}
    (run / "state.json").write_text(json.dumps(state | {"seconds": 60.0}))
    return 1 if top1 is None else 0


@pytest.fixture
def no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves the second that a figure takes."""
    monkeypatch.setattr(sweep, "draw_sweep", lambda *_: None)


@pytest.fixture(autouse=True)
def no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "load_index", lambda data, split: None)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of all trainings, each of which reaches 90 % with label smoothing and 80 % without."""
    started: list[list[str]] = []

    def train(command: Sequence[str]) -> int:
        started.append(list(command))
        return pretend(command, 90.0 if value_of(command, "loss.label_smoothing") == "0.1" else 80.0)

    monkeypatch.setattr(sweep, "run_forwarding", train)
    return started


def begin(out: Path, *more: str) -> int:
    given = [f"data.root={out.parent / 'digits'}", "loss.label_smoothing=0,0.1", "optimizer.lr=0.02,0.05", *more]
    return main(["sweep", "--config", "quickstart.yaml", "--out", str(out), *given])


def test_a_grid_becomes_runs_a_table_a_figure_and_a_command(
    tmp_path: Path, commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s"
    assert begin(out) == 0
    assert [value_of(command, "trainer.run_name") for command in commands] == [f"trial-00{n}" for n in range(4)]
    assert commands[0][:5] == [sys.executable, sys.argv[0], "train", "--config", "quickstart.yaml"]
    rows = list(csv.DictReader((out / "sweep.csv").read_text().splitlines()))
    assert [(row["top1"], row["loss.label_smoothing"], row["optimizer.lr"]) for row in rows] == [
        ("90.00", "0.1", "0.02"),
        ("90.00", "0.1", "0.05"),
        ("80.00", "0", "0.02"),
        ("80.00", "0", "0.05"),
    ]
    assert {"sweep.png", "sweep.svg", "sweep.db"} <= {path.name for path in out.iterdir()}
    best = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Best"))
    assert shlex.split(best)[1:] == [
        *("rexnet", "train", "--config", "quickstart.yaml", f"data.root={tmp_path / 'digits'}"),
        *("loss.label_smoothing=0.1", "optimizer.lr=0.02"),
    ]


@pytest.mark.usefixtures("no_figure")
def test_a_sweep_grows_and_refuses_other_settings(
    tmp_path: Path, commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s"
    assert begin(out, "--trials", "1") == 0
    assert begin(out, "--trials", "3") == 0
    assert begin(out, "--trials", "3") == 0  # nothing is left to do
    assert [value_of(command, "optimizer.lr") for command in commands] == ["0.02", "0.05", "0.02"]
    capsys.readouterr()
    assert begin(out, "model.dropout=0.3") == 2
    assert "has model.dropout=0.2, not model.dropout=0.3" in capsys.readouterr().err


@pytest.mark.usefixtures("no_figure")
def test_ranges_are_sampled_the_same_way_in_any_process(tmp_path: Path, commands: list[list[str]]) -> None:
    for out in ("a", "b"):
        assert begin(tmp_path / out, "model.width_mult=0.9..1.3", "--trials", "3", "--sampler", "random") == 0
    widths = [float(value_of(command, "model.width_mult")) for command in commands]
    assert widths[:3] == widths[3:]
    assert len(set(widths)) == 3
    assert all(0.9 <= width <= 1.3 for width in widths)


@pytest.mark.usefixtures("no_figure")
def test_a_trial_of_several_seeds_counts_by_their_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sweep, "run_forwarding", lambda command: pretend(command, 80.0 + float(value_of(command, "seed")))
    )
    assert begin(tmp_path / "s", "--trials", "1", "--seeds", "3", "seed=4") == 0
    row = next(csv.DictReader((tmp_path / "s" / "sweep.csv").read_text().splitlines()))
    assert (row["top1"], row["deviation"], row["seconds"]) == ("85.00", "1.00", "180")
    assert [Path(run).name for run in row["run"].split()] == [f"trial-000-seed{seed}" for seed in (4, 5, 6)]


@pytest.mark.usefixtures("no_figure")
def test_a_failed_trial_is_a_result_and_three_of_a_kind_are_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(command: Sequence[str]) -> int:
        diverges = value_of(command, "optimizer.lr") == "0.05"
        return pretend(command, None if diverges else 80.0, "the loss is not finite after step 7")

    monkeypatch.setattr(sweep, "run_forwarding", train)
    assert begin(tmp_path / "s") == 0
    rows = list(csv.DictReader((tmp_path / "s" / "sweep.csv").read_text().splitlines()))
    assert [row["top1"] for row in rows] == ["80.00", "80.00", "-", "-"]
    assert rows[-1]["error"] == "the loss is not finite after step 7"
    steps = iter(range(7, 99))
    monkeypatch.setattr(
        sweep, "run_forwarding", lambda command: pretend(command, None, f"diverged at step {next(steps)}")
    )
    assert begin(tmp_path / "t") == 2
    assert "error: the first 3 trials failed in the same way: diverged at step 9\n" in capsys.readouterr().err


@pytest.mark.usefixtures("no_figure")
def test_an_interrupted_trial_is_resumed_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = sweep.run_forwarding
    monkeypatch.setattr(sweep, "run_forwarding", lambda command: 143)
    assert begin(tmp_path / "s") == 130
    assert "The same command resumes the sweep and this trial\ninterrupted\n" in capsys.readouterr().err
    monkeypatch.setattr(sweep, "run_forwarding", whole)
    assert begin(tmp_path / "s") == 0
    assert sorted(value_of(command, "trainer.run_name") for command in commands) == [f"trial-00{n}" for n in range(4)]


def test_what_contradicts_itself_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert begin(tmp_path / "s", "model.width_mult=0.9..1", "--sampler", "grid") == 2
    assert "--sampler: grid needs lists" in capsys.readouterr().err
    assert begin(tmp_path / "s", "seed=0,1", "--seeds", "2") == 2
    assert "--seeds: gives each trial several seeds" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_missing_images_are_one_sentence_before_the_first_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep, "load_index", load_index)
    assert main(["sweep", "--config", "finetune/folder", "data.root=/gone", "optimizer.lr=0.1,0.2"]) == 2
    assert "data.root: /gone does not exist" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_share_the_trials_of_real_trainings(tmp_path: Path, image_root: Path) -> None:
    given = [*SMALL_RUN, f"data.root={image_root}", "schedule.epochs=1", "optimizer.lr=0.02,0.05", "--out", "s"]
    (tmp_path / "program.py").write_text("import sys\nfrom rexnet.cli import main\nsys.exit(main())\n")
    command = [sys.executable, "program.py", "sweep", "--config", "finetune/folder.yaml", *given]
    processes = [subprocess.Popen(command, cwd=tmp_path) for _ in range(2)]
    assert [process.wait(300) for process in processes] == [0, 0]
    runs = [Run(tmp_path / "s" / f"trial-00{number}") for number in range(2)]
    assert [run.state.state for run in runs] == ["finished", "finished"]
    assert [run.config.optimizer.lr for run in runs] == [0.02, 0.05]
