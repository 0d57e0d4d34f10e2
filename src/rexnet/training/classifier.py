"""The classifier as Lightning trains and validates it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rexnet.checkpoints.checkpoint import build_description
from rexnet.config import Config
from rexnet.metrics.classification_metrics import ClassificationMetrics
from rexnet.models.weights import ENTRY
from rexnet.training.training_module import TrainingModule


class Classifier(TrainingModule):
    """A network with its loss (of logits and targets) and its metrics.

    Batches are (images, targets): float32 (N, 3, H, W), and labels (N,) or soft targets (N, classes).
    """

    def __init__(
        self, config: Config, model: nn.Module, loss: nn.Module, class_names: Sequence[str], steps_per_epoch: int
    ) -> None:
        super().__init__(config, model, steps_per_epoch)
        self.loss = loss
        self.class_names = tuple(class_names)
        self.monitored = "val/top1" if self.ema_model is None else "val_ema/top1"
        self.val_metrics = ClassificationMetrics()
        self.val_ema_metrics = None if self.ema_model is None else ClassificationMetrics()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Returns the loss of a batch."""
        images, targets = batch
        return self.record_loss(self.loss(self.model(images), targets))

    def trial_loss(self, images: Tensor) -> Tensor:
        """Returns the loss of images with random labels."""
        labels = torch.randint(len(self.class_names), (len(images),), device=images.device)
        loss: Tensor = self.loss(self.model(images), labels)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Validates the raw network and the EMA on the same batch; returns the logits of the monitored one."""
        images, labels = batch
        empty = images.new_zeros(0, len(self.class_names)) if not len(images) else None  # fewer images than processes
        logits: Tensor = self.model.forward(images) if empty is None else empty  # eager even if steps are compiled
        self.val_metrics.update(logits, labels)
        if self.ema_model is not None and self.val_ema_metrics is not None:
            logits = self.ema_model(images) if empty is None else empty
            self.val_ema_metrics.update(logits, labels)
        return logits

    def on_validation_epoch_end(self) -> None:
        """Logs top-1, top-5 and loss as `val/*` and `val_ema/*`.

        Raises:
            DivergenceError: the loss of the raw network is NaN or infinite; nothing has been saved yet.
        """
        for prefix, metrics in {"val": self.val_metrics, "val_ema": self.val_ema_metrics}.items():
            if metrics is None:
                continue
            values = metrics.compute()
            metrics.reset()
            counted, there = int(values.pop("n")), len(self.trainer.datamodule.val_index)  # type: ignore[attr-defined]
            assert counted == there, f"validation saw {counted} of {there} images"
            if not torch.isfinite(values["loss"]) and prefix == "val":
                raise self.diverged(f"the validation loss is {values['loss']:g} after step {self.global_step}")
            published = {f"{prefix}/{name}": value for name, value in values.items()}
            self.log_dict(published, logger=False)
            for logger in self.loggers:  # directly, since Lightning's own step lags one behind
                logger.log_metrics({name: float(value) for name, value in published.items()}, step=self.global_step)
        self.log("epoch", float(self.current_epoch + 1), logger=False)  # counted from 1 in the names of checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the description from which the classifier can be built again."""
        super().on_save_checkpoint(checkpoint)
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        checkpoint[ENTRY] = build_description(self.config, self.class_names, metrics, self.steps_per_epoch)
