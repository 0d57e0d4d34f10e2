"""Sweeps over configuration keys: each trial is a run of `rexnet train`, or one run per seed."""

import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from filelock import FileLock
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from rexnet.config.differences import recipe_of
from rexnet.data.datasets import load_index
from rexnet.errors import ConfigError
from rexnet.metrics.statistics import mean_and_deviation
from rexnet.runs.run import Run
from rexnet.runs.state import read_state
from rexnet.studies.study_figure import study_figure
from rexnet.studies.study_storage import open_study
from rexnet.studies.sweep_space import Distribution, Space, write_values
from rexnet.system.child_process import FORWARDED, run_forwarding

SAMPLERS = {"tpe": TPESampler, "random": RandomSampler, "grid": RandomSampler}
TRIED = (TrialState.COMPLETE, TrialState.PRUNED)  # failed trials are marked as pruned
SAME_FAILURES = 3


class Sweep(NamedTuple):
    """Everything that determines the trials of a sweep."""

    config: str  # path or name of the YAML file
    space: Space
    folder: Path
    seeds: int = 1  # runs per trial; their mean is the result

    def runs(self, trial: FrozenTrial) -> list[Path]:
        """Returns the run folders of a trial, one per seed; a resumed trial has a new number but keeps its folders."""
        name = self.folder / f"trial-{trial.system_attrs.get('failed_trial', trial.number):03d}"
        first = self.space.config.seed
        return [name] if self.seeds == 1 else [Path(f"{name}-seed{first + each}") for each in range(self.seeds)]

    def arguments(self, values: Mapping[str, Any]) -> list[str]:
        """Returns the arguments of the `rexnet` command that trains with sampled values."""
        return ["train", "--config", self.config, *self.space.fixed, *self.space.overrides(values)]


def open_sweep(sweep: Sweep, sampler: str, storage: str | None) -> optuna.Study:
    """Creates the study of a sweep, or opens the study that another process has created.

    `storage` is a database URL of SQLAlchemy; None: `sweep.db` in the folder of the sweep.

    Raises:
        RexnetError: the images are missing, the database cannot be used, or the sweep was started with other settings.
    """
    config = sweep.space.config
    load_index(config.data, "train")  # missing images would fail in every trial
    settings = {**recipe_of(config), "seeds": sweep.seeds}
    settings |= {key: write_values(each) for key, each in sweep.space.distributions.items()}
    url = storage or f"sqlite:///{sweep.folder.resolve()}/sweep.db"
    study = open_study(url, sweep.folder.name, settings, SAMPLERS[sampler], config.seed)
    if sampler == "grid":
        sweep.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(sweep.folder / ".grid.lock"):
            for values in sweep.space.grid():
                study.enqueue_trial(values, skip_if_exists=True)
    return study


def run_trial(trial: Trial, sweep: Sweep) -> float:
    """Trains the unfinished runs of a trial, and returns the mean of the best top-1 of all its runs.

    Raises:
        TrialPruned: a run failed.
        ConfigError: the first trials all failed in the same way.
        KeyboardInterrupt: a signal stopped a training.
    """
    values = {key: _suggest(trial, key, each) for key, each in sweep.space.distributions.items()}
    runs = sweep.runs(trial.study.get_trials(deepcopy=False)[trial.number])
    print(f"\n{runs[0].name}: {' '.join(sweep.space.overrides(values))}", flush=True)
    for seed, run in enumerate(runs, start=sweep.space.config.seed):
        own = [f"trainer.runs_dir={sweep.folder}", f"trainer.run_name={run.name}"]
        own += [f"seed={seed}"] if sweep.seeds > 1 else []
        error = _train(run, [*sweep.arguments(values), *own])
        trial.set_user_attr("seconds", sum(read_state(run).seconds for run in runs))
        if error:
            _stop_if_all_fail(trial, error)
            raise optuna.TrialPruned
    top1 = [best[1] for run in runs if (best := Run(run).best_top1)]
    trial.set_user_attr("top1", top1)
    return mean_and_deviation(top1)[0]


def _train(run: Path, arguments: Sequence[str]) -> str:
    """Starts or resumes a run, and returns the reason if it failed, otherwise an empty string."""
    while read_state(run).state == "running":  # the training outlived the sweep that started it
        time.sleep(1)
    if read_state(run).state != "finished":
        code = run_forwarding([sys.executable, sys.argv[0], *arguments])
        if (code < 0 or code > 128) and abs(code) % 128 in FORWARDED:
            raise KeyboardInterrupt
        state = read_state(run)
        if code:
            return state.detail if state.state == "failed" else f"exit code {code} before the first step"
    return "" if Run(run).best_top1 else "there was no validation"


def _stop_if_all_fail(trial: Trial, error: str) -> None:
    """Stores the reason of a failure, and stops the sweep if all of its first trials failed for the same reason."""
    trial.set_user_attr("error", error)
    errors = [each.user_attrs.get("error", "") for each in trial.study.get_trials(deepcopy=False, states=TRIED)]
    if len(errors) >= SAME_FAILURES - 1 and len({re.sub(r"[\d.]+", "N", each) for each in (*errors, error)}) == 1:
        raise ConfigError(f"the first {SAME_FAILURES} trials failed in the same way: {error}")


def _suggest(trial: Trial, key: str, distribution: Distribution) -> Any:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(key, choices)
        case FloatDistribution(low=low, high=high, log=log):
            return trial.suggest_float(key, low, high, log=log)
        case IntDistribution(low=low, high=high, log=log):
            return trial.suggest_int(key, low, high, log=log)


def draw_sweep(space: Space, trials: Sequence[FrozenTrial], path: Path) -> None:
    """Plots top-1 over the values of each key, as PNG and SVG."""
    top1 = [trial.value for trial in trials]
    with study_figure(path, 2.6 * len(space.distributions) + 0.4, 2.7) as figure:
        plots = figure.subplots(1, len(space.distributions), sharey=True, squeeze=False)[0]
        for axes, (key, distribution) in zip(plots, space.distributions.items(), strict=True):
            if isinstance(distribution, CategoricalDistribution):
                axes.scatter([distribution.choices.index(trial.params[key]) for trial in trials], top1, s=14)
                axes.set_xticks(range(len(distribution.choices)), distribution.choices)
            else:
                axes.scatter([trial.params[key] for trial in trials], top1, s=14)
                axes.set_xscale("log" if distribution.log else "linear")
            axes.set_xlabel(key)
        plots[0].set_ylabel("top-1 in %")
