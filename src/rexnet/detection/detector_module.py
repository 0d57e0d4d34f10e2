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
from rexnet.detection.drawing import draw_boxes, draw_comparison, fit, to_uint8
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

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the sum of the losses of a batch."""
        losses: dict[str, Tensor] = self.model(*batch)
        parts = {name: loss.float() for name, loss in losses.items()}
        return self.record_loss(torch.stack(list(parts.values())).sum(), parts)

    def show_images(self, batch: Batch, number: int) -> Tensor:
        """Returns the first images of a batch with their boxes."""
        drawn = [
            draw_boxes(to_uint8(image), Detections.true(target), self.class_names)
            for image, target in zip(batch[0][:number], batch[1], strict=False)
        ]
        return torch.stack([fit(image, SHOWN_SIDE, SHOWN_SIDE) for image in drawn]) / 255

    def on_validation_start(self) -> None:
        """Forgets the detections of a validation that was not finished."""
        super().on_validation_start()
        self._found = {"val": {}} if self.ema_model is None else {"val": {}, "val_ema": {}}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, list[Detections]]:
        """Detects with the raw network and the EMA; returns the detections of the monitored one."""
        images, targets = batch
        found: list[Detections] = []
        for prefix, network in {"val": self.model, "val_ema": self.ema_model}.items():
            if network is not None and images:  # there may be fewer images than processes
                outputs = network(images)
                found = [Detections.of(each, target["scale"]) for each, target in zip(outputs, targets, strict=True)]
                positions = [int(target["image_id"]) for target in targets]
                self._found[prefix].update(zip(positions, found, strict=True))
        return {"found": found}

    def on_validation_epoch_end(self) -> None:
        """Logs COCO's metrics as `val/*` and `val_ema/*`, and the AP of each class."""
        index = self.trainer.datamodule.val_index  # type: ignore[attr-defined]
        for prefix, mine in self._found.items():
            scores = evaluate_detections(index, gather_detections(mine, len(index)), self.class_names)
            self.publish({f"{prefix}/{name}": value for name, value in scores.values.items()})
            for logger in self.loggers:
                per_class = {f"{prefix}_class/{name}": value for name, value in scores.per_class.items()}
                logger.log_metrics(per_class, step=self.global_step)


class DetectionImages(Callback):
    """Sends the detections in the first validation images, next to their true boxes, to TensorBoard."""

    def __init__(self, every_epochs: int) -> None:
        self.every_epochs = every_epochs

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        epoch, logger = trainer.current_epoch + 1, find_tensorboard(trainer)
        is_due = epoch % self.every_epochs == 0 or epoch == trainer.max_epochs
        if logger is None or not is_due or batch_idx > 0:
            return
        tag = f"{pl_module.monitored.partition('/')[0]}/detections_and_truth"
        with may_fail(tag):
            pairs = []
            for image, found, target in zip(batch[0][:SHOWN_IMAGES], outputs["found"], batch[1], strict=False):
                shown = found.above(SHOWN_SCORE)
                shown = shown._replace(boxes=shown.boxes / target["scale"].cpu().numpy())
                truth = Detections.true(target)
                pairs.append(draw_comparison(to_uint8(image), shown, truth, pl_module.class_names))
            grid = make_image_grid(torch.stack([fit(pair, SHOWN_SIDE, 2 * SHOWN_SIDE) for pair in pairs]) / 255)
            logger.experiment.add_image(tag, grid, trainer.global_step)
