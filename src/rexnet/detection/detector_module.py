"""The detector as Lightning trains and validates it."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from rexnet.config import DetectionConfig
from rexnet.detection.coco_metrics import (
    BOX_METRICS,
    MASK_METRICS,
    Detections,
    evaluate_detections,
    gather_detections,
)
from rexnet.detection.drawing import draw_boxes, draw_comparison, fit
from rexnet.training.callbacks.tensorboard_extras import find_tensorboard, make_image_grid, may_fail
from rexnet.training.training_module import TrainingModule

SHOWN_SIDE, SHOWN_IMAGES, SHOWN_SCORE = 320, 8, 0.3
Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


class Detector(TrainingModule):
    """A detector of torchvision with its losses and COCO's metrics.

    Batches are those of `DetectionData`. COCO's metrics are of the boxes in pixels of the files.
    """

    config: DetectionConfig

    def __init__(
        self, config: DetectionConfig, model: nn.Module, class_names: Sequence[str], steps_per_epoch: int
    ) -> None:
        super().__init__(config, model, steps_per_epoch)
        self.class_names = tuple(class_names)
        self.metric_names = BOX_METRICS + (MASK_METRICS if config.detector.name == "mask_rcnn" else ())
        self._found: dict[str, dict[int, Detections]] = {}
        self.detections: list[Detections] = []
        """Those of the latest validation in each image, by the EMA if there is one."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the sum of the losses of a batch."""
        losses: dict[str, Tensor] = self.model(*batch)
        parts = {name: loss.float() for name, loss in losses.items()}
        return self.record_loss(torch.stack(list(parts.values())).sum(), parts)

    def show_images(self, batch: Batch, number: int) -> Tensor:
        """Returns the first images of a batch with their boxes."""
        drawn = []
        for image, target in zip(batch[0][:number], batch[1], strict=False):
            truth = Detections.of(target | {"scores": torch.ones(len(target["labels"]))}, torch.ones(4))
            pixels = (255 * image).round().byte().cpu()
            drawn.append(fit(draw_boxes(pixels, truth, self.class_names), SHOWN_SIDE, SHOWN_SIDE))
        return torch.stack(drawn) / 255

    def on_validation_start(self) -> None:
        """Forgets the detections of a validation that was not finished."""
        super().on_validation_start()
        self._found = {"val": {}} if self.ema_model is None else {"val": {}, "val_ema": {}}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Detects with the raw network and the EMA."""
        images, targets = batch
        for prefix, network in {"val": self.model, "val_ema": self.ema_model}.items():
            if network is not None and images:  # there may be fewer images than processes
                for output, target in zip(network(images), targets, strict=True):
                    self._found[prefix][int(target["image_id"])] = Detections.of(output, target["scale"])

    def on_validation_epoch_end(self) -> None:
        """Logs COCO's metrics as `val/*` and `val_ema/*`, and the AP of each class."""
        index = self.trainer.datamodule.val_index  # type: ignore[attr-defined]
        for prefix, mine in self._found.items():
            self.detections = gather_detections(mine, len(index))
            scores = evaluate_detections(index, self.detections, self.class_names)
            self.log_validation({f"{prefix}/{name}": value for name, value in scores.values.items()})
            for logger in self.loggers:
                per_class = {f"{prefix}_class/{name}": value for name, value in scores.per_class.items()}
                logger.log_metrics(per_class, step=self.global_step)


class DetectionImages(Callback):
    """Sends the detections in the first validation images, next to their true boxes, to TensorBoard."""

    def __init__(self, every_epochs: int) -> None:
        self.every_epochs = every_epochs

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        epoch, logger = trainer.current_epoch + 1, find_tensorboard(trainer)
        if logger is None or (epoch % self.every_epochs and epoch != trainer.max_epochs):
            return
        tag = f"{pl_module.monitored.partition('/')[0]}/detections_and_truth"
        with may_fail(tag):
            index, names, pairs = trainer.datamodule.val_index, pl_module.class_names, []  # type: ignore[attr-defined]
            for position, found in enumerate(pl_module.detections[:SHOWN_IMAGES]):
                pair = draw_comparison(index, position, found.above(SHOWN_SCORE), names)
                pairs.append(fit(pair, SHOWN_SIDE, 2 * SHOWN_SIDE))
            logger.experiment.add_image(tag, make_image_grid(torch.stack(pairs) / 255), trainer.global_step)
