"""Where a run's numbers go: TensorBoard always, and Lightning's other loggers as configured."""

import json
import logging
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from rexnet.config import Config
from rexnet.config.differences import flatten
from rexnet.errors import ConfigError, first_sentence
from rexnet.system.atomic_files import atomic_write
from rexnet.training.signals import Stopped

log = logging.getLogger(__name__)

MLFLOW_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # it would report each run to its makers
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # of its own 7, a run waits four minutes for a server that is down
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
TRACKED = "tracking.json"  # in a run folder: what W&B and MLflow call this run, so that a resumed one goes on there


def require_loggers(config: Config) -> None:
    """Checks, before anything is made, that the packages of the configured loggers are there.

    Raises:
        ConfigError: one is not installed.
    """
    for kind in config.trainer.loggers:
        needed = {"csv": [], "wandb": ["wandb"], "mlflow": ["mlflow"]}[kind]
        if kind == "mlflow" and "MLFLOW_TRACKING_URI" not in os.environ:
            needed = ["mlflow", "sqlalchemy"]  # mlflow-skinny has only what speaks to a server
        missing = [name for name in needed if find_spec(name) is None]
        if missing:
            raise ConfigError(
                f"trainer.loggers: {missing[0]} is not installed; `pip install 'rexnet-lightning[{kind}]'` brings it"
            )


def build_loggers(config: Config, folder: Path, purge_step: int | None) -> list[Logger]:
    """The loggers of a run folder; TensorBoard forgets what it has from `purge_step` on.

    W&B and MLflow are told the recipe, and go on with the run that they have of this folder. What their users set by
    `WANDB_PROJECT`, `WANDB_MODE`, `MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME` holds.

    Raises:
        ConfigError: W&B or MLflow does not begin or go on.
    """
    loggers: list[Logger] = [
        TensorBoardLogger(folder.parent, name="", version=folder.name, default_hp_metric=False, purge_step=purge_step)
    ]
    for kind in config.trainer.loggers:
        match kind:
            case "csv":
                loggers.append(CSVLogger(folder, name="csv", version=f"from_step_{purge_step or 0}"))
            case "wandb" | "mlflow":
                loggers.append(_open_tracker(kind, config, folder))
    return loggers


def close_loggers(loggers: Sequence[Logger], error: BaseException | None) -> None:
    """Ends what Lightning leaves open: W&B's run, of which a process has one, and MLflow's state of a stopped run."""
    for logger in loggers:
        try:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish(exit_code=int(error is not None))
            elif isinstance(logger, MLFlowLogger) and isinstance(error, Stopped):
                logger.experiment.set_terminated(logger.run_id, "KILLED")
        except Exception as fault:  # of a library, or of the server that it speaks to
            log.warning(f"trainer.loggers: the tracker was not told the end of the run: {first_sentence(fault)}")


def _open_tracker(kind: str, config: Config, folder: Path) -> Logger:
    """The logger of a tracker, which has begun its run or goes on with it."""
    ids = _read_ids(folder)
    try:
        logger = _build_tracker(kind, config, folder, ids.get(kind))
        _begin(logger, config, is_new=kind not in ids)
    except Exception as error:  # of a library, or of the server that it speaks to
        known = f" with run {ids[kind]} of {folder / TRACKED}" if kind in ids else ""
        hint = {"wandb": "wandb login, or WANDB_MODE=offline, may help", "mlflow": "see MLFLOW_TRACKING_URI"}[kind]
        raise ConfigError(f"trainer.loggers: {kind} does not start{known}: {first_sentence(error)}; {hint}") from None
    _write_ids(folder, {**ids, kind: str(logger.version)})
    _let_go_when_lost(logger, kind)
    return logger


def _let_go_when_lost(logger: Logger, kind: str) -> None:
    """Makes the first failure of a tracker a warning and the last that it is asked for, so that no run dies of it."""
    is_lost = False

    def guard(method: Callable[..., object]) -> Callable[..., None]:
        def tell(*arguments: Any, **options: Any) -> None:
            nonlocal is_lost
            if is_lost:
                return
            try:
                method(*arguments, **options)
            except Exception as error:  # of a library, or of the server that it speaks to
                is_lost = True
                log.warning(
                    f"trainer.loggers: {kind} is lost: {first_sentence(error)}; the run goes on without it, and "
                    f"metrics.csv and TensorBoard have all numbers"
                )

        return tell

    for name in ("log_metrics", "finalize"):
        setattr(logger, name, guard(getattr(logger, name)))


def _build_tracker(kind: str, config: Config, folder: Path, known: str | None) -> Logger:
    if kind == "wandb":
        project = os.environ.get("WANDB_PROJECT") or config.name
        return WandbLogger(name=folder.name, id=known or folder.name, save_dir=folder, project=project)
    for name, value in MLFLOW_SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # which tells each attempt
    return MLFlowLogger(
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.name,
        run_name=folder.name,
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.parent.resolve() / 'mlflow.db'}",
        artifact_location=None if "MLFLOW_TRACKING_URI" in os.environ else str(folder.parent.resolve() / "mlruns"),
        run_id=known,
    )


@rank_zero_only
def _begin(logger: Logger, config: Config, is_new: bool) -> None:
    """Connects, and hands over the recipe."""
    recipe = config.model_dump(mode="json")
    if isinstance(logger, WandbLogger):
        logger.log_hyperparams(recipe)
    elif is_new:
        logger.log_hyperparams(flatten(config))
    elif isinstance(logger, MLFlowLogger):  # which lets no parameter change
        logger.experiment.update_run(logger.run_id, "RUNNING")


def _read_ids(folder: Path) -> dict[str, str]:
    """What the trackers call a run; nothing where they do not know it.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / TRACKED
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(kind): str(name) for kind, name in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: cannot be read: {first_sentence(error)}") from None


@rank_zero_only
def _write_ids(folder: Path, ids: dict[str, str]) -> None:
    with atomic_write(folder / TRACKED) as temporary:
        temporary.write_text(json.dumps(ids, indent=2) + "\n", encoding="utf-8")
