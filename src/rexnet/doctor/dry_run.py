"""A dry run: up to 20 training steps on one batch, to see their memory and speed and whether the loss falls."""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from rexnet.config import Config
from rexnet.config.load import replace_values
from rexnet.data.augment.batch import augment_batch, normalize
from rexnet.data.augment.transforms import build_train_transform
from rexnet.data.datamodule import ImageData
from rexnet.data.dataset import ImageDataset, stack
from rexnet.data.loaders import build_train_sampler
from rexnet.data.sources.image_files import size_text
from rexnet.doctor.finding import Finding
from rexnet.models.padding import true_shapes
from rexnet.training.callbacks.step_log import peak_memory_gb
from rexnet.training.run_training import explained_failures
from rexnet.training.trainer import build_trainer
from rexnet.training.training_module import TrainingModule

STEPS = 20
MIN_STEPS, SECONDS = 5, 15.0  # after these seconds no step but the first five starts
COMPARED = 3  # losses at the start and at the end


@dataclass
class DryRun(Callback):
    """Losses, seconds and memory of the steps."""

    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    peak_bytes: float = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))  # waits for the device
        self.seconds.append(time.perf_counter() - self._started)
        if sum(self.seconds[1:]) > SECONDS and len(self.seconds) >= MIN_STEPS:  # the first step may compile
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.peak_bytes = peak_memory_gb(trainer.strategy.root_device) * 1e9


def dry_run_config(config: Config) -> Config:
    """Returns the config of one device, one micro-batch and the largest images; the last step has the peak rate."""
    values = {
        "trainer.devices": 1,
        "trainer.num_nodes": 1,
        "trainer.accumulate": 1,
        "trainer.sync_batchnorm": False,
        "trainer.max_steps": STEPS,
        "trainer.val_every_epochs": 1,
        "schedule.epochs": config.schedule.total_epochs + 1,  # the other values still fit, and only one is trained
        "schedule.cooldown_epochs": 0,
        "schedule.warmup_epochs": 1,
        "schedule.warmup_lr": 0,
        "optimizer.freeze_backbone_epochs": 0,
        "optimizer.unfreeze_epochs": 0,
        "augmentation.image_size": config.augmentation.image_size and max(config.training_sizes),
    }
    return replace_values(config, values)


def uncached_dataset(data: ImageData) -> ImageDataset:
    """Returns the training images with their random transform in the largest size, decoded each time."""
    config = data.config
    transform = build_train_transform(config.data, config.augmentation, [max(config.training_sizes)])
    return ImageDataset(data.train_index, transform, config.seed)


def load_batch(data: ImageData, images: int) -> tuple[Tensor, Tensor]:
    """Returns augmented training images (images, 3, H, W), and labels (images,) or soft targets (images, classes)."""
    config, dataset = data.config, uncached_dataset(data)
    keys = build_train_sampler(config, data.train_index).batch_at(0, 0)[:images]
    batch = stack([dataset[key] for key in keys])
    pixels = normalize(batch.images, config.data.mean, config.data.std, data.channels_last)
    return augment_batch(pixels, batch.labels, config.augmentation, len(data.class_names), batch.seed)


def run_steps(module: TrainingModule, batch: tuple[Tensor, Tensor]) -> DryRun:
    """Trains on one batch."""
    steps = DryRun()
    trainer = build_trainer(module.config, [steps])
    trainer.limit_val_batches = 0
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    batches: Any = [batch] * (STEPS + 1)  # one more, so that no epoch ends
    loader = DataLoader(batches, batch_size=None)
    with explained_failures(trainer):
        trainer.fit(module, loader, loader)
    return steps


def check_memory(peak: float, images: int, free: int) -> Finding:
    """Compares the peak of a training step with the memory that was free before."""
    text = f"{size_text(peak)} at the peak of a step with {images} images; {size_text(free)} were free"
    if peak > 0.9 * free:
        return Finding("warning", "memory", f"{text}; set trainer.accumulate to leave more")
    return Finding("ok", "memory", text)


def check_losses(losses: list[float], lr: float) -> Finding:
    """Checks that the loss on one batch is finite and falls on the way to the peak learning rate."""
    number = min(COMPARED, len(losses) // 2)
    first, last = sum(losses[:number]) / number, sum(losses[-number:]) / number
    reached = lr * (len(losses) - 1) / (STEPS - 1)
    text = f"loss on one batch from {first:.3f} to {last:.3f} in {len(losses)} steps, up to learning rate {reached:.3g}"
    remedy = "lower optimizer.lr, set optimizer.clip_grad, or check labels and model.pretrained"
    for step, loss in enumerate(losses, 1):
        if not math.isfinite(loss):
            return Finding("error", "learning", f"the loss on one batch is NaN or infinite at step {step}; {remedy}")
    if last < first:
        return Finding("ok", "learning", text)
    if len(losses) < STEPS:
        return Finding("warning", "learning", f"{text}; {SECONDS:.0f} s are too short to tell whether it falls")
    return Finding("error", "learning", f"{text}: it does not fall; {remedy}")


def checkpoint_bytes(module: TrainingModule) -> int:
    """Returns the size of a checkpoint: weights, EMA, BatchNorm statistics, and the state of the optimizer."""
    optimizer = module.config.optimizer
    state: int = sum(value.numel() * value.element_size() for value in module.state_dict().values())
    moments = int(optimizer.momentum > 0) if optimizer.name == "sgd" else 2
    return state + moments * sum(shape.numel() * p.element_size() for p, shape in true_shapes(module.model))
