"""Builds the loggers of a run: TensorBoard always, and more of Lightning's as configured."""

import functools
import logging
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from rexnet.config import RunConfig
from rexnet.config.differences import flatten
from rexnet.errors import ConfigError, first_sentence

log = logging.getLogger(__name__)


def require_loggers(kinds: Sequence[str]) -> None:
    """Raises a ConfigError if the package of a configured logger is not installed."""
    for kind in kinds:
        if kind != "csv" and find_spec(kind) is None:
            raise ConfigError(f"trainer.loggers: {kind} is not installed; run `pip install 'rexnet-lightning[{kind}]'`")


def build_loggers(config: RunConfig, folder: Path, purge_step: int) -> list[Logger]:
    """Builds the loggers of a run folder.

    W&B and MLflow get the recipe, and name the run after its folder. Their variables `WANDB_PROJECT`, `WANDB_MODE`,
    `MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME` apply as usual. TensorBoard drops what it has from `purge_step`.
    """
    loggers: list[Logger] = [
        TensorBoardLogger(folder.parent, name="", version=folder.name, default_hp_metric=False, purge_step=purge_step)
    ]
    for kind in config.trainer.loggers:
        if kind == "csv":
            loggers.append(CSVLogger(folder, name="csv", version=f"from_step_{purge_step}"))
            continue
        try:
            logger = _build_tracker(kind, config.name, folder)
            rank_zero_only(logger.log_hyperparams)(flatten(config))
        except Exception as error:  # of a library, or of the server that it speaks to
            hint = {"wandb": "wandb login, or WANDB_MODE=offline, may help", "mlflow": "see MLFLOW_TRACKING_URI"}[kind]
            raise ConfigError(f"trainer.loggers: {kind} does not start: {first_sentence(error)}; {hint}") from None
        for method in ("log_metrics", "finalize"):
            setattr(logger, method, functools.partial(_call, logger, kind, getattr(logger, method)))
        loggers.append(logger)
    return loggers


def close_loggers(loggers: Sequence[Logger], error: BaseException | None) -> None:
    """Ends the W&B run of this process, which Lightning leaves open."""
    for logger in (logger for logger in loggers if isinstance(logger, WandbLogger)):
        try:
            logger.experiment.finish(exit_code=int(error is not None))
        except Exception as fault:  # of a library, or of the server that it speaks to
            log.warning(f"trainer.loggers: the end of the run was not logged: {first_sentence(fault)}")


def _build_tracker(kind: str, name: str, folder: Path) -> Logger:
    if kind == "wandb":
        return WandbLogger(name=folder.name, save_dir=folder, project=os.environ.get("WANDB_PROJECT") or name)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    runs, server = folder.parent.resolve(), os.environ.get("MLFLOW_TRACKING_URI")
    return MLFlowLogger(
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME") or name,
        run_name=folder.name,
        tracking_uri=server or f"sqlite:///{runs / 'mlflow.db'}",
        artifact_location=None if server else str(runs / "mlruns"),
    )


def _call(logger: Logger, kind: str, method: Callable[..., object], *arguments: Any, **options: Any) -> None:
    """Calls a method of a tracker, and disables the tracker after its first failure: training continues without it."""
    try:
        method(*arguments, **options)
    except Exception as error:  # of a library, or of the server that it speaks to
        logger.log_metrics = logger.finalize = lambda *_, **__: None  # type: ignore[method-assign,assignment]
        log.warning(
            f"trainer.loggers: {kind} is lost: {first_sentence(error)}; training continues without it, and metrics.csv "
            f"and TensorBoard have all metrics"
        )
