"""Trains a detector: assembles network and data from a config, and runs them."""

import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from pytorch_lightning.callbacks import Callback

from rexnet.config import DetectionConfig
from rexnet.data.datasets.index import Split
from rexnet.data.keys import mix
from rexnet.detection.box_index import BoxIndex
from rexnet.detection.detection_data import DetectionData
from rexnet.detection.detector_module import DetectionImages, Detector
from rexnet.detection.detectors import build_detector
from rexnet.models.depthwise import train_depthwise_in_fp32
from rexnet.models.factory import adopt_preprocessing
from rexnet.runs.image_list import Listed, write_image_list
from rexnet.runs.run_folder import find_named_run
from rexnet.system.device import resolve_device
from rexnet.training.resume import find_resumed, require_same_data
from rexnet.training.run_training import TrainingResult, log_start, run_training
from rexnet.training.signals import end_with_parent
from rexnet.training.trainer import build_trainer


def train_detector(
    config: DetectionConfig,
    resume: Path | None = None,
    callbacks: Sequence[Callback] = (),
    allowed: Collection[str] = (),
) -> TrainingResult:
    """Trains a detector, as `rexnet.training.classification.train` trains a classifier.

    Its weights come from the checkpoint to resume, else from `detector.weights`, else from `model.pretrained` for the
    backbone, else from the seed.
    """
    resume = resume or find_named_run(config.trainer)
    resumed = find_resumed(resume) if resume is not None else None
    config = adopt_preprocessing(config)
    trainer = build_trainer(config, callbacks)
    end_with_parent(trainer)
    data = DetectionData(config, trainer.world_size)
    listed: dict[Split, Listed] = {"train": list_objects(data.train_index), "val": list_objects(data.val_index)}
    if resumed is not None:
        require_same_data(resumed, data.class_names, listed, allowed)
    module = build_module(config, data.class_names, data.steps_per_epoch, pretrained=resume is None)
    images = (
        f"{len(data.train_index):,} training and {len(data.val_index):,} validation images with "
        f"{len(data.train_index.boxes):,} and {len(data.val_index.boxes):,} objects of {len(data.class_names)} classes"
    )
    log_start(module, trainer, f"{config.detector.name} with {config.model.name}", images, data.remarks)
    every = config.trainer.pictures_every_epochs
    pictures = [] if every is None else [DetectionImages(every)]
    result = run_training(
        module, data, trainer, resumed, allowed, lambda folder: write_image_list(folder, listed), pictures
    )
    result.log_best(module, "Best AP     ", "")
    return result


def build_module(
    config: DetectionConfig, class_names: Sequence[str], steps_per_epoch: int, pretrained: bool = True
) -> Detector:
    """Builds the detector with weights that depend on the seed, or pretrained ones."""
    torch.manual_seed(mix(config.seed) >> 1)
    device = resolve_device(config.trainer)
    model = build_detector(config, len(class_names), pretrained).to(memory_format=device.memory_format)
    if device.accelerator == "cpu" and device.precision == "bf16-mixed":
        train_depthwise_in_fp32(model)
    return Detector(config, model, class_names, steps_per_epoch)


def list_objects(index: BoxIndex) -> list[tuple[str, str]]:
    """Returns a checksum of each image's objects, and its path."""
    slices = [index.objects_of(position) for position in range(len(index))]
    checksums = [zlib.crc32(index.boxes[s].tobytes() + index.labels[s].tobytes()) for s in slices]
    return [(f"{checksum:08x}", path) for checksum, path in zip(checksums, index.source.paths, strict=True)]
