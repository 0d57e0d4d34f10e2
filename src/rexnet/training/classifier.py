"""The classifier as Lightning trains and validates it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from rexnet.class_names import readable_names
from rexnet.config import Config
from rexnet.metrics.classification_metrics import ClassificationMetrics
from rexnet.training.distillation import Distillation
from rexnet.training.training_module import TrainingModule


class Classifier(TrainingModule):
    """A network with its loss (of logits and targets) and its metrics.

    Batches are (images, targets): float32 (N, 3, H, W), and labels (N,) or soft targets (N, classes).
    """

    metric_names = ("top1", "top5", "loss", "mean_class_top1")
    config: Config
    worst_class = ""
    """Class with the lowest top-1 in the last validation of the monitored network, with its figures."""

    def __init__(
        self,
        config: Config,
        model: nn.Module,
        loss: nn.Module,
        class_names: Sequence[str],
        steps_per_epoch: int,
        distillation: Distillation | None = None,
    ) -> None:
        super().__init__(config, model, steps_per_epoch)
        self.loss = loss
        self.distillation = distillation
        if distillation is not None:
            distillation.watch(model)
        self.class_names = tuple(class_names)
        self.val_metrics = ClassificationMetrics(len(class_names))
        self.val_ema_metrics = None if self.ema_model is None else ClassificationMetrics(len(class_names))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Returns the loss of a batch."""
        return self.record_loss(*self.compute_loss(*batch))

    def compute_loss(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Returns the loss, and the terms that it is the sum of if there is a teacher."""
        if self.distillation is None:
            return self.loss(self.model(images), targets), {}
        taught = self.distillation.teacher(images)  # first, while no activations of the student need memory
        logits = self.model(images)
        return self.distillation.combine(self.loss(logits, targets), logits, taught)

    def trial_loss(self, images: Tensor) -> Tensor:
        """Returns the loss of images with random labels."""
        labels = torch.randint(len(self.class_names), (len(images),), device=images.device)
        return self.compute_loss(images, labels)[0]

    def show_images(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        """Returns the first images of a batch without their normalization."""
        data = self.config.data
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
        return (batch[0][:number].float().cpu() * std + mean).clamp(0, 1)

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
        """Logs top-1, top-5, loss and the mean top-1 of the classes as `val/*` and `val_ema/*`.

        Raises:
            DivergenceError: the loss of the raw network is NaN or infinite; nothing has been saved yet.
        """
        for prefix, metrics in {"val": self.val_metrics, "val_ema": self.val_ema_metrics}.items():
            if metrics is None:
                continue
            values = metrics.compute()
            metrics.reset()
            images, correct = values.pop("class_images"), values.pop("class_correct")
            counted, there = int(images.sum()), len(self.trainer.datamodule.val_index)  # type: ignore[attr-defined]
            assert counted == there, f"validation saw {counted} of {there} images"
            if not torch.isfinite(values["loss"]) and prefix == "val":
                raise self.diverged(f"the validation loss is {values['loss']:g} after step {self.global_step}")
            self.log_validation({f"{prefix}/{name}": value for name, value in values.items()})
            rates = torch.where(images > 0, 100.0 * correct / images, torch.inf)
            worst = int(rates.argmin())
            name = readable_names(self.class_names)[worst]
            self.worst_class = f"{name}: {rates[worst]:.2f} % of {images[worst]} images in the last validation"
