"""Predictions made now, from a run's best checkpoint."""

from pathlib import Path

import torch

from rexnet.checkpoint import Trained, find_checkpoint, load_trained
from rexnet.data.datamodule import build_eval_loader
from rexnet.data.device import normalize
from rexnet.data.index import Index
from rexnet.errors import CheckpointError
from rexnet.evaluation.predictions import Predictions, predictions_path, save_predictions
from rexnet.hardware import (
    autocast_dtype,
    resolve_accelerator,
    resolve_precision,
    set_up_arithmetic,
    use_channels_last,
    with_available_hardware,
)
from rexnet.report.measured import Measured


def measure_best(run: Path, index: Index) -> Measured | None:
    """Predictions of the best checkpoint on the validation images, kept in `RUN/evaluation`; None without a checkpoint.

    Raises:
        RexnetError: the checkpoint is damaged, has other classes than the images, or an image is broken.
    """
    try:
        best = find_checkpoint(run)
    except CheckpointError:  # none yet
        return None
    trained = load_trained(best)
    if trained.class_names != index.class_names:
        raise CheckpointError(f"{best}: has other classes than {index.root}")
    predictions = _predict(trained, index)
    save_predictions(predictions_path(run, best.stem, trained.weights, "val"), predictions)
    return Measured(best.stem, trained.weights, "val", predictions)


def _predict(trained: Trained, index: Index) -> Predictions:
    """Logits of every image of an index, in the precision of training."""
    config = with_available_hardware(trained.config)
    accelerator = resolve_accelerator(config)
    set_up_arithmetic(config, accelerator)
    dtype = autocast_dtype(resolve_precision(config, accelerator))
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    layout = torch.channels_last if use_channels_last(config) else torch.contiguous_format
    model, data, parts = trained.model.to(device).to(memory_format=layout), config.data, []
    with torch.inference_mode(), torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        for batch in build_eval_loader(config, index):
            images = normalize(batch.images.to(device), data.mean, data.std, use_channels_last(config))
            parts.append(model(images).float().cpu())
    return Predictions(torch.cat(parts).numpy(), index.labels, tuple(map(str, index.paths)), index.class_names)
