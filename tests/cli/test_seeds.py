import sys
from pathlib import Path

import pytest

from rexnet.cli import main, seeds


def test_each_seed_is_a_command_of_its_own_and_the_runs_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    commands = []

    def start(command: list[str]) -> int:
        commands.append(command)
        (runs / f"small-{len(commands)}").mkdir(parents=True)
        return 0

    monkeypatch.setattr(seeds, "run_forwarding", start)
    command = ["train.py", "--seeds", "2", "--config", "x.yaml"]
    assert seeds.train_seeds(range(5, 7), runs, "small", command) == 0
    assert commands == [[sys.executable, "train.py", "--config", "x.yaml", f"seed={seed}"] for seed in (5, 6)]
    assert capsys.readouterr().out.endswith(f"rexnet evaluate {runs / 'small-1'} {runs / 'small-2'}\n")


def test_a_run_that_fails_ends_the_series_with_its_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "run_forwarding", lambda command: 143)
    assert seeds.train_seeds(range(3), tmp_path, "small", ["train.py", "--seeds=3"]) == 143
    assert seeds.without_seeds(["train.py", "--seeds=3", "a"]) == ["train.py", "a"]


def test_a_shortened_option_is_none_since_each_seed_would_begin_the_series_again(
    small_run: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--config", "finetune/folder.yaml", "--seed", "3", *small_run])
    assert "unrecognized arguments: --seed" in capsys.readouterr().err


def test_several_seeds_are_for_new_runs_started_here(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["train", "--resume", str(tmp_path), "--seeds", "2"]) == 2
    assert "--seeds: starts new runs only" in capsys.readouterr().err
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert main(["train", "--config", "finetune/folder.yaml", "--seeds", "2", *small_run]) == 2
    assert "--seeds: starts its own processes" in capsys.readouterr().err
