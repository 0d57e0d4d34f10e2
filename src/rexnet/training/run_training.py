"""Runs a training: run folder, callbacks, loggers, resume, and a tidy end whatever ends it."""

import contextlib
import logging
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from rexnet.data.workers import explained_faults
from rexnet.errors import ConfigError, ProcessError
from rexnet.models.padding import true_shapes
from rexnet.runs.checkpoint_files import best_first
from rexnet.runs.run_folder import close_run, describe_run, open_run
from rexnet.runs.state import RunLock
from rexnet.system.launcher import started_by_launcher
from rexnet.system.lightning_internals import disable_signal_handlers
from rexnet.training.callbacks import build_callbacks
from rexnet.training.loggers import build_loggers, close_loggers, require_loggers
from rexnet.training.resume import ChangedRecipe, Resumed, repair_run, require_resumable
from rexnet.training.signals import end_other_processes, end_with_parent
from rexnet.training.training_module import TrainingModule

log = logging.getLogger(__name__)

LOST_PEER = re.compile(r"[Cc]onnection (reset|closed|refused)|NCCL|[Bb]roken pipe")  # words of gloo and NCCL


class TrainingResult(NamedTuple):
    """The outcome of a training; `metrics` are those of the last validation, and the best value as `best_NAME`."""

    metrics: dict[str, float]
    run: Path
    best_checkpoint: Path | None
    step: int

    def log_best(self, module: TrainingModule, heading: str, unit: str, remark: str = "") -> None:
        """Logs the best value of the first metric, a remark in lines of its own, and what to do next."""
        best = self.metrics.get(f"best_{module.metric_names[0]}")
        if self.best_checkpoint is None or best is None:
            return
        weights = "EMA" if module.ema_model is not None else "raw weights"
        log.info(
            f"\n{heading} {best:.2f}{unit}  ({weights}, {self.best_checkpoint.name})\n{remark}"
            f"Results      {self.run}\n"
            f"Evaluate     rexnet evaluate {self.run}\n"
            f"TensorBoard  tensorboard --logdir {self.run.parent}"
        )


def log_start(module: TrainingModule, trainer: pl.Trainer, name: str, images: str, remarks: Sequence[str]) -> None:
    """Logs what will be trained: the network's name, its size, its images in words, and remarks on them as warnings."""
    config = module.config
    hardware = torch.cuda.get_device_name() if trainer.strategy.root_device.type == "cuda" else "CPU"
    sizes = f"{', '.join(map(str, dict.fromkeys(config.training_sizes)))} px"
    if set(config.training_sizes) != {config.data.image_size}:
        sizes += f" (validation {config.data.image_size} px)"
    parameters = sum(shape.numel() for _, shape in true_shapes(module.model)) / 1e6
    log.info(
        f"{name}, {parameters:.2f} M parameters, {sizes}, {trainer.precision} on "
        f"{trainer.world_size} x {hardware}\n{images}\n"
        f"{config.schedule.total_epochs} epochs of {module.steps_per_epoch} steps with {config.data.step_images} images"
    )
    if config.optimizer.sam_rho is not None:
        log.info("SAM (optimizer.sam_rho) computes each gradient twice, so a step takes about twice as long")
    for remark in remarks:
        log.warning(remark)


def run_training(
    module: TrainingModule,
    data: pl.LightningDataModule,
    trainer: pl.Trainer,
    resumed: Resumed | None = None,
    allowed: Collection[str] = (),
    record_data: Callable[[Path], None] | None = None,
    pictures: Sequence[Callback] = (),
) -> TrainingResult:
    """Trains a module of any task in a run folder of its own, or in that of the run to resume.

    Args:
        module: the network in training, with the config.
        data: besides Lightning's interface it has `datasets` (those that loaders read), `received` (arrival time of the
            latest batch) and `paths_of_step(epoch, batch)`.
        trainer: from `build_trainer`.
        resumed: the checkpoint to continue from.
        allowed: keys of the recipe that may differ from those of that checkpoint.
        record_data: writes into the run folder what its labels and sample positions refer to.
        pictures: callbacks that draw for TensorBoard.

    Raises:
        Stopped: a signal ended the run after a checkpoint was saved.
        RexnetError: the config, the checkpoint, the data or the training itself is at fault.
    """
    config = module.config
    require_loggers(config.trainer.loggers)
    if resumed is not None:
        require_resumable(resumed, module, allowed)
    lock: RunLock | None = None
    try:
        folder = _agree_on_start(trainer, resumed.folder if resumed is not None else open_run(config), resumed)
        lock = RunLock(folder, trainer.is_global_zero)
        if resumed is None and trainer.is_global_zero:
            describe_run(folder, config)
        trainer.callbacks[:0] = build_callbacks(module, folder, pictures)  # type: ignore[attr-defined]
        if resumed is not None:
            trainer.callbacks.append(ChangedRecipe(resumed.config))  # type: ignore[attr-defined]
            if trainer.is_global_zero:
                repair_run(resumed, module)
        if record_data is not None and trainer.is_global_zero:
            record_data(folder)
        # What was logged after the checkpoint, or by a start without one, will be logged again; TensorBoard drops it.
        trainer.loggers = build_loggers(config, folder, 0 if resumed is None else resumed.step + 1)
        log.info(f"Run folder {folder}")
        disable_signal_handlers(trainer)  # `GracefulStop` handles them
        datasets = data.datasets  # type: ignore[attr-defined]
        with explained_faults(datasets, config.data.worker_timeout), explained_failures(trainer):
            trainer.fit(module, datamodule=data, ckpt_path=resumed and resumed.checkpoint, weights_only=True)
        end_with_parent(trainer, together=False)
        trainer.strategy.barrier()  # before process 0 may end
        lock.finish()
    except BaseException as error:
        if lock is not None:
            lock.fail(error)
        end_other_processes(trainer, error)
        close_loggers(trainer.loggers, error)
        if trainer.world_size > 1 and isinstance(error, RuntimeError) and LOST_PEER.search(str(error)):
            raise ProcessError("another process of this run ended first; its message is above") from None
        raise
    finally:
        close_run()
    close_loggers(trainer.loggers, None)
    callback: Any = trainer.checkpoint_callback
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if callback.best_model_score is not None:
        metrics[f"best_{module.monitored.partition('/')[2]}"] = float(callback.best_model_score)
    kept = best_first(folder)  # among equals the later one, as in evaluation
    best = kept[0] if kept else Path(callback.best_model_path) if callback.best_model_path else None
    return TrainingResult(metrics, folder, best, trainer.global_step)


def _agree_on_start(trainer: pl.Trainer, folder: Path, resumed: Resumed | None) -> Path:
    """Returns the run folder of rank 0, whose clock may differ.

    Raises:
        ProcessError: this process resumes from another step than rank 0, because a shared file system lags behind.
    """
    if started_by_launcher():
        trainer.strategy.setup_environment()  # connects the processes; `fit` will find them connected
    mine = resumed.step if resumed is not None else 0
    folder, first = trainer.strategy.broadcast((folder, mine))
    if mine != first:
        raise ProcessError(
            f"{folder}: process {trainer.global_rank} resumes after step {mine}, but process 0 after step {first}; "
            f"start again once the file system shows the same files on all nodes"
        )
    return folder


@contextlib.contextmanager
def explained_failures(trainer: pl.Trainer) -> Iterator[None]:
    """Turns a lack of GPU memory or of a compiler into a ConfigError that names the remedy."""
    try:
        yield
    except torch.OutOfMemoryError:
        number = trainer.accumulate_grad_batches
        raise ConfigError(
            f"trainer.accumulate: process {trainer.global_rank} ran out of GPU memory after step {trainer.global_step} "
            f"with {number} micro-batches a step; set trainer.accumulate={2 * number}, and to resume at the end of an "
            f"epoch add --allow-change trainer.accumulate"
        ) from None
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = " ".join(str(error).partition("\n\n")[0].split())
        raise ConfigError(f"trainer.compile: {reason}; set trainer.compile=false to train without it") from error
