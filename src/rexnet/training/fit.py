"""One run from configuration to metrics."""

import logging
import re
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.kubeflow import KubeflowEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import DDPStrategy

from rexnet.config import Config
from rexnet.data.datamodule import ImageData
from rexnet.data.keys import mix
from rexnet.data.workers import explained_faults
from rexnet.errors import ProcessError
from rexnet.models.factory import adopt_preprocessing, build_model
from rexnet.runs.checkpoint_files import best_first
from rexnet.runs.run_folder import close_run, open_run
from rexnet.runs.state import RunLock
from rexnet.system.device import (
    resolve_accelerator,
    resolve_devices,
    resolve_precision,
    set_up_arithmetic,
    use_channels_last,
)
from rexnet.system.launcher import check_process_count, detect_launcher
from rexnet.training.callbacks import build_callbacks
from rexnet.training.checkpoint_io import DurableCheckpointIO
from rexnet.training.loggers import build_loggers, close_loggers, require_loggers
from rexnet.training.module import Classifier
from rexnet.training.resume import ChangedRecipe, Resumed, repair_run, resume_from
from rexnet.training.signals import end_other_processes, end_with_parent, install_signal_handlers

log = logging.getLogger(__name__)

EXPECTED_WARNINGS = (
    r".*LeafSpec.* is deprecated",  # Lightning 2.6 with torch 2.15
    r".*does not have many workers",  # `data.num_workers` is chosen, not forgotten
    r".*smaller than the logging interval",  # the step log also writes at each epoch's end
    r"Detected call of `lr_scheduler.step\(\)` before",  # fp16 may skip the first step while it finds its scale
    r".*in eval mode at the start of training",  # the averaged network
    r"Checkpoint directory .* exists and is not empty",  # a resumed run goes on in its own folder
    r".*It is recommended to use `self.log",  # every process has the same numbers already
    r".*dataloader is not resumable",  # ours is: the sampler starts where the run stopped
)

LOST_PEER = re.compile(r"[Cc]onnection (reset|closed|refused)|NCCL|[Bb]roken pipe")  # words of gloo and NCCL


def fit(
    config: Config, resume: Path | None = None, callbacks: Sequence[Callback] = (), allowed: Collection[str] = ()
) -> dict[str, Any]:
    """Trains, and returns the last validation's metrics with the run folder and its best checkpoint.

    Where the weights come from, in this order: the checkpoint to resume, `model.pretrained`, random initialisation.

    Args:
        config: the run.
        resume: a run folder or checkpoint to go on from, in the same folder.
        callbacks: more of Lightning's callbacks.
        allowed: keys of the recipe that may differ from those of the run to go on with.

    Raises:
        Stopped: a signal ended the run after a checkpoint was saved.
        RexnetError: the configuration, the data, a weight file or the training itself is at fault; said in one line.
    """
    quieten_lightning()
    config = adopt_preprocessing(config)
    trainer = build_trainer(config, callbacks)
    install_signal_handlers(trainer)
    end_with_parent(trainer)
    data = ImageData(config, trainer.world_size)
    module = build_classifier(config, data.class_names, data.steps_per_epoch, pretrained=resume is None)
    resumed = resume_from(resume, module, allowed) if resume is not None else None
    folder = resumed.folder if resumed is not None else open_run(config)
    mark: RunLock | None = None
    try:
        mark = RunLock(folder, trainer.is_global_zero)
        if resumed is not None and trainer.is_global_zero:
            repair_run(resumed, config)
        _attach(trainer, config, folder, module.monitored, resumed)
        log.info(_announce(config, trainer, data, module, folder))
        with explained_faults(data.datasets, config.data.worker_timeout):
            trainer.fit(module, datamodule=data, ckpt_path=resumed and resumed.checkpoint, weights_only=True)
        end_with_parent(trainer, together=False)
        trainer.strategy.barrier()  # before process 0 may end
        mark.finish()
    except BaseException as error:
        if mark is not None:
            mark.fail(error)
        end_other_processes(trainer, error)
        close_loggers(trainer.loggers, error)
        if trainer.world_size > 1 and isinstance(error, RuntimeError) and LOST_PEER.search(str(error)):
            raise ProcessError("another process of this run ended first; what it said stands above") from None
        raise
    finally:
        close_run()
    outcome = _summarise(trainer, module, folder)
    close_loggers(trainer.loggers, None)
    return outcome


def build_classifier(
    config: Config, class_names: Sequence[str], steps_per_epoch: int, pretrained: bool = True
) -> Classifier:
    """The network with all that trains it, its weights a function of the seed or loaded as configured.

    Raises:
        ConfigError: there is no such network.
        CheckpointError: `model.pretrained` is missing, damaged or of another network.
    """
    torch.manual_seed(mix(config.seed) >> 1)
    model = build_model(config.model, class_names, pretrained)
    model = model.to(
        memory_format=torch.channels_last if use_channels_last(config.trainer) else torch.contiguous_format
    )
    module = Classifier(config, model, class_names, steps_per_epoch)
    if config.trainer.compile:
        module.model.compile()
    return module


def build_trainer(config: Config, callbacks: Sequence[Callback] = ()) -> pl.Trainer:
    """Lightning's Trainer for the configured hardware, precision and length.

    Raises:
        ConfigError: the hardware or the precision is not to be had here.
    """
    settings = config.trainer
    require_loggers(config)
    accelerator = resolve_accelerator(config.trainer)
    precision = resolve_precision(config.trainer, accelerator)
    devices = resolve_devices(config.trainer, accelerator)
    set_up_arithmetic(config.trainer, accelerator)
    single = settings.num_nodes * devices == 1
    check_process_count(devices, settings.num_nodes)
    frozen = config.optimizer.freeze_backbone_epochs > 0
    return pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=settings.num_nodes,
        # Parameters without a gradient are expected only while the backbone is frozen.
        strategy="auto" if single else DDPStrategy(find_unused_parameters=frozen, gradient_as_bucket_view=True),
        precision=precision,
        plugins=[DurableCheckpointIO(), *_cluster()],
        max_epochs=config.schedule.total_epochs,
        max_steps=settings.max_steps or -1,
        accumulate_grad_batches=settings.micro_batches,
        check_val_every_n_epoch=settings.val_every_epochs,
        log_every_n_steps=settings.log_every_steps,
        sync_batchnorm=settings.sync_batchnorm and not single,
        deterministic=settings.deterministic,
        benchmark=not settings.deterministic,
        use_distributed_sampler=False,  # ours shares images out exactly; Lightning's would replace it
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )


def _cluster() -> list[ClusterEnvironment]:
    """Returns the cluster environment of the launcher.

    Lightning does not detect Kubeflow, and takes any shell inside a SLURM job for a task of srun.
    """
    match detect_launcher():
        case "torchrun":
            return []  # detected by Lightning
        case "srun":
            return [SLURMEnvironment(auto_requeue=False)]  # docs/slurm.sbatch requeues
        case "kubeflow":
            return [KubeflowEnvironment()]
        case _:
            return [LightningEnvironment()]


def _attach(trainer: Any, config: Config, folder: Path, monitored: str, resumed: Resumed | None) -> None:
    """Gives a trainer what needs the run folder, which is made only once data and network are known to be sound."""
    trainer.callbacks[:0] = build_callbacks(config, folder, monitored)
    if resumed is not None:
        trainer.callbacks.append(ChangedRecipe(resumed.stored))
    # What was logged after the checkpoint is about to be logged again; TensorBoard forgets it.
    purge_step = None if resumed is None else resumed.step + 1
    trainer.loggers = build_loggers(config, folder, purge_step)


def _announce(config: Config, trainer: pl.Trainer, data: ImageData, module: Classifier, folder: Path) -> str:
    """What is about to happen, in a few lines."""
    parameters = sum(p.numel() for p in module.model.parameters()) / 1e6
    hardware = torch.cuda.get_device_name() if trainer.strategy.root_device.type == "cuda" else "CPU"
    name = f"rexnet {config.model.width_mult:g}x" if config.model.name == "rexnet" else config.model.name
    return (
        f"{name}, {parameters:.2f} M parameters, {config.data.image_size} px, {trainer.precision} on "
        f"{trainer.world_size} x {hardware}\n"
        f"{len(data.train_index):,} training and {len(data.val_index):,} validation images of {len(data.class_names)} "
        f"classes\n{trainer.max_epochs} epochs of {data.steps_per_epoch} steps with {config.data.batch_size} images\n"
        f"Run folder {folder}"
    )


def _summarise(trainer: pl.Trainer, module: Classifier, folder: Path) -> dict[str, Any]:
    """The outcome as values, and in words on the log."""
    callback: Any = trainer.checkpoint_callback
    best = callback.best_model_score
    kept = best_first(folder)  # among equals the later one, as evaluation takes it
    path = str(kept[0]) if kept else callback.best_model_path
    metrics: dict[str, Any] = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if best is not None:
        metrics["best_top1"] = float(best)
        which = "averaged weights" if module.ema_model is not None else "raw weights"
        log.info(
            f"\nBest top-1   {float(best):.2f} %  ({which}, {Path(path).name})\n"
            f"Results      {folder}\n"
            f"Evaluate     rexnet evaluate {folder}\n"
            f"TensorBoard  tensorboard --logdir {folder.parent}"
        )
    return metrics | {"run": str(folder), "best_checkpoint": path, "step": trainer.global_step}


def quieten_lightning() -> None:
    """Keeps Lightning's notices about itself off the screen; ours say what matters."""
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
