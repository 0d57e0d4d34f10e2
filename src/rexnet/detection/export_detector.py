"""Exports trained detectors as ONNX and safetensors, and compares the ONNX file with the network on real images."""

import io
import itertools
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from rexnet.checkpoints.checkpoint import WeightsKind, build_description
from rexnet.data.sources.decode import open_image
from rexnet.detection.box_index import BoxIndex
from rexnet.detection.box_sets import load_box_index
from rexnet.detection.coco_metrics import Detections, evaluate_detections
from rexnet.detection.deployed_detector import OUTPUTS, DeployedRCNN, DeployedSSDLite, mask_of_nms
from rexnet.detection.trained_detector import TrainedDetector, load_trained_detector
from rexnet.errors import ConfigError, DataError, ExportError
from rexnet.export.formats import OPSET, describe_network, quiet, require_onnx, write_graph, write_proto, write_weights
from rexnet.export.reading import open_session
from rexnet.runs.checkpoint_files import run_of
from rexnet.system.atomic_files import atomic_write

log = logging.getLogger(__name__)

FORMATS = ("onnx", "safetensors")
COMPARED_SCORE = 0.05
MAX_DIFFERENCE = 1e-3  # of a score, and of a box relative to the image's side
BATCH = 4


class DetectionParity(NamedTuple):
    """An ONNX file compared with its network."""

    network_ap: float
    """AP of the network in PyTorch, in percent."""
    file_ap: float
    """AP of the file."""
    agreement: float
    """Percentage of the network's detections with a score of at least 0.05 that the file finds, too."""
    score_difference: float
    """Largest difference of the scores of those."""
    box_difference: float
    """Largest difference of the coordinates of those, in pixels."""
    network_images_per_s: float
    file_images_per_s: float
    n: int
    """Number of images."""


def export_detector(
    source: Path,
    formats: Sequence[str],
    output: Path | None = None,
    root: Path | None = None,
    weights: WeightsKind | None = None,
    max_images: int | None = None,
) -> DetectionParity | None:
    """Writes the files and `parity.md` into a folder, and returns the parity of the ONNX file on validation images.

    The arguments are those of `rexnet.export.export.export`. None: nothing to compare, or the images are not here.

    Raises:
        RexnetError: the checkpoint, the images or the folder is faulty, or the file differs from the network.
    """
    if other := [name for name in formats if name not in FORMATS]:
        raise ConfigError(f"--to {other[0]}: detectors are exported as {' or '.join(FORMATS)} only")
    trained = load_trained_detector(source, weights)
    folder = output or (run_of(trained.path) or trained.path.parent) / "export"
    description = describe_detector(trained)
    if "safetensors" in formats:
        write_weights(trained.model, folder / "model.safetensors", description)
    if "onnx" not in formats:
        return None
    index = _find_images(trained, root)
    path = folder / "model.onnx"
    write_detector(trained, path, description)
    if index is None:
        log.warning("the file was not compared with the network: the images are not here; name them with --data")
        return None
    parity = measure_parity(trained, path, index, max_images)
    table = describe_parity(parity)
    title = f"{trained.path} ({trained.weights} weights) on {parity.n} images of {index.root}"
    with atomic_write(folder / "parity.md") as temporary:
        temporary.write_text(f"# {title}\n\n{table}\n", encoding="utf-8")
    log.info(f"\n{title}\n{table}\nwritten to {folder}")
    side = max(index.sizes.max(), 1)
    if parity.agreement < 100 or max(parity.score_difference, parity.box_difference / side) > MAX_DIFFERENCE:
        raise ExportError(f"{path}: differs from the network; see {folder / 'parity.md'}")
    return parity


def describe_detector(trained: TrainedDetector) -> dict[str, str]:
    """Returns text entries for the header of a file; this program reads the entry `rexnet` back."""
    config = trained.config
    entry = build_description(config, trained.class_names, trained.metrics)
    shared = describe_network(config.model, entry, trained.weights)
    return {**shared, "detector": config.detector.name, "image_size": str(config.data.image_size)}


def write_detector(trained: TrainedDetector, path: Path, description: dict[str, str]) -> None:
    """Writes an ONNX graph with input `images` and outputs `boxes`, `scores` and `labels`."""
    require_onnx()
    example = torch.zeros(2, 96, 128, 3, dtype=torch.uint8)
    if trained.config.detector.name == "ssdlite":
        translations = {torch.ops.rexnet.mask_of_nms.default: _translate_nms}
        axes = ("batch", "height", "width")
        write_graph(DeployedSSDLite(trained.model).eval(), (example,), path, description, OUTPUTS, axes, translations)
        return
    import onnx

    content = io.BytesIO()
    sizes = {"images": {1: "height", 2: "width"}, **{name: {1: "detections"} for name in OUTPUTS}}
    with quiet():  # the exporter of TorchScript: the new one cannot follow torchvision's R-CNNs (torch 2.15)
        torch.onnx.export(
            DeployedRCNN(trained.model).eval(),
            (example[:1],),
            content,
            dynamo=False,
            input_names=["images"],
            output_names=list(OUTPUTS),
            dynamic_axes=sizes,
            opset_version=OPSET,
        )
    write_proto(onnx.load_from_string(content.getvalue()), path, description)


def measure_parity(trained: TrainedDetector, path: Path, index: BoxIndex, max_images: int | None) -> DetectionParity:
    """Detects with the network and with the ONNX file in turns, in batches of images of one size."""
    session, network = open_session(path), trained.model.to(memory_format=torch.channels_last)
    size = BATCH if trained.config.detector.name == "ssdlite" else 1
    found: dict[str, dict[int, Detections]] = {"network": {}, "file": {}}
    seconds = dict.fromkeys(found, 0.0)
    for positions in _batches_of_one_size(index, max_images, size):
        images = np.stack([np.asarray(open_image(index.source.read(at), index.name(at))) for at in positions])
        start = time.perf_counter()
        with torch.inference_mode():
            outputs = network(list(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255))
        middle = time.perf_counter()
        boxes, scores, labels = session.run(None, {"images": images})[:3]
        seconds["network"] += middle - start
        seconds["file"] += time.perf_counter() - middle
        for row, at in enumerate(positions):
            found["network"][at] = Detections.of({name: outputs[row][name] for name in OUTPUTS})
            there = scores[row] > 0
            found["file"][at] = Detections(boxes[row][there], scores[row][there], labels[row][there])
    positions = sorted(found["network"])
    part = index.select(np.array(positions))
    ap = {
        form: evaluate_detections(part, [of[at] for at in positions], trained.class_names).values.get("AP", 0.0)
        for form, of in found.items()
    }
    twins = [_find_twins(found["network"][at].above(COMPARED_SCORE), found["file"][at]) for at in positions]
    differences = np.concatenate(twins)
    same = (differences[:, 0] <= MAX_DIFFERENCE) if len(differences) else np.ones(0)
    return DetectionParity(
        ap["network"],
        ap["file"],
        100 * float(same.mean()) if len(same) else 100.0,
        float(differences[:, 0].max(initial=0)),
        float(differences[:, 1].max(initial=0)),
        len(positions) / seconds["network"],
        len(positions) / seconds["file"],
        len(positions),
    )


def _find_twins(wanted: Detections, found: Detections) -> np.ndarray:
    """Returns (n, 2): how far the nearest detection of the same class is from each wanted one, in score and box."""
    rows = []
    for box, score, label in zip(wanted.boxes, wanted.scores, wanted.labels, strict=True):
        same = found.labels == label
        distances = np.abs(found.boxes[same] - box).max(1, initial=0)
        scores = np.abs(found.scores[same] - score)
        rows.append((np.inf, np.inf))
        if len(distances):
            best = (distances + scores).argmin()
            rows[-1] = (scores[best], distances[best])
    return np.array(rows).reshape(-1, 2)
