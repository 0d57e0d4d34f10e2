"""Optuna studies in a database: several processes or machines share a study, and killed ones lose no trials."""

import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import Trial, TrialState
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from rexnet.errors import ConfigError, first_sentence

HEARTBEAT_S = 20
SILENT_HEARTBEATS = 4
"""Missed heartbeats after which a running trial is considered killed and queued again."""
SQLITE = {"connect_args": {"isolation_level": None, "timeout": 60}}
"""Turns off automatic transactions, so that each begins with a lock and waits up to 60 s for it. By default, SQLite
locks only on the first write, and two processes that read at the same time would both start the same trial."""


def open_study(
    url: str,
    name: str,
    settings: Mapping[str, object],
    make_sampler: Callable[..., BaseSampler],
    seed: int = 0,
    heartbeat_s: int = HEARTBEAT_S,
) -> optuna.Study:
    """Creates a study that maximizes one value, or opens the study of that name if it has the same settings.

    Args:
        url: Database URL of SQLAlchemy: `sqlite:///FILE`, `postgresql://USER@HOST/NAME`.
        name: Name of the study in the database.
        settings: JSON values on which the results depend.
        make_sampler: Class of the sampler; each trial gets a new one, seeded by `seed` and the number of the trial.
        seed: Seed of the study, which is also one of its settings.
        heartbeat_s: Seconds between the heartbeats of a running trial.

    Raises:
        ConfigError: the database cannot be used, or its study has other settings.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)
    try:
        place = make_url(url)
    except SQLAlchemyError:
        raise ConfigError(f"{url}: is not the URL of a database, such as sqlite:///studies/trials.db") from None
    is_file = place.drivername == "sqlite"
    with _storage_errors(f"{place!r}", ImportError, RuntimeError), ExitStack() as stack:  # repr hides the password
        if is_file:
            path = Path(place.database or "")
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path.with_name(f"{path.name}.lock")))  # several processes may create it
        storage = RDBStorage(
            url,
            SQLITE if is_file else None,
            heartbeat_interval=heartbeat_s,
            grace_period=heartbeat_s * SILENT_HEARTBEATS,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
        )
        if is_file:
            event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        sampler = make_sampler(seed=seed)
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
            f"{place!r}: the study {name} in it has {theirs}, not {ours}; "
            "continue it with its own settings, or begin another one elsewhere"
        )
    return study


def run_trials(
    study: optuna.Study,
    objective: Callable[[Trial], float],
    trials: int,
    counted: tuple[TrialState, ...] = (TrialState.COMPLETE,),
) -> None:
    """Runs trials until the study has `trials` of them in a state of `counted`, including those of other processes.

    A trial that was killed or raised an error is queued again with the same parameters. If all missing trials run in
    other processes, waits until they finish or their heartbeats stop. `objective` may raise `optuna.TrialPruned`.

    Raises:
        ConfigError: the database can no longer be used, for example because the disk is full.
    """
    number = -1
    make_sampler: Callable[..., BaseSampler] = type(study.sampler)
    seed: int = study.user_attrs["settings"]["seed"]

    def attempt(trial: Trial) -> float:
        nonlocal number
        number = trial.number
        # A sampler with a fixed seed would sample the same values in every process.
        study.sampler = make_sampler(seed=(seed * 1_000_003 + number) % 2**32)
        earlier = (each for each in study.get_trials(deepcopy=False) if each.number < number)
        if sum(each.state in (*counted, TrialState.RUNNING) for each in earlier) >= trials:
            raise _SurplusError  # another process started the last trial at the same moment
        return objective(trial)

    with _storage_errors(study.study_name):
        while (missing := trials - len(study.get_trials(deepcopy=False, states=counted))) > 0:
            optuna.storages.fail_stale_trials(study)
            if len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))) >= missing:
                time.sleep(1)
                continue
            try:
                study.optimize(attempt, n_trials=1, catch=(_SurplusError,))
            except BaseException:
                if number >= 0 and (failed := study.trials[number]).state == TrialState.FAIL:
                    RetryHeartbeatStaleTrialCallback()(study, failed)
                raise


class _SurplusError(Exception):
    """The study has enough trials without this one."""


@contextmanager
def _storage_errors(where: str, *more: type[Exception]) -> Iterator[None]:
    """Converts errors of the database at `where`, and those of the types `more`, to a ConfigError of one sentence."""
    types: tuple[type[Exception], ...] = (SQLAlchemyError, StorageInternalError, *more)
    try:
        yield
    except types as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        reason = first_sentence(getattr(cause, "orig", None) or cause)
        raise ConfigError(f"{where}: the database cannot be used: {reason}") from None
