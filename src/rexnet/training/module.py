"""The classifier as Lightning trains it: what a step computes, what is measured, what a checkpoint carries."""

import math
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim.lr_scheduler import LambdaLR

from rexnet.checkpoints.checkpoint import build_description
from rexnet.config import Config
from rexnet.data.keys import mix
from rexnet.data.sampling import MODEL
from rexnet.errors import DivergenceError
from rexnet.metrics.classification import ClassificationMetrics
from rexnet.models.factory import split_parameters
from rexnet.models.weights import ENTRY
from rexnet.training.ema import build_average, decay_at, update_average
from rexnet.training.faults import NonFiniteGuard, clear_unset_momentum, propagate_nonfinite
from rexnet.training.memory import PartedStep
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
        self.window = torch.zeros(2)  # since the last log entry: sum of the losses that are finite, and their number
        self.guard = NonFiniteGuard()
        self.parted = PartedStep(self)
        self.grad_norm = torch.zeros(())
        self._bad: Tensor | None = None
        self._batch: tuple[Tensor, Tensor, int] | None = None
        self._parts_done = False
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
        self.on_train_epoch_start()  # Lightning skips that hook where a run goes on in mid-epoch
        fit_optimizer_to_device(self.optimizers(use_pl_optimizer=False), self._scales_loss())
        self.guard.start(self.model)
        self.window = self.window.to(self.device)

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

    def compute_loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of some images; its gradient is NaN where it is not finite."""
        smoothing = self.config.loss.label_smoothing
        return propagate_nonfinite(F.cross_entropy(self.model(images), targets, label_smoothing=smoothing))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch; computed in parts, gradient included, once memory has run out."""
        images, targets = batch
        loss: Tensor | None = None
        self._batch, self._parts_done = (images, targets, batch_idx), False
        try:
            if self.parted.parts == 1:
                loss = self.compute_loss(images, targets)
            else:
                if batch_idx % self.trainer.accumulate_grad_batches == 0:
                    self.optimizers(use_pl_optimizer=False).zero_grad()  # type: ignore[union-attr]
                loss, self._parts_done = self.parted.accumulate(images, targets), True
        except torch.OutOfMemoryError:
            pass  # not repeated here, where the error still holds the memory of its frames
        if loss is None:
            loss, self._parts_done = self.parted.repeat(images, targets, batch_idx), True
        finite = torch.isfinite(loss.detach())
        self.window += torch.stack([torch.where(finite, loss.detach(), 0.0), finite]).float()
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """The gradient of a batch, unless its parts have brought it already."""
        if self._parts_done:
            return
        try:
            loss.backward(*args, **kwargs)  # type: ignore[no-untyped-call]
            return
        except torch.OutOfMemoryError:
            pass
        assert self._batch is not None
        self.parted.repeat(*self._batch)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Lightning asks for this between loss and gradient, when parts have brought theirs already."""
        if not self._parts_done:
            optimizer.zero_grad()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Measures the gradient, clips it where configured, and keeps a bad one from acting."""
        clip = self.config.optimizer.clip_grad
        if clip is not None:
            self.grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        else:
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            self.grad_norm = torch.nn.utils.get_total_norm(gradients)
        self._bad = self.guard.judge(self.grad_norm, optimizer)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One step of the optimiser, then one of the average; neither, where the gradient was bad."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        is_first = not optimizer.state
        super().optimizer_step(*args, **kwargs)
        assert self._bad is not None
        if is_first:
            clear_unset_momentum(optimizer, self._bad)
        self.guard.settle(self._bad)
        if self.ema_model is not None and self.config.ema is not None:
            decay = decay_at(self.global_step + 1, self.config.ema.decay)
            update_average(self.ema_model, self.model, decay, skip=self._bad)

    def take_window(self) -> dict[str, float]:
        """Mean loss over all processes since the previous call, and the last gradient's L2 norm before clipping."""
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(self.window)
        total, number = self.window.tolist()
        self.window.zero_()
        return {"train/loss": total / number if number else math.nan, "train/grad_norm": float(self.grad_norm)}

    def on_validation_start(self) -> None:
        """Gives all processes the BatchNorm statistics of the first, so that they measure one and the same network."""
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Measures the raw and the averaged network on the same batch; gives the logits of the monitored one."""
        images, labels = batch
        nothing = images.new_zeros(0, len(self.class_names)) if not len(images) else None  # fewer images than processes
        logits: Tensor = self.model(images) if nothing is None else nothing
        self.val_metrics.update(logits, labels)
        if self.ema_model is not None and self.val_ema_metrics is not None:
            logits = self.ema_model(images) if nothing is None else nothing
            self.val_ema_metrics.update(logits, labels)
        return logits

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
            counted, there = int(values.pop("n")), len(self.trainer.datamodule.val_index)  # type: ignore[attr-defined]
            assert counted == there, f"{counted} of {there} validation images were measured"
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
        optimizer = build_optimizer(self.model, self.config.optimizer, self._scales_loss())
        schedule = build_schedule(self.config.schedule, self.config.optimizer.lr, self.steps_per_epoch)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, schedule), "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what a classifier needs beside its weights."""
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        checkpoint[ENTRY] = build_description(self.config, self.class_names, metrics, self.steps_per_epoch)

    def _scales_loss(self) -> bool:
        """Whether the arithmetic is fp16, whose gradients are scaled."""
        return getattr(self.trainer.precision_plugin, "scaler", None) is not None

    def _stop_diverged(self, what: str) -> None:
        raise DivergenceError(
            f"training stopped: {what} (epoch {self.current_epoch + 1}). The last checkpoint is from before. "
            f"Lower optimizer.lr ({self.config.optimizer.lr:g}), lengthen schedule.warmup_epochs, set "
            f"optimizer.clip_grad, or use trainer.precision=fp32"
        )
