"""Trains with Ray Train: Ray starts the processes and replaces lost ones; the run resumes from its own checkpoints."""

import logging
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import ray
import ray.train
from pytorch_lightning.callbacks import Callback
from ray.train.torch import TorchTrainer

from rexnet.config import Config
from rexnet.errors import ConfigError, ProcessError, RexnetError, first_sentence
from rexnet.runs.checkpoint_files import LAST, checkpoint_folder
from rexnet.system.device import resolve_device
from rexnet.system.launcher import check_launch_environment, is_rank_zero, mark_as_ray_worker
from rexnet.training.classification import train

log = logging.getLogger(__name__)


class Workers(NamedTuple):
    """Number of processes; Ray may start or continue the run with any number from `least` to `most`."""

    least: int
    most: int


class SaveOnPreemption(Callback):
    """Saves a checkpoint when Ray announces the loss of a node; training continues until the loss, as Ray expects."""

    def __init__(self, run_folder: Path) -> None:
        self.path = checkpoint_folder(run_folder) / LAST
        self._saved_for: Any = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        info = ray.train.get_preemption_info()  # a barrier, which gives all processes the same answer
        # `GracefulStop` explains why a run cannot save between micro-batches or at the end of an epoch.
        is_step = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if info is None or info == self._saved_for or not is_step or batch_idx + 1 == trainer.num_training_batches:
            return
        self._saved_for = info
        trainer.save_checkpoint(self.path, weights_only=False)
        log.info(f"Ray announces the loss of a node after step {trainer.global_step}; saved as {self.path}")


class EndOnUserError(ray.train.UserCallback):  # type: ignore[misc]
    """Ends the run on an error that would only repeat, such as a wrong config, instead of starting it again."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for error in worker_exceptions.values():
            if isinstance(error, RexnetError) and not isinstance(error, ProcessError):
                raise error


def train_on_ray(config: Config, workers: Workers, max_failures: int) -> Path:
    """Trains on the cluster of `RAY_ADDRESS` or, without one, on this machine, and returns the run folder.

    The current folder and `trainer.runs_dir` must be the same on all machines.

    Raises:
        ConfigError: the run has no name, which a restarted process needs to find its checkpoint.
        RexnetError: a process failed with this error.
        ProcessError: Ray gave up after `max_failures`.
    """
    if config.trainer.run_name is None:
        raise ConfigError("rexnet ray: add trainer.run_name=NAME; the same command then starts or resumes the run")
    ray.init(log_to_driver=True, logging_level=logging.WARNING)
    folder = config.trainer.runs_dir.absolute() / config.trainer.run_name
    settings = {"config": config, "workers": workers, "folder": os.getcwd()}
    failures = ray.train.FailureConfig(max_failures=max_failures)
    trainer = TorchTrainer(
        _train_in_worker,
        train_loop_config=settings,
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.most if workers.least == workers.most else tuple(workers),
            use_gpu=resolve_device(config.trainer).accelerator == "gpu",
        ),
        run_config=ray.train.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent / ".ray"),
            failure_config=failures,
            callbacks=[EndOnUserError()],
        ),
    )
    try:
        trainer.fit()
    except ray.train.ControllerError as error:
        if isinstance(error.controller_failure, RexnetError):
            raise error.controller_failure from None
        raise ProcessError(f"Ray Train failed: {first_sentence(error.controller_failure)}") from error
    except ray.train.TrainingFailedError as error:
        raise ProcessError(f"{folder}: Ray gave up after {max_failures + 1} failures; see the last above") from error
    finally:
        ray.shutdown()
    return folder


def _train_in_worker(settings: dict[str, Any]) -> None:
    """Trains as one process of the run, in a thread of a process that Ray started."""
    config, workers = settings["config"], settings["workers"]
    os.chdir(settings["folder"])  # Ray starts its processes in a folder of its own
    mark_as_ray_worker(*workers)
    check_launch_environment()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("rexnet").setLevel(logging.INFO if is_rank_zero() else logging.ERROR)
    train(config, callbacks=[SaveOnPreemption(config.trainer.runs_dir / config.trainer.run_name)])
