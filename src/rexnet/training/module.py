"""The classifier as Lightning trains it: what a step computes, what is measured, what a checkpoint carries."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from rexnet.checkpoint import describe
from rexnet.config import Config
from rexnet.data.keys import mix
from rexnet.data.sampling import MODEL
from rexnet.errors import DivergenceError
from rexnet.evaluation.metrics import ClassificationMetrics
from rexnet.models.factory import split_parameters
from rexnet.models.weights import ENTRY
from rexnet.training.ema import build_average, decay_at, update_average
from rexnet.training.optim import build_optimizer, fit_optimizer_to_device
from rexnet.training.schedule import build_schedule


class Classifier(pl.LightningModule):
    """A network with its loss, optimiser, schedule, averaged twin and metrics.

    It sees batches (images, targets): float32 (N, 3, H, W), and labels (N,) or shares (N, classes).

    Args:
        config: the run.
        model: the network; trained in place.
        class_names: written into checkpoints.
        steps_per_epoch: optimiser steps, for the schedule.
    """

    def __init__(self, config: Config, model: nn.Module, class_names: Sequence[str], steps_per_epoch: int) -> None:
        super().__init__()
        self.config = config
        self.model = model
        self.class_names = tuple(class_names)
        self.steps_per_epoch = steps_per_epoch
        self.ema_model = build_average(model) if config.ema else None
        self.window_loss = MeanMetric(nan_strategy="disable")  # `disable`: a NaN is kept, and found by take_window
        self.clipped_norm: Tensor | None = None
        self.window_start = 0
        self.val_metrics = ClassificationMetrics()
        self.val_ema_metrics = ClassificationMetrics() if config.ema else None

    @property
    def monitored(self) -> str:
        """The metric that decides which checkpoint is best."""
        return "val_ema/top1" if self.ema_model is not None else "val/top1"

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of the raw network for normalised images (N, 3, H, W)."""
        logits: Tensor = self.model(images)
        return logits

    def on_train_start(self) -> None:
        """Takes up a run, from its beginning or from a checkpoint."""
        self.window_start = self.global_step
        self.on_train_epoch_start()  # Lightning skips that hook where a run goes on in mid-epoch
        fit_optimizer_to_device(self.optimizers(use_pl_optimizer=False))

    def on_train_epoch_start(self) -> None:
        """Freezes the backbone, its BatchNorm statistics included, for as many epochs as configured."""
        if self.config.optimizer.freeze_backbone_epochs:
            frozen = self.current_epoch < self.config.optimizer.freeze_backbone_epochs
            backbone, _ = split_parameters(self.model)
            for parameter in backbone:
                parameter.requires_grad_(not frozen)
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train(not frozen)
        if self.ema_model is not None:
            self.ema_model.eval()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Makes dropout and drop-path a function of (seed, epoch, batch, rank), so that a resumed run repeats them."""
        torch.manual_seed(mix(self.config.seed, self.current_epoch, batch_idx, self.global_rank, MODEL) >> 1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch."""
        images, targets = batch
        loss = F.cross_entropy(self.model(images), targets, label_smoothing=self.config.optimizer.label_smoothing)
        self.window_loss.update(loss.detach())
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clips the gradient where configured."""
        if self.config.optimizer.clip_grad is not None:
            self.clipped_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip_grad)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One step of the optimiser, then one of the average."""
        super().optimizer_step(*args, **kwargs)
        if self.ema_model is not None and self.config.ema is not None:
            update_average(self.ema_model, self.model, decay_at(self.global_step + 1, self.config.ema.decay))

    def take_window(self) -> dict[str, float]:
        """Mean loss over all processes since the previous call, and the last gradient's L2 norm before clipping.

        Raises:
            DivergenceError: the loss was NaN or infinite somewhere between the two calls.
        """
        start, self.window_start = self.window_start, self.global_step
        loss = self.window_loss.compute().item()
        self.window_loss.reset()
        if loss - loss != 0:  # NaN or infinite
            self._stop_diverged(f"the training loss became {loss} between steps {start} and {self.global_step}")
        norm = self.clipped_norm
        if norm is None:
            norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        return {"train/loss": loss, "train/grad_norm": float(norm)}

    def on_validation_start(self) -> None:
        """Gives all processes the BatchNorm statistics of the first, so that they measure one and the same network."""
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Measures the raw and the averaged network on the same batch."""
        images, labels = batch
        self.val_metrics.update(self.model(images), labels)
        if self.ema_model is not None and self.val_ema_metrics is not None:
            self.val_ema_metrics.update(self.ema_model(images), labels)

    def on_validation_epoch_end(self) -> None:
        """Publishes top-1, top-5 and loss as `val/*` and `val_ema/*`.

        Raises:
            DivergenceError: the raw network's loss is NaN or infinite, before anything is saved.
        """
        for prefix, metrics in {"val": self.val_metrics, "val_ema": self.val_ema_metrics}.items():
            if metrics is None:
                continue
            values = metrics.compute()
            metrics.reset()
            del values["n"]
            if not torch.isfinite(values["loss"]) and prefix == "val":
                self._stop_diverged(f"the validation loss is {values['loss']:g} after step {self.global_step}")
            self._publish({f"{prefix}/{name}": value for name, value in values.items()})
        self.log(
            "epoch", float(self.current_epoch + 1), logger=False
        )  # for checkpoints' names; Lightning's starts at 0

    def _publish(self, metrics: dict[str, Tensor]) -> None:
        """For callbacks by Lightning's way; for loggers with the optimiser step, where Lightning is one step behind."""
        self.log_dict(metrics, logger=False)
        for logger in self.loggers:
            logger.log_metrics({name: float(value) for name, value in metrics.items()}, step=self.global_step)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser, and the schedule stepped with it."""
        optimizer = build_optimizer(self.model, self.config.optimizer)
        schedule = build_schedule(self.config.schedule, self.config.optimizer.lr, self.steps_per_epoch)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, schedule), "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what a classifier needs beside its weights."""
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        checkpoint[ENTRY] = describe(self.config, self.class_names, metrics)

    def _stop_diverged(self, what: str) -> None:
        raise DivergenceError(
            f"training stopped: {what} (epoch {self.current_epoch + 1}). The last checkpoint is from before. "
            f"Lower optimizer.lr ({self.config.optimizer.lr:g}), lengthen schedule.warmup_epochs, set "
            f"optimizer.clip_grad, or use trainer.precision=fp32"
        )
