"""The paper's search for channel widths (Figure 2, Table 3): random candidates under a budget, trained briefly."""

import logging
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from rexnet.errors import ConfigError
from rexnet.models.rexnet import ACTIVATIONS
from rexnet.studies.brief_training import Recipe, train_briefly
from rexnet.studies.candidates import (
    SETTINGS,
    Budget,
    Widths,
    count_candidate,
    linear_rule,
    plan_candidate,
    suggest_widths,
)
from rexnet.studies.image_tensors import DataName, load_image_tensors
from rexnet.studies.study_storage import open_study, run_trials
from rexnet.system.device import Device

SamplerName = Literal["random", "tpe"]
FILL = 0.9
"""A candidate is trained if it uses this share of both limits: the paper compares networks of equal cost."""

REFERENCE_REPEATS = 3
CANDIDATE = "candidate"

log = logging.getLogger(__name__)


class SearchSettings(NamedTuple):
    """Everything that the results of a search depend on."""

    setting: Literal["a", "b", "c", "d"]
    budget: Budget
    data: DataName
    images: int | None
    """Training images; None: all."""
    recipe: Recipe
    repeats: int
    sampler: SamplerName
    seed: int


class Candidate(NamedTuple):
    """A trained candidate, as a row of the table."""

    name: str
    """`candidate`, or the name of a reference."""
    widths: Widths
    cost: Budget
    accuracies: tuple[float, ...]
    """In %, of each repeat."""
    nuclear_norm: float
    """Mean over the repeats."""
    seconds: float

    @property
    def accuracy(self) -> float:
        """Mean over the repeats."""
        return statistics.fmean(self.accuracies)


def search_channels(settings: SearchSettings, root: Path, url: str, trials: int, device: Device) -> list[Candidate]:
    """Trains candidates until the study has `trials` of them, and returns all, best first.

    The references come first: the paper's best and worst network, and the linear rule that fills the budget. They are
    trained with at least three seeds, which shows the noise of a single training.

    Raises:
        ConfigError: the budget or the recipe is impossible, or the database cannot be used or has other settings.
        DataError: the data set is missing or damaged.
    """
    setting = SETTINGS[settings.setting]
    references = {
        "paper's best": setting.best,
        "paper's worst": setting.worst,
        "linear rule": linear_rule(setting, settings.budget),
    }
    train, test, classes = load_image_tensors(settings.data, root)
    train, test = train.first(settings.images, device.torch_device), test.first(None, device.torch_device)
    _check_recipe(settings.recipe, len(train.labels))
    if trials <= len(references):
        raise ConfigError(f"--trials: should be more than the {len(references)} references, not {trials}")
    study = open_study(
        url, f"search-{settings.setting}", settings._asdict(), _make_sampler(settings.sampler), settings.seed
    )
    known = {trial.user_attrs.get("reference") for trial in study.get_trials(deepcopy=False)}
    for name in references.keys() - known:
        study.enqueue_trial({}, user_attrs={"reference": name})

    def objective(trial: Trial) -> float:
        name = trial.user_attrs.get("reference")
        widths = references[name] if name else suggest_widths(trial, setting, settings.budget)
        cost = count_candidate(setting, widths)
        trial.set_user_attr("shortfall", FILL - settings.budget.filled_by(cost))
        trial.set_user_attr("widths", widths)
        trial.set_user_attr("cost", cost)
        if (name is None and trial.user_attrs["shortfall"] > 0) or _is_repeated(study, trial):
            raise optuna.TrialPruned
        outcomes: list[list[float]] = trial.user_attrs.get("outcomes", [])  # those of a killed trial
        for repeat in range(len(outcomes), max(settings.repeats, REFERENCE_REPEATS) if name else settings.repeats):
            started = time.monotonic()
            plan = plan_candidate(setting, widths)
            outcome = train_briefly(plan, settings.recipe, train, test, classes, device, settings.seed + repeat)
            outcomes.append([*outcome, time.monotonic() - started])
            trial.set_user_attr("outcomes", outcomes)
        accuracy = statistics.fmean(each[0] for each in outcomes)
        log.info("%s  %s: %.2f %%", name or CANDIDATE, "-".join(map(str, widths)), accuracy)
        return accuracy

    run_trials(study, objective, trials)
    return sorted(map(_read, study.get_trials(states=(TrialState.COMPLETE,))), key=lambda each: -each.accuracy)


def _check_recipe(recipe: Recipe, images: int) -> None:
    """Checks the recipe before a study is bound to it."""
    if recipe.batch_size > images:
        raise ConfigError(f"--batch-size: {recipe.batch_size} is more than the {images} training images")
    if recipe.activation not in ACTIVATIONS or not 0 < recipe.lr < math.inf:
        raise ConfigError(f"--lr: should be above 0, and --activation one of {', '.join(ACTIVATIONS)}")


def _make_sampler(name: SamplerName) -> Callable[[int], BaseSampler]:
    """Returns the maker of a sampler; TPE learns which candidates fill the budget and which are accurate."""

    def shortfall(trial: FrozenTrial) -> tuple[float]:
        return (trial.user_attrs["shortfall"],)

    return RandomSampler if name == "random" else lambda seed: TPESampler(seed=seed, constraints_func=shortfall)


def _is_repeated(study: optuna.Study, trial: Trial) -> bool:
    """Returns True if an earlier trial has the same widths."""
    states = (TrialState.COMPLETE, TrialState.RUNNING)
    earlier = (each for each in study.get_trials(states=states) if each.number < trial.number)
    return any(each.user_attrs.get("widths") == list(trial.user_attrs["widths"]) for each in earlier)


def _read(trial: FrozenTrial) -> Candidate:
    known: dict[str, Any] = trial.user_attrs
    accuracies, norms, seconds = zip(*known["outcomes"], strict=True)
    cost = Budget(*known["cost"])
    name = known.get("reference", CANDIDATE)
    return Candidate(name, tuple(known["widths"]), cost, accuracies, statistics.fmean(norms), sum(seconds))
