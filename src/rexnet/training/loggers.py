"""Where a run's numbers go: TensorBoard always, and Lightning's other loggers as configured."""

from importlib.util import find_spec
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from rexnet.config import Config
from rexnet.errors import ConfigError


def require_loggers(config: Config) -> None:
    """Checks, before anything is made, that the packages of the configured loggers are there.

    Raises:
        ConfigError: one is not installed.
    """
    for name in config.trainer.loggers:
        if name != "csv" and find_spec(name) is None:
            raise ConfigError(f"trainer.loggers: {name} is not installed; `pip install {name}` brings it")


def build_loggers(config: Config, folder: Path, purge_step: int | None) -> list[Logger]:
    """The loggers of a run folder; TensorBoard forgets what it has from `purge_step` on."""
    loggers: list[Logger] = [
        TensorBoardLogger(folder.parent, name="", version=folder.name, default_hp_metric=False, purge_step=purge_step)
    ]
    for kind in config.trainer.loggers:
        match kind:
            case "csv":
                loggers.append(CSVLogger(folder, name="csv", version=f"from_step_{purge_step or 0}"))
            case "wandb":
                name = folder.name
                loggers.append(WandbLogger(name=name, id=name, save_dir=folder, project=config.name, resume="allow"))
            case "mlflow":
                uri = f"file:{folder.parent.resolve() / 'mlruns'}"
                loggers.append(MLFlowLogger(experiment_name=config.name, run_name=folder.name, tracking_uri=uri))
    return loggers
