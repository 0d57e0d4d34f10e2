"""Tests of studies in a database."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import Trial, TrialState

from rexnet.errors import ConfigError
from rexnet.studies.study_storage import open_study, run_trials

WORKER = """
import sys, time
from optuna.samplers import RandomSampler
from rexnet.studies.study_storage import open_study, run_trials

def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    time.sleep(float(sys.argv[2]))
    print("half done", flush=True)
    time.sleep(float(sys.argv[2]))
    return x

study = open_study(sys.argv[1], "s", {"epochs": 3}, RandomSampler, seed=7, heartbeat_s=1)
run_trials(study, objective, int(sys.argv[3]))
"""


def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/new/study.db"


def draw(url: str, seed: int = 7) -> optuna.Study:
    return open_study(url, "s", {"epochs": 3}, optuna.samplers.RandomSampler, seed)


def objective(trial: Trial) -> float:
    return trial.suggest_float("x", 0, 1)


def worker(url: str, seconds: float, trials: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, url, str(seconds), str(trials)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def values(study: optuna.Study) -> list[float]:
    return [trial.value for trial in study.get_trials(states=(TrialState.COMPLETE,)) if trial.value is not None]


def test_a_continued_study_samples_what_one_process_would_have(tmp_path: Path) -> None:
    whole = draw(database(tmp_path / "a"))
    run_trials(whole, objective, 5)
    for trials in (2, 5, 4):
        parts = draw(database(tmp_path / "b"))
        run_trials(parts, objective, trials)
    assert values(parts) == values(whole)
    assert len(set(values(whole))) == 5
    other = draw(database(tmp_path / "c"), seed=8)
    run_trials(other, objective, 5)
    assert not set(values(other)) & set(values(whole))


def test_processes_share_a_study_and_a_killed_one_loses_and_doubles_no_trial(tmp_path: Path) -> None:
    url = database(tmp_path)
    with worker(url, 0.5, 6) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "half done\n"
        os.kill(killed.pid, signal.SIGKILL)
    with worker(url, 0.1, 6) as one, worker(url, 0.1, 6) as other:
        assert [one.wait(60), other.wait(60)] == [0, 0]
    study = draw(url)
    [lost] = [trial for trial in study.trials if trial.params and trial.state == TrialState.FAIL]
    done = study.get_trials(states=(TrialState.COMPLETE,))
    assert lost.number == 0
    assert [trial.params for trial in done].count(lost.params) == 1
    assert len(done) == len(set(values(study))) == 6


def test_a_trial_that_raises_is_run_again_and_one_that_is_left_out_is_not(tmp_path: Path) -> None:
    study = draw(database(tmp_path))
    tried: list[float] = []

    def fails_second(trial: Trial) -> float:
        x = objective(trial)
        tried.append(x)
        if trial.number == 0:
            raise optuna.TrialPruned
        if trial.number == 1:
            raise KeyboardInterrupt
        return x

    with pytest.raises(KeyboardInterrupt):
        run_trials(study, fails_second, 3)
    run_trials(study, fails_second, 3)
    assert len(values(study)) == 3
    assert values(study)[0] == tried[2] == tried[1]
    assert tried[0] not in values(study)


def test_other_settings_and_unusable_databases_are_one_sentence(tmp_path: Path) -> None:
    url = database(tmp_path)
    draw(url)
    with pytest.raises(ConfigError, match=r"study.db: the study s in it has epochs=3, not epochs=5; continue it with"):
        open_study(url, "s", {"epochs": 5}, optuna.samplers.RandomSampler, 7)
    with pytest.raises(ConfigError, match="has seed=7, not seed=8"):
        draw(url, seed=8)
    with pytest.raises(ConfigError, match=r"^nowhere: is not the URL of a database, such as sqlite:///"):
        draw("nowhere")
    with pytest.raises(ConfigError, match=r"^oracle://me:\*\*\*@host/x: the database cannot be used: "):
        draw("oracle://me:secret@host/x")
    (tmp_path / "text.db").write_text("no database, but text that is longer than the header of a database" * 20)
    with pytest.raises(ConfigError, match=r"text\.db: the database cannot be used: DatabaseError: file is not a da"):
        draw(f"sqlite:///{tmp_path}/text.db")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # that of the heartbeats
def test_a_database_that_fails_later_is_one_sentence(tmp_path: Path) -> None:
    study = draw(database(tmp_path))
    path = tmp_path / "new" / "study.db"

    def fills_the_disk(trial: Trial) -> float:
        path.write_text("x" * 1000)
        time.sleep(0.01)
        return objective(trial)

    with pytest.raises(ConfigError, match=r"^s: the database cannot be used: "):
        run_trials(study, fills_the_disk, 1)
