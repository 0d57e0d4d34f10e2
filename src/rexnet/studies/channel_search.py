"""The paper's search for channel widths (Figure 2, Table 3): random candidates under a budget, trained briefly."""

import logging
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from rexnet.errors import ConfigError
from rexnet.models.rexnet import ACTIVATIONS
from rexnet.studies.brief_training import DataName, Recipe, load_images, train_briefly
from rexnet.studies.candidates import (
    SETTINGS,
    Budget,
    Widths,
    count_candidate,
    linear_rule,
    plan_candidate,
    suggest_widths,
)
from rexnet.studies.study_storage import open_study, run_trials
from rexnet.system.device import Device

FILL = 0.9
"""Share of both limits that a candidate must use to be trained, because the paper compares networks of equal cost."""
REFERENCE_REPEATS = 3
"""Minimum number of trainings of each reference, whose deviation shows the noise of a single training."""
CANDIDATE = "candidate"
SamplerName = Literal["random", "tpe"]
SAMPLERS: dict[SamplerName, Callable[..., BaseSampler]] = {"random": RandomSampler, "tpe": TPESampler}
"""TPE learns which candidates fill the budget and which of them are accurate."""

log = logging.getLogger(__name__)


class SearchSettings(NamedTuple):
    """Everything on which the results of a search depend."""

    setting: Literal["a", "b", "c", "d"]
    budget: Budget
    data: DataName
    images: int | None
    """Training images; None: all."""
    recipe: Recipe
    repeats: int
    sampler: SamplerName
    seed: int


class Trained(NamedTuple):
    """A trained network."""

    name: str
    """`candidate`, or the name of a reference."""
    widths: Widths
    cost: Budget
    accuracies: tuple[float, ...]
    """Accuracy of each repeat in percent."""
    nuclear_norm: float
    """Mean over the repeats."""
    seconds: float

    @property
    def accuracy(self) -> float:
        """Mean over the repeats."""
        return statistics.fmean(self.accuracies)


def search_channels(settings: SearchSettings, root: Path, url: str, trials: int, device: Device) -> list[Trained]:
    """Trains networks until the study has `trials` of them, and returns all, sorted by descending accuracy.

    The references are trained first: the linear rule and, with the default budget of the setting, the paper's best and
    worst network.

    Raises:
        ConfigError: the budget or the recipe is invalid, or the database cannot be used or has other settings.
        DataError: the data set is missing or damaged.
    """
    setting = SETTINGS[settings.setting]
    references = {"linear rule": linear_rule(setting, settings.budget)}
    if settings.budget == setting.budget:
        references = {"paper's best": setting.best, "paper's worst": setting.worst, **references}
    train, test, classes = load_images(settings.data, root, settings.images, device.torch_device)
    if not 0 < settings.recipe.lr < math.inf or settings.recipe.activation not in ACTIVATIONS:
        raise ConfigError(f"--lr: should be above 0, and --activation one of {', '.join(ACTIVATIONS)}")
    if settings.recipe.batch_size > len(train.labels):
        raise ConfigError(f"--batch-size: should be at most {len(train.labels)}, the number of training images")
    if trials <= len(references):
        raise ConfigError(f"--trials: should be above {len(references)}, the number of references")
    sampler = SAMPLERS[settings.sampler]
    study = open_study(url, f"search-{settings.setting}", settings._asdict(), sampler, settings.seed)
    queued = {trial.user_attrs.get("reference") for trial in study.get_trials(deepcopy=False)}
    for name in (name for name in references if name not in queued):
        study.enqueue_trial({}, user_attrs={"reference": name})

    def objective(trial: Trial) -> float:
        name = trial.user_attrs.get("reference")
        widths = references[name] if name else suggest_widths(trial, setting, settings.budget)
        cost = count_candidate(setting, widths)
        shortfall = FILL - settings.budget.filled_by(cost)
        if "widths" not in trial.user_attrs:  # otherwise this resumes a trial that was killed
            trial.set_constraint("shortfall", shortfall)
        if (name is None and shortfall > 0) or _is_known(study, trial.number, widths):
            raise optuna.TrialPruned
        trial.set_user_attr("widths", widths)
        trial.set_user_attr("cost", cost)
        outcomes: list[list[float]] = trial.user_attrs.get("outcomes", [])  # those of a killed trial
        for repeat in range(len(outcomes), max(settings.repeats, REFERENCE_REPEATS) if name else settings.repeats):
            started, plan, seed = time.monotonic(), plan_candidate(setting, widths), settings.seed + repeat
            outcome = train_briefly(plan, settings.recipe, train, test, classes, device, seed)
            outcomes.append([*outcome, time.monotonic() - started])
            trial.set_user_attr("outcomes", outcomes)
        accuracy = statistics.fmean(outcome[0] for outcome in outcomes)
        log.info("%s  %s: %.2f %%", name or CANDIDATE, "-".join(map(str, widths)), accuracy)
        return accuracy

    run_trials(study, objective, trials)
    return sorted(map(_read, study.get_trials(states=(TrialState.COMPLETE,))), key=lambda each: -each.accuracy)


def _is_known(study: optuna.Study, number: int, widths: Widths) -> bool:
    """Returns True if an earlier trial has the same widths."""
    states = (TrialState.COMPLETE, TrialState.RUNNING)
    earlier = (trial for trial in study.get_trials(deepcopy=False, states=states) if trial.number < number)
    return any(trial.user_attrs.get("widths") == list(widths) for trial in earlier)


def _read(trial: FrozenTrial) -> Trained:
    attributes = trial.user_attrs
    accuracies, norms, seconds = zip(*attributes["outcomes"], strict=True)
    name, cost = attributes.get("reference", CANDIDATE), Budget(*attributes["cost"])
    return Trained(name, tuple(attributes["widths"]), cost, accuracies, statistics.fmean(norms), sum(seconds))
