"""One run from configuration to metrics."""

import logging
import signal
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy

from rexnet.checkpoint import checkpoint_folder, find_checkpoint, read_checkpoint
from rexnet.config import Config
from rexnet.data.datamodule import ImageData
from rexnet.data.keys import mix
from rexnet.errors import CheckpointError
from rexnet.hardware import (
    resolve_accelerator,
    resolve_devices,
    resolve_precision,
    set_up_arithmetic,
    use_channels_last,
)
from rexnet.models.factory import adopt_preprocessing, build_model
from rexnet.training.callbacks import build_callbacks
from rexnet.training.checkpoint_io import AtomicCheckpointIO
from rexnet.training.module import Classifier
from rexnet.training.run_folder import close_run, open_run

log = logging.getLogger(__name__)

EXPECTED_WARNINGS = (
    r".*LeafSpec.* is deprecated",  # Lightning 2.6 with torch 2.15
    r".*does not have many workers",  # `data.num_workers` is chosen, not forgotten
    r".*smaller than the logging interval",  # the step log also writes at each epoch's end
    r"Detected call of `lr_scheduler.step\(\)` before",  # fp16 may skip the first step while it finds its scale
    r".*in eval mode at the start of training",  # the averaged network
    r"Checkpoint directory .* exists and is not empty",  # a resumed run goes on in its own folder
    r".*dataloader is not resumable",  # ours is: the sampler starts where the run stopped
)


def fit(config: Config, resume: Path | None = None, callbacks: Sequence[Callback] = ()) -> dict[str, Any]:
    """Trains, and returns the last validation's metrics with the run folder and its best checkpoint.

    Where the weights come from, in this order: the checkpoint to resume, `model.pretrained`, random initialisation.

    Args:
        config: the run.
        resume: a run folder or checkpoint to go on from, in the same folder.
        callbacks: more of Lightning's callbacks.

    Raises:
        RexnetError: the configuration, the data, a weight file or the training itself is at fault; said in one line.
    """
    _quieten_lightning()
    config = adopt_preprocessing(config)
    trainer = build_trainer(config, callbacks)
    data = ImageData(config, trainer.world_size)
    torch.manual_seed(mix(config.seed) >> 1)
    model = build_model(config.model, data.class_names, pretrained=resume is None)
    model = model.to(memory_format=torch.channels_last if use_channels_last(config) else torch.contiguous_format)
    module = Classifier(config, model, data.class_names, data.steps_per_epoch)
    if config.trainer.compile:
        module.model.compile()
    checkpoint = _last_checkpoint(resume, module) if resume is not None else None
    folder = checkpoint.parent.parent if checkpoint is not None else open_run(config)
    try:
        _attach(trainer, config, folder, module.monitored)
        log.info(_announce(config, trainer, data, module, folder))
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except BaseException:
        _end_other_processes(trainer)
        raise
    finally:
        close_run()
    return _summarise(trainer, module, folder)


def build_trainer(config: Config, callbacks: Sequence[Callback] = ()) -> pl.Trainer:
    """Lightning's Trainer for the configured hardware, precision and length.

    Raises:
        ConfigError: the hardware or the precision is not to be had here.
    """
    settings = config.trainer
    accelerator = resolve_accelerator(config)
    precision = resolve_precision(config, accelerator)
    devices = resolve_devices(config, accelerator)
    set_up_arithmetic(config, accelerator)
    single = settings.num_nodes * devices == 1
    frozen = config.optimizer.freeze_backbone_epochs > 0
    return pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=settings.num_nodes,
        # Parameters without a gradient are expected only while the backbone is frozen.
        strategy="auto" if single else DDPStrategy(find_unused_parameters=frozen, gradient_as_bucket_view=True),
        precision=precision,
        plugins=[AtomicCheckpointIO()],
        max_epochs=config.schedule.total_epochs,
        max_steps=settings.max_steps or -1,
        accumulate_grad_batches=settings.accumulate,
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


def _attach(trainer: Any, config: Config, folder: Path, monitored: str) -> None:
    """Gives a trainer what needs the run folder, which is made only once data and network are known to be sound."""
    trainer.callbacks[:0] = build_callbacks(config, folder, monitored)
    trainer.loggers = [TensorBoardLogger(folder.parent, name="", version=folder.name, default_hp_metric=False)]


def _end_other_processes(trainer: pl.Trainer) -> None:
    """Ends the processes that Lightning started for this run; they would wait for this one for ever."""
    launcher: Any = trainer.strategy.launcher
    if getattr(launcher, "procs", None):
        launcher.kill(signal.SIGTERM)


def _last_checkpoint(resume: Path, module: Classifier) -> Path:
    """The checkpoint to go on from, checked against the network.

    Raises:
        CheckpointError: nothing there, damaged, or of another network.
    """
    path = checkpoint_folder(resume) / "last.ckpt" if resume.is_dir() else resume
    path = path if path.is_file() else find_checkpoint(resume)
    stored = {name: value.shape for name, value in read_checkpoint(path)["state_dict"].items()}
    wanted = {name: value.shape for name, value in module.state_dict().items()}
    other = sorted(name for name in stored.keys() | wanted.keys() if stored.get(name) != wanted.get(name))
    if other:
        raise CheckpointError(
            f"{path}: cannot be resumed with this configuration: {len(other)} tensors differ, such as {other[0]}"
        )
    return path


def _announce(config: Config, trainer: pl.Trainer, data: ImageData, module: Classifier, folder: Path) -> str:
    """What is about to happen, in a few lines."""
    parameters = sum(p.numel() for p in module.model.parameters()) / 1e6
    hardware = torch.cuda.get_device_name() if trainer.strategy.root_device.type == "cuda" else "CPU"
    name = f"rexnet {config.model.width_mult:g}x" if config.model.name == "rexnet" else config.model.name
    return (
        f"{name}, {parameters:.2f} M parameters, {config.data.image_size} px, {trainer.precision} on "
        f"{trainer.world_size} x {hardware}\n"
        f"{len(data.train_index):,} training and {len(data.val_index):,} validation images of {len(data.class_names)} "
        f"classes; {trainer.max_epochs} epochs of {data.steps_per_epoch} steps with {config.data.batch_size} images\n"
        f"Run folder {folder}"
    )


def _summarise(trainer: pl.Trainer, module: Classifier, folder: Path) -> dict[str, Any]:
    """The outcome as values, and in words on the log."""
    callback: Any = trainer.checkpoint_callback
    best = callback.best_model_score
    metrics: dict[str, Any] = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if best is not None:
        metrics["best_top1"] = float(best)
        which = "averaged weights" if module.ema_model is not None else "raw weights"
        log.info(
            f"\nBest top-1   {float(best):.2f} %  ({which}, {Path(callback.best_model_path).name})\n"
            f"Results      {folder}\n"
            f"Evaluate     python evaluate.py {folder}\n"
            f"TensorBoard  make board   (or: tensorboard --logdir {folder.parent})"
        )
    return metrics | {"run": str(folder), "best_checkpoint": callback.best_model_path, "step": trainer.global_step}


def _quieten_lightning() -> None:
    """Keeps Lightning's notices about itself off the screen; ours say what matters."""
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
