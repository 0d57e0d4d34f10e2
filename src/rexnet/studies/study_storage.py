"""Optuna studies in a database: several processes or machines share a study, and a killed one loses no trial."""

import json
import logging
import random
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from rexnet.errors import ConfigError, first_sentence

HEARTBEAT_S = 20
SILENT_HEARTBEATS = 4
"""A running trial that has missed so many heartbeats was killed, and is queued again."""
OPENING_ATTEMPTS = 10
BUSY_TIMEOUT_S = 60
"""Time that SQLite waits for another process to finish writing."""

log = logging.getLogger(__name__)


def open_study(
    url: str,
    name: str,
    settings: Mapping[str, object],
    make_sampler: Callable[[int], BaseSampler],
    seed: int = 0,
    heartbeat_s: int = HEARTBEAT_S,
) -> optuna.Study:
    """Creates a study that maximizes one value, or continues the study of that name if it has the same settings.

    Args:
        url: Database in SQLAlchemy's form: `sqlite:///FILE`, `postgresql://USER@HOST/NAME`.
        name: Name of the study in the database.
        settings: JSON values on which the results depend.
        make_sampler: Makes the sampler of one trial from a seed.
        seed: Together with its number, determines the seed of each trial, in whichever process it runs.
        heartbeat_s: Seconds between the signs of life of a running trial.

    Raises:
        ConfigError: the database cannot be used, or its study has other settings.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)
    with storage_errors(_without_password(url), ImportError, RuntimeError):
        place, options = make_url(url), dict[str, Any]()
        if place.get_backend_name() == "sqlite":
            options = {"connect_args": {"timeout": BUSY_TIMEOUT_S}}
            Path(place.database or "").parent.mkdir(parents=True, exist_ok=True)
        storage = _open_storage(url, options, heartbeat_s)
        sampler = _TrialSeededSampler(make_sampler, seed)
        study = optuna.create_study(
            storage=storage, sampler=sampler, study_name=name, direction="maximize", load_if_exists=True
        )
        wanted = json.loads(json.dumps({**settings, "seed": seed}))
        if "settings" not in study.user_attrs:
            study.set_user_attr("settings", wanted)
        found = study.user_attrs["settings"]
    differing = [key for key in found | wanted if found.get(key) != wanted.get(key)]
    if differing:
        theirs, ours = (", ".join(f"{key}={each.get(key)}" for key in differing) for each in (found, wanted))
        raise ConfigError(
            f"{_without_password(url)}: the study {name} in it has {theirs}, not {ours}; "
            "continue it with its own settings, or begin another one elsewhere"
        )
    return study


def _open_storage(url: str, options: dict[str, Any], heartbeat_s: int) -> RDBStorage:
    """Opens a database and creates its tables, also if other processes do so at the same moment."""
    for attempt in reversed(range(OPENING_ATTEMPTS)):
        try:
            return RDBStorage(
                url,
                options,
                heartbeat_interval=heartbeat_s,
                grace_period=heartbeat_s * SILENT_HEARTBEATS,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
        except (DatabaseError, StorageInternalError) as error:
            if not attempt or not re.search("already exists|UNIQUE|duplicate", f"{error} {error.__cause__}"):
                raise
            time.sleep(random.uniform(0.2, 1.0))
    raise AssertionError("the last attempt returns or raises")


def run_trials(
    study: optuna.Study,
    objective: Callable[[Trial], float],
    trials: int,
    counted: tuple[TrialState, ...] = (TrialState.COMPLETE,),
) -> None:
    """Runs trials until the study has `trials` of them, counting those of other processes.

    A trial that was killed or raised an error is queued again with the same parameters. If all missing trials run in
    other processes, waits for them, or for the end of their heartbeats.

    Args:
        study: A study of `open_study`.
        objective: Returns the value of a trial, or raises `optuna.TrialPruned` to leave it out.
        trials: Number of trials that the study has in the end.
        counted: States of the trials that are counted.

    Raises:
        ConfigError: the database cannot be used any more, because the disk is full for instance.
    """
    number = -1

    def attempt(trial: Trial) -> float:
        nonlocal number
        number = trial.number
        earlier = (each for each in study.get_trials(deepcopy=False) if each.number < number)
        if sum(each.state in (*counted, TrialState.RUNNING) for each in earlier) >= trials:
            raise _SurplusError  # another process started the last trial at the same moment
        return objective(trial)

    with storage_errors(study.study_name):
        waiting = False
        while (missing := trials - len(study.get_trials(deepcopy=False, states=counted))) > 0:
            optuna.storages.fail_stale_trials(study)
            running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if len(running) >= missing:
                if not waiting:
                    log.info("Waiting for %d trials that other processes run, or ran when they were killed", missing)
                waiting = True
                time.sleep(1)
                continue
            try:
                study.optimize(attempt, n_trials=1, catch=(_SurplusError,))
            except BaseException:
                _requeue(study, number)
                raise


class _SurplusError(Exception):
    """The study has enough trials without this one."""


def _requeue(study: optuna.Study, number: int) -> None:
    """Queues a failed trial again, unless another process has."""
    trials = study.get_trials(deepcopy=False)
    retried = {each for trial in trials for each in trial.system_attrs.get("retry_history", ())}
    for trial in trials:
        if trial.number == number and trial.state == TrialState.FAIL and number not in retried:
            RetryHeartbeatStaleTrialCallback()(study, trial)


class _TrialSeededSampler(BaseSampler):
    """Samples each trial with a sampler of its own, seeded by the number of the trial.

    With one sampler for all trials, processes with the same seed would try the same parameters, and so would a study
    that is continued.
    """

    def __init__(self, make_sampler: Callable[[int], BaseSampler], seed: int) -> None:
        self.make_sampler, self.seed = make_sampler, seed
        self.sampler = make_sampler(seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Begins a trial."""
        self.sampler = self.make_sampler((self.seed * 1_000_003 + trial.number) % 2**32)
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Samples the parameters that depend on each other."""
        return self.sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Samples one parameter."""
        return self.sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Lets the sampler record constraints."""
        self.sampler.after_trial(study, trial, state, values)


@contextmanager
def storage_errors(where: str, *more: type[Exception]) -> Iterator[None]:
    """Turns the errors of a database, and those of the types `more`, into one sentence.

    Raises:
        ConfigError: the database `where`, or that of the study `where`, cannot be used.
    """
    types: tuple[type[Exception], ...] = (SQLAlchemyError, StorageInternalError, *more)
    try:
        yield
    except types as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        reason = first_sentence(getattr(cause, "orig", None) or cause)
        raise ConfigError(f"{where}: the database cannot be used: {reason}") from None


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return url
