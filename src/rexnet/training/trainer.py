"""Builds Lightning's Trainer from a config."""

import logging
import warnings
from collections.abc import Sequence

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.kubeflow import KubeflowEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from rexnet.config import RunConfig
from rexnet.engines.ray_plugins import build_ray_cluster, build_ray_strategy
from rexnet.errors import ConfigError
from rexnet.system.device import resolve_device, resolve_devices, resolve_nodes
from rexnet.system.launcher import detect_launcher
from rexnet.training.checkpoint_io import DurableCheckpointIO

EXPECTED_WARNINGS = (
    r".*LeafSpec.* is deprecated",  # Lightning 2.6 with torch 2.15
    r".*does not have many workers",  # `data.num_workers` is chosen, not forgotten
    r".*smaller than the logging interval",  # the step log also writes at the end of each epoch
    r"Detected call of `lr_scheduler.step\(\)` before",  # fp16 may skip the first step while it finds its scale
    r".*in eval mode at the start of training",  # the EMA
    r"Checkpoint directory .* exists and is not empty",  # a resumed run keeps its folder
    r".*It is recommended to use `self.log",  # every process has the same numbers already
    r".*dataloader is not resumable",  # ours is: the sampler starts where the run stopped
)


def build_trainer(config: RunConfig, callbacks: Sequence[Callback] = ()) -> pl.Trainer:
    """Builds the Trainer for the configured hardware, precision and length."""
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # these log notices of Lightning about itself
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    settings = config.trainer
    device = resolve_device(settings)
    devices, nodes = resolve_devices(settings), resolve_nodes(settings)
    single = nodes * devices == 1
    if device.precision == "16-mixed" and config.optimizer.sam_rho is not None:
        raise ConfigError("optimizer.sam_rho: not with fp16, which scales the loss; set trainer.precision=fp32 or bf16")
    frozen = config.optimizer.frozen_epochs > 0
    syncs = settings.sync_batchnorm and not single
    build_strategy = build_ray_strategy if detect_launcher() == "ray" else DDPStrategy
    return pl.Trainer(
        accelerator=device.accelerator,
        devices=devices,
        num_nodes=nodes,
        # Parameters without a gradient are expected only while layers are frozen.
        strategy="auto" if single else build_strategy(find_unused_parameters=frozen, gradient_as_bucket_view=True),
        precision=device.precision,
        plugins=[DurableCheckpointIO(), detect_cluster(), *([SyncBatchNorm()] if syncs else [])],
        max_epochs=config.schedule.total_epochs,
        max_steps=settings.max_steps or -1,
        accumulate_grad_batches=settings.micro_batches,
        check_val_every_n_epoch=settings.val_every_epochs,
        log_every_n_steps=settings.log_every_steps,
        sync_batchnorm=syncs,
        deterministic=settings.deterministic,
        benchmark=False,  # `TrainingModule.on_train_start` decides by the length of the run
        use_distributed_sampler=False,  # ours gives each process its own images already
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )


class SyncBatchNorm(TorchSyncBatchNorm):
    """Synchronizes also timm's BatchNorm with an activation, whose activation PyTorch's conversion would drop."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Returns the module with synchronized layers."""
        from timm.layers import convert_sync_batchnorm

        converted: nn.Module = convert_sync_batchnorm(model)
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Returns the module as it is; after training, only its checkpoints are used."""
        return model


def detect_cluster() -> ClusterEnvironment:
    """Returns the cluster environment of the launcher.

    Lightning does not detect Kubeflow, and takes any shell inside a SLURM job for a task of srun.
    """
    match detect_launcher():
        case "torchrun":
            return TorchElasticEnvironment()
        case "srun":
            return SLURMEnvironment(auto_requeue=False)  # docs/slurm.sbatch requeues
        case "kubeflow":
            return KubeflowEnvironment()
        case "ray":
            ray_cluster: ClusterEnvironment = build_ray_cluster()
            return ray_cluster
        case _:
            return LightningEnvironment()
