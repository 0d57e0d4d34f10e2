"""Measures a checkpoint on a split, exactly as training's validation did."""

import json
import time
from pathlib import Path
from typing import Any

import torch

from rexnet.checkpoint import Trained, WeightsKind, load_trained
from rexnet.data.datamodule import build_eval_loader, load_eval_index
from rexnet.data.device import normalize
from rexnet.data.index import Index, Split
from rexnet.data.workers import explained_faults
from rexnet.errors import ConfigError, DataError
from rexnet.evaluation.metrics import ClassificationMetrics
from rexnet.hardware import (
    autocast_dtype,
    resolve_accelerator,
    resolve_precision,
    set_up_arithmetic,
    use_channels_last,
    with_available_hardware,
)


def evaluate(
    checkpoint: Path,
    root: Path | None = None,
    weights: WeightsKind | None = None,
    split: Split = "val",
    json_path: Path | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Top-1, top-5 and loss of a checkpoint, rebuilt from the file alone; printed, written as JSON, returned.

    Args:
        checkpoint: a checkpoint file, or a run folder, whose best checkpoint is taken.
        root: a folder of the same layout and classes; None takes the one of training.
        weights: averaged or raw; None takes the averaged where there are any.
        split: which images.
        json_path: where the result goes; None: beside the checkpoints, named after checkpoint, weights and split.
        workers: loader processes; None takes those of training.

    Raises:
        RexnetError: the checkpoint or the data is at fault; said in one line.
    """
    trained = load_trained(checkpoint, weights)
    if workers is not None:
        data = trained.config.data.model_copy(update={"num_workers": workers})
        trained = trained._replace(config=trained.config.model_copy(update={"data": data}))
    index = load_eval_index(trained.config, split, root)
    _require_same_classes(trained, index)
    result: dict[str, Any] = {
        "checkpoint": str(trained.path),
        "weights": trained.weights,
        "data": str(index.root),
        "split": split,
        **measure(trained, index),
    }
    print(_describe(result, trained))
    if json_path is None:
        of_root = "" if root is None else f"-{root.resolve().name}"
        json_path = trained.path.with_name(f"{trained.path.stem}-{trained.weights}-{split}{of_root}.json")
    try:
        json_path.write_text(json.dumps(result, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"{json_path}: the result above could not be written: {error.strerror}; see --json") from None
    print(f"written to {json_path}")
    return result


def measure(trained: Trained, index: Index) -> dict[str, float]:
    """`top1`, `top5` (percent), `loss`, `n` and `images_per_s` of a classifier on an index, in its own precision."""
    config = with_available_hardware(trained.config)
    accelerator = resolve_accelerator(config)
    set_up_arithmetic(config, accelerator)
    dtype = autocast_dtype(resolve_precision(config, accelerator))
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    layout = torch.channels_last if use_channels_last(config) else torch.contiguous_format
    model = trained.model.to(device).to(memory_format=layout)
    metrics, data = ClassificationMetrics().to(device), config.data
    start = time.perf_counter()
    with torch.inference_mode(), torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        loader = build_eval_loader(config, index)
        with explained_faults([loader.dataset], config.data.worker_timeout):
            for batch in loader:
                images = normalize(batch.images.to(device), data.mean, data.std, use_channels_last(config))
                metrics.update(model(images), batch.labels.to(device))
    values = {name: value.item() for name, value in metrics.compute().items()}
    assert values["n"] == len(index), "every image is measured once"
    return values | {"images_per_s": len(index) / (time.perf_counter() - start)}


def _require_same_classes(trained: Trained, index: Index) -> None:
    if index.class_names != trained.class_names:
        other = sorted(set(index.class_names) ^ set(trained.class_names))[:3]
        raise DataError(
            f"{index.root}: has {len(index.class_names)} classes, other than the {len(trained.class_names)} of "
            f"{trained.path}; they differ in {', '.join(other) or 'their order'}"
        )


def _describe(result: dict[str, Any], trained: Trained) -> str:
    kind = "averaged" if trained.weights == "ema" else "raw"
    logged = trained.metrics.get("val_ema/top1" if trained.weights == "ema" else "val/top1")
    note = f"   (logged in training: {logged:.2f} %)" if logged is not None and result["split"] == "val" else ""
    return (
        f"{trained.path}, {kind} weights, on {result['data']}\n"
        f"top-1 {result['top1']:.2f} %{note}\n"
        f"top-5 {result['top5']:.2f} %\n"
        f"loss  {result['loss']:.4f}\n"
        f"n     {result['n']}\n"
        f"speed {result['images_per_s']:.0f} images/s"
    )
