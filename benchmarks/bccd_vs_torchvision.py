"""Trains SSDLite on blood cells: ours, and torchvision's by the plain loop of its reference, on the same batches.

Usage: python benchmarks/bccd_vs_torchvision.py /path/to/bccd --weights lite0.safetensors --json result.json

1. The time of a training step of our program and of a plain loop, in turns, with the same network and batches.
2. AP of EfficientNet-Lite0 with its ImageNet weights, ReXNet 1.0x from scratch, and torchvision's
   ssdlite320_mobilenet_v3_large from scratch: one recipe, the same batches, and the same evaluation.
"""

import argparse
import contextlib
import copy
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from rexnet.config import DetectionConfig, load_config
from rexnet.data.keys import mix
from rexnet.data.loaders import build_eval_loader, build_loader
from rexnet.detection.coco_metrics import Detections, evaluate_detections
from rexnet.detection.detection_data import DetectionData
from rexnet.detection.evaluate_detector import evaluate_detector
from rexnet.detection.train_detector import train_detector
from rexnet.detection.trained_detector import load_trained_detector
from rexnet.system.device import resolve_device
from rexnet.training.schedule import build_schedule

SHOWN = ("AP", "AP50", "AP75")
STEPS, WARM_UP = 60, 5


class PlainLoop(Callback):
    """After each step of our program, makes one of a plain loop with a copy of the network and the same batch.

    A step of ours is all the time between two steps of the plain loop, except for the wait for data. Loader processes
    would prepare the next batch during our steps only, so `compare_steps` loads without them.
    """

    def __init__(self) -> None:
        self.ours: list[float] = []
        self.plain: list[float] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.model = copy.deepcopy(pl_module.model)
        optimizer = pl_module.config.optimizer
        self.optimizer = torch.optim.AdamW(self.model.parameters(), optimizer.lr, weight_decay=optimizer.weight_decay)
        self.autocast = resolve_device(pl_module.config.trainer).autocast
        self._left = time.perf_counter()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._waited = trainer.datamodule.received - self._left

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        start = time.perf_counter()
        self.ours.append(start - self._left - self._waited)
        step(self.model, self.optimizer, batch, self.autocast)
        self.plain.append(time.perf_counter() - start)
        self._left = time.perf_counter()


def step(model: Any, optimizer: Any, batch: Any, autocast: Any) -> float:
    """Makes one step as torchvision's `train_one_epoch` does; returns the loss, which it also reads in every step."""
    images, targets = batch
    with autocast():
        losses = model(images, targets)
        loss = sum(losses.values())
    value = loss.item()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return value


def compare_steps(config: DetectionConfig) -> dict[str, float]:
    """Returns the median times of our step and the plain one, and the median of their ratios."""
    loop = PlainLoop()
    train_detector(config, callbacks=[loop])
    ours, plain = loop.ours[WARM_UP:], loop.plain[WARM_UP:]
    ratios = [one / other for one, other in zip(ours, plain, strict=True)]
    return {
        "ours_s": statistics.median(ours),
        "plain_s": statistics.median(plain),
        "ratio": statistics.median(ratios),
    }


def train_ours(config: DetectionConfig) -> dict[str, Any]:
    """Trains with our program; returns the scores of the last epoch's EMA."""
    start = time.perf_counter()
    result = train_detector(config)
    seconds = time.perf_counter() - start
    trained = load_trained_detector(result.run / "checkpoints" / "last.ckpt", "ema")
    scores = evaluate_detector(trained).scores
    logged = [result.metrics[f"val_ema/{name}"] for name in SHOWN]  # in float32, as Lightning keeps them
    repeated = logged == torch.tensor([scores.values[name] for name in SHOWN]).tolist()
    return {name: scores.values[name] for name in SHOWN} | {"seconds": seconds, "evaluation_repeats": repeated}


def train_torchvisions(config: DetectionConfig) -> dict[str, Any]:
    """Trains torchvision's detector from scratch by the plain loop; returns the scores after the last epoch.

    It computes in fp32, as its reference does by default: in bf16, torchvision rounds coordinates to 2 px.
    """
    torch.manual_seed(mix(config.seed) >> 1)
    data = DetectionData(config)
    model = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=len(data.class_names) + 1
    ).to(memory_format=torch.channels_last)
    settings = config.optimizer
    optimizer = torch.optim.AdamW(model.parameters(), settings.lr, weight_decay=settings.weight_decay)
    schedule = build_schedule(config.schedule, settings.lr, data.steps_per_epoch)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    sampler = data.train_sampler(rank=0)
    loader = build_loader(data.train_dataset, sampler, data.loader_settings)
    start = time.perf_counter()
    for epoch in range(config.schedule.total_epochs):
        sampler.set_epoch(epoch)
        for batch in loader:
            step(model, optimizer, data.on_after_batch_transfer(batch, 0), contextlib.nullcontext)
            scheduler.step()
    seconds, found = time.perf_counter() - start, []
    model.eval()
    for batch in build_eval_loader(data.val_dataset, data.eval_batch, data.loader_settings):
        images, targets = data.on_after_batch_transfer(batch, 0)
        with torch.inference_mode():
            outputs = model(images)
        found += [Detections.of(output, target["scale"]) for output, target in zip(outputs, targets, strict=True)]
    scores = evaluate_detections(data.val_index, found, data.class_names)
    return {name: scores.values[name] for name in SHOWN} | {"seconds": seconds}


def main() -> None:
    """Measures, and prints one line for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="data set in COCO's form")
    parser.add_argument(
        "--weights", required=True, help="weights of EfficientNet-Lite0, of benchmarks/lite0_weights.py"
    )
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*", help="section.key=value")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        common = [f"data.root={options.root}", "data.on_bad_box=drop", f"schedule.epochs={options.epochs}"]
        common += [f"trainer.val_every_epochs={options.epochs}", f"trainer.runs_dir={folder}", *options.overrides]
        lite0 = ["model.name=timm/tf_efficientnet_lite0", f"model.pretrained={options.weights}"]

        def configured(*more: str) -> DetectionConfig:
            return load_config("detect/finetune", [*common, *more], DetectionConfig)

        results: dict[str, Any] = {}
        for name, measure in {
            "training step, ReXNet 1.0x": lambda: compare_steps(
                configured(f"trainer.max_steps={STEPS}", "data.num_workers=0")
            ),
            "EfficientNet-Lite0, pretrained": lambda: train_ours(configured(*lite0)),
            "ReXNet 1.0x, from scratch": lambda: train_ours(configured()),
            "torchvision's MobileNetV3, from scratch": lambda: train_torchvisions(configured()),
        }.items():
            results[name] = measure()
            cells = [f"{key} {value:.4g}" for key, value in results[name].items()]
            print(f"{name:40} {'  '.join(cells)}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
