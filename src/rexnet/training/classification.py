"""Trains a classifier: assembles network, loss and data from a config, and runs them."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from pytorch_lightning.callbacks import Callback

from rexnet.config import Config
from rexnet.config.load import resolve_batch_size
from rexnet.config.schema import PRETRAINED
from rexnet.data.datamodule import ImageData
from rexnet.data.datasets import load_index
from rexnet.data.datasets.remarks import describe_splits
from rexnet.data.keys import mix
from rexnet.models.depthwise import train_depthwise_in_fp32
from rexnet.models.factory import adopt_preprocessing, build_model
from rexnet.models.padding import pad_channels
from rexnet.runs.image_list import write_image_list
from rexnet.runs.run_folder import find_named_run
from rexnet.system.device import resolve_device
from rexnet.training.accumulation import SameInAllProcesses, find_batch_size, settle_accumulation
from rexnet.training.callbacks.validation_images import ValidationImages
from rexnet.training.classifier import Classifier
from rexnet.training.distillation import load_distillation
from rexnet.training.losses import build_loss
from rexnet.training.resume import find_resumed, require_same_data
from rexnet.training.run_training import TrainingResult, log_start, run_training
from rexnet.training.signals import end_with_parent
from rexnet.training.trainer import build_trainer

log = logging.getLogger(__name__)


def train(
    config: Config, resume: Path | None = None, callbacks: Sequence[Callback] = (), allowed: Collection[str] = ()
) -> TrainingResult:
    """Trains a classifier.

    Its weights come from the checkpoint to resume, else from `model.pretrained`, else from the seed.

    Args:
        config: the run.
        resume: a run folder or checkpoint to continue; None: start the run, or resume the one that `trainer.run_name`
            names.
        callbacks: more of Lightning's callbacks.
        allowed: keys of the recipe that may differ from those of the run to resume.

    Raises:
        Stopped: a signal ended the run after a checkpoint was saved.
        RexnetError: the config, the data, a weight file or the training itself is at fault.
    """
    resume = resume or find_named_run(config.trainer)
    resumed = find_resumed(resume) if resume is not None else None
    config = adopt_preprocessing(config)
    if resumed is not None:
        config = resolve_batch_size(config, resumed.config.data.step_images)
    if resumed is not None and config.trainer.accumulate == "auto":
        config = _replace(config, "trainer", accumulate=resumed.config.trainer.micro_batches)
    if resumed is not None and config.distillation is not None:
        config = _replace(config, "distillation", teacher_sha256=None)  # `require_resumable` compares the one found
    trainer = build_trainer(config, callbacks)
    end_with_parent(trainer)
    device = trainer.strategy.root_device
    if config.data.batch_size == "auto":
        config = settle_batch_size(config, trainer.world_size, device)
        agreement = SameInAllProcesses("data.batch_size", config.data.step_images, min)
        trainer.callbacks.append(agreement)  # type: ignore[attr-defined]
    data = ImageData(config, trainer.world_size)
    if resumed is not None:
        require_same_data(resumed, data.class_names, data.indexes, allowed)
    counts = data.train_index.class_counts().tolist()
    module = build_classifier(config, data.class_names, counts, data.steps_per_epoch, pretrained=resume is None)
    if config.trainer.accumulate == "auto":
        number = settle_accumulation(module, data.device_batch, device)
        module.config = _replace(module.config, "trainer", accumulate=number)
        log.info(f"trainer.accumulate: auto settled on {number}")
        if number > 1:
            data = ImageData(module.config, trainer.world_size)
        trainer.accumulate_grad_batches = number
        trainer.callbacks.append(SameInAllProcesses("trainer.accumulate", number, max))  # type: ignore[attr-defined]
    name = f"rexnet {config.model.width_mult:g}x" if config.model.name == "rexnet" else config.model.name
    images = (
        f"{len(data.train_index):,} training and {len(data.val_index):,} validation images of {len(data.class_names)} "
        f"classes{describe_splits(config.data)}"
    )
    log_start(module, trainer, name, images, data.remarks)
    if module.distillation is not None:
        log.info(module.distillation.cost)
    every = config.trainer.pictures_every_epochs
    pictures = [] if every is None else [ValidationImages(every)]
    result = run_training(
        module, data, trainer, resumed, allowed, lambda folder: write_image_list(folder, data.indexes), pictures
    )
    worst = module.worst_class and f"Worst class  {module.worst_class}\n"  # empty if a resumed run had nothing to do
    result.log_best(module, "Best top-1  ", " %", worst)
    return result


def settle_batch_size(config: Config, world_size: int, device: torch.device) -> Config:
    """Returns a config with numbers for `data.batch_size: auto`, found by trial, and its learning rates."""
    index = load_index(config.data, "train")
    module = build_classifier(config, index.class_names, index.class_counts().tolist(), 1, pretrained=False)
    number = find_batch_size(module, len(index), world_size * config.trainer.micro_batches, device)
    settled = resolve_batch_size(config, number)
    rates = f"{settled.optimizer.lr:g} ({config.optimizer.lr:g} for 256 images)"
    log.info(f"data.batch_size: auto settled on {number}, with optimizer.lr={rates}")
    return settled


def build_classifier(
    config: Config, names: Sequence[str], counts: Sequence[int], steps_per_epoch: int, pretrained: bool = True
) -> Classifier:
    """Builds the network for so many images of each class, with weights that depend on the seed, or pretrained ones."""
    torch.manual_seed(mix(config.seed) >> 1)
    model = build_model(config.model, names, pretrained)
    device, distillation = resolve_device(config.trainer), None
    if config.distillation is not None:
        initial = model
        if config.distillation.teacher == PRETRAINED and not pretrained:
            torch.manual_seed(mix(config.seed) >> 1)
            initial = build_model(config.model, names)
        distillation = load_distillation(config.distillation, model, initial, names, config.data, device)
        config = config.model_copy(update={"distillation": distillation.config})
    model = pad_channels(model, device.pad_channels).to(memory_format=device.memory_format)
    if device.accelerator == "cpu" and device.precision == "bf16-mixed":
        train_depthwise_in_fp32(model)
    return Classifier(config, model, build_loss(config.loss, counts), names, steps_per_epoch, distillation)


def _replace(config: Config, section: str, **values: object) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})
