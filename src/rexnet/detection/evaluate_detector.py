"""Runs trained detectors: on images of any size, and on a split as training's validation does."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rexnet.checkpoints.checkpoint import WeightsKind
from rexnet.data.loaders import build_eval_loader
from rexnet.detection.box_index import BoxIndex
from rexnet.detection.box_transforms import BoxTransform
from rexnet.detection.coco_metrics import Detections, Scores, evaluate_detections
from rexnet.detection.detection_data import DetectionData
from rexnet.detection.trained_detector import TrainedDetector, load_trained_detector
from rexnet.errors import ConfigError
from rexnet.runs.checkpoint_files import run_of
from rexnet.system.atomic_files import write_json
from rexnet.system.device import adapt_to_hardware, resolve_device
from rexnet.system.terminal import align, progress_bar

SHOWN = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR100", "mask_AP")


class PlacedDetector:
    """A trained detector on the device of its config, as far as this machine has it."""

    def __init__(self, trained: TrainedDetector) -> None:
        self.device = resolve_device(adapt_to_hardware(trained.config.trainer))
        self.model = self.device.place(trained.model)
        lite = trained.config.detector.name == "ssdlite"
        self.transform = BoxTransform((), trained.config.data.image_size if lite else None)

    def detect(self, images: Sequence[Tensor], scales: Sequence[Tensor]) -> list[Detections]:
        """Returns the detections in images of 0..1, float (3, H, W), whose files are larger by `scales` (4,)."""
        with torch.inference_mode(), self.device.autocast():
            outputs = self.model([image.to(self.device.torch_device) for image in images]) if images else []
        return [Detections.of(output, scale) for output, scale in zip(outputs, scales, strict=True)]

    def detect_pixels(self, pixels: np.ndarray) -> Detections:
        """Returns the detections in an RGB image, uint8 (H, W, 3)."""
        seen = self.transform(pixels, np.zeros((0, 4), np.float32), [], 0).image
        scale = [pixels.shape[axis] / seen.shape[axis] for axis in (1, 0, 1, 0)]
        image = torch.from_numpy(np.ascontiguousarray(seen)).permute(2, 0, 1).float() / 255
        return self.detect([image], [torch.tensor(scale)])[0]


class Evaluated(NamedTuple):
    """The results of a detector on the validation images."""

    name: str  # of the run, or else of the file
    trained: TrainedDetector
    objects: BoxIndex
    found: list[Detections]
    scores: Scores


def evaluate_detector(trained: TrainedDetector, root: Path | None = None) -> Evaluated:
    """Evaluates a detector in the batches of training's validation, so that it repeats its numbers.

    Raises:
        ConfigError: the data at `root` has other classes.
    """
    changes: dict[str, Any] = {"trainer": adapt_to_hardware(trained.config.trainer)}
    if root is not None:
        changes["data"] = trained.config.data.model_copy(update={"root": root})
    data, detector = DetectionData(trained.config.model_copy(update=changes)), PlacedDetector(trained)
    index, found = data.val_index, list[Detections]()
    if data.class_names != trained.class_names:
        raise ConfigError(f"{index.root}: its classes differ from those of {trained.path} in name or order")
    with progress_bar(len(index), " images") as bar:
        for batch in build_eval_loader(data.val_dataset, data.eval_batch, data.loader_settings):
            images, targets = data.on_after_batch_transfer(batch, 0)
            found += detector.detect(images, [target["scale"] for target in targets])
            bar.update(len(images))
    name = (run_of(trained.path) or trained.path).resolve().name
    return Evaluated(name, trained, index, found, evaluate_detections(index, found, trained.class_names))


def evaluate_and_print(
    sources: Sequence[str], weights: Sequence[WeightsKind], root: Path | None, as_json: Path | None
) -> None:
    """Evaluates runs and checkpoints of detectors, prints a table and the AP of each class, and writes both as JSON."""
    results = [
        evaluate_detector(load_trained_detector(Path(source), kind), root)
        for source in sources
        for kind in (weights or (None,))
    ]
    names = [name for name in SHOWN if any(name in result.scores.values for result in results)]
    rows = [["detector", "weights", *names, "images"]]
    for name, trained, _, found, scores in results:
        cells = (f"{scores.values.get(metric, math.nan):.2f}" for metric in names)
        rows.append([name, trained.weights, *cells, str(len(found))])
    print("\n".join(align(rows)))
    for name, trained, _, _, scores in results:
        print(f"\nAP of the classes ({name}, {trained.weights})")
        print("\n".join(align([[each, f"{value:.2f}"] for each, value in scores.per_class.items()])))
    if as_json is not None:
        content = [
            {"detector": name, "checkpoint": trained.path.name, "weights": trained.weights, "images": len(found)}
            | {**scores.values, "AP_of_classes": scores.per_class}
            for name, trained, _, found, scores in results
        ]
        write_json(as_json, content)
