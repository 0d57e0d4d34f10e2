import os
import shlex
import signal
from pathlib import Path

import pytest

from rexnet.cli import main
from rexnet.config import dump_config, load_config
from rexnet.errors import ConfigError
from rexnet.runs.overview import describe_run, describe_runs
from rexnet.runs.run import Run
from rexnet.runs.run_folder import find_run_folders, table_columns
from rexnet.runs.state import RunLock
from rexnet.training.signals import Stopped

COLUMNS = table_columns(("top1", "top5", "loss"))


def make_run(folder: Path, epochs: int = 0) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(load_config("finetune/folder.yaml", ["schedule.epochs=4"])))
    lines = [",".join(COLUMNS)]
    for epoch in range(1, epochs + 1):
        row = {
            "epoch": epoch,
            "step": epoch,
            "val/top1": 80 + epoch,
            "val_ema/top1": 70 + epoch,
            "seconds": epoch * 100,
        }
        lines.append(",".join(str(row.get(name, "")) for name in COLUMNS))
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_all_runs_are_listed_in_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, epochs, seconds in (("older", 4, 1), ("half", 2, 2), ("new", 0, 3)):
        os.utime(make_run(tmp_path / name, epochs) / "config.yaml", (seconds, seconds))
    RunLock(tmp_path / "half").fail(Stopped(signal.SIGTERM))
    RunLock(tmp_path / "older").finish()
    assert main(["runs", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    lines = [line.split() for line in table.splitlines()[1:]]
    assert [line[:5] for line in lines] == [
        ["older", "finished", "4/4", "74.00", "%"],
        ["half", "stopped", "2/4", "72.00", "%"],
        ["new", "unknown", "0/4", "-", "0"],
    ]
    assert lines[0][5:] == ["0", "s"]
    assert lines[1][-5:] == ["by", "SIGTERM,", "after", "a", "checkpoint"]


def test_a_run_is_shown_with_the_commands_for_its_next_step(tmp_path: Path) -> None:
    run = make_run(tmp_path / "x", 2)
    spaced = make_run(tmp_path / "a b")
    (spaced / "checkpoints" / "last.ckpt").touch()
    assert f"rexnet report '{spaced}'" in describe_run(Run(spaced))  # as a shell takes it
    assert "holds no checkpoint" in describe_run(Run(run))
    (run / "checkpoints" / "last.ckpt").touch()
    text = describe_run(Run(run))
    for command in ("train --resume", "evaluate", "predict", "export", "report", "publish"):
        assert f"rexnet {command} {shlex.quote(str(run))}" in text
    RunLock(run).finish()
    assert "--resume" not in describe_run(Run(run))


def test_other_folders_and_damaged_runs_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        find_run_folders(tmp_path)
    with pytest.raises(ConfigError, match=r"is not a run folder: it has no config\.yaml"):
        Run(tmp_path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.yaml").write_text("model: 3")
    (tmp_path / "bad" / "metrics.csv").write_text("a,b\n1,2\n")
    (tmp_path / "bad" / "state.json").write_text("{")
    (folder,) = find_run_folders(tmp_path)
    found = Run(folder)
    assert (found.total_epochs, found.epochs, found.state.state) == (None, 0, "unknown")
    line = describe_runs([found]).splitlines()[1]
    assert "has no readable state.json; config.yaml: 9 errors; metrics.csv: 1 of its 1 rows" in line


def test_a_trained_run_has_finished(trained_run: Path) -> None:
    run = Run(trained_run)
    assert (run.state.state, run.epochs, run.total_epochs) == ("finished", 2, 2)
    assert run.state.seconds > 0
    assert run.best_top1 is not None
