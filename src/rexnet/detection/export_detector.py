"""Exports trained detectors as ONNX and safetensors, and compares the ONNX file with the network on real images."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from rexnet.checkpoints.checkpoint import WeightsKind, build_description
from rexnet.detection.box_index import BoxIndex
from rexnet.detection.box_sets import load_box_index
from rexnet.detection.coco_metrics import Detections, evaluate_detections
from rexnet.detection.deployed_detector import DeployedSSDLite, resize
from rexnet.detection.trained_detector import TrainedDetector, load_trained_detector
from rexnet.errors import ConfigError, DataError, ExportError
from rexnet.export.formats import describe_network, write_graph, write_weights
from rexnet.export.reading import open_session
from rexnet.runs.checkpoint_files import run_of
from rexnet.system.atomic_files import write_file

log = logging.getLogger(__name__)

COMPARED_SCORE = 0.05
MIN_AGREEMENT = 99.9  # percent; rounding decides where two overlaps or scores are nearly equal
SAME = 1e-3  # largest difference of scores, and of boxes relative to the image's long side


class DetectionParity(NamedTuple):
    """The agreement of an ONNX file with its network in PyTorch."""

    network_ap: float  # in percent
    ap: float  # of the file
    agreement: float  # percentage of the network's detections (of at least 0.05) that the file finds, too
    score_difference: float  # largest difference of their scores
    box_difference: float  # largest difference of their coordinates, in pixels

    def describe(self) -> str:
        """Returns a Markdown table."""
        file = f"{self.ap:.2f} | {self.agreement:.2f} | {self.score_difference:.1e} | {self.box_difference:.1e}"
        lines = ["| form | AP % | same detections % | scores differ by | boxes differ by, px |", "| --- " * 5 + "|"]
        return "\n".join([*lines, f"| PyTorch | {self.network_ap:.2f} | | | |", f"| ONNX, ONNX Runtime | {file} |"])


def export_detector(
    source: Path,
    formats: Sequence[str],
    output: Path | None = None,
    root: Path | None = None,
    weights: WeightsKind | None = None,
    max_images: int | None = None,
) -> DetectionParity | None:
    """Writes the files and `parity.md` into a folder, and returns the parity of network and file on validation images.

    The arguments are those of `rexnet.export.export.export`.

    Raises:
        RexnetError: the checkpoint, the images or the folder is faulty, or the file differs from the network.
    """
    if other := [name for name in formats if name not in ("onnx", "safetensors")]:
        raise ConfigError(f"--to {other[0]}: detectors are exported as onnx or safetensors only")
    trained = load_trained_detector(source, weights)
    config = trained.config
    if "onnx" in formats and config.detector.name != "ssdlite":
        raise ConfigError(f"--to onnx: {trained.path} is a {config.detector.name}; only ssdlite is exported as onnx")
    folder = output or (run_of(trained.path) or trained.path.parent) / "export"
    entry = build_description(config, trained.class_names, trained.metrics)
    description = describe_network(config.model, entry, trained.weights)
    description |= {"detector": config.detector.name, "image_size": str(config.data.image_size)}
    if "safetensors" in formats:
        write_weights(trained.model, folder / "model.safetensors", description)
    if "onnx" not in formats:
        return None
    try:
        data = config.data if root is None else config.data.model_copy(update={"root": root})
        index = load_box_index(data, "val", trained.class_names)
    except DataError as error:
        if root is not None:
            raise
        log.warning(f"the file will not be compared with the network ({error}); name the images with --data")
        index = None
    path, report = folder / "model.onnx", folder / "parity.md"
    write_graph(
        DeployedSSDLite(trained.model).eval(),
        (torch.zeros(2, 96, 128, 3, dtype=torch.uint8),),
        path,
        description,
        axes=("batch", "height", "width"),
        outputs=("boxes", "scores", "labels"),
        translations={torch.ops.rexnet.mask_of_nms.default: _translate_nms},
    )
    if index is None:
        return None
    if max_images is not None:
        index = index.select(np.linspace(0, len(index) - 1, min(max_images, len(index))).astype(np.int64))
    parity = measure_parity(trained, path, index)
    text = f"{trained.path} ({trained.weights} weights) on {len(index)} images of {index.root}\n\n{parity.describe()}\n"
    write_file(report, f"# {text}")
    log.info(f"\n{text}written to {report}")
    if parity.agreement < MIN_AGREEMENT:
        raise ExportError(f"{path}: differs from the network in {100 - parity.agreement:.2f} % of the detections")
    return parity


def measure_parity(trained: TrainedDetector, path: Path, index: BoxIndex) -> DetectionParity:
    """Detects with the network and with the ONNX file in each image.

    Two detections are the same if class, score (to 0.001) and box (to 0.1 % of the image's long side) agree.
    """
    session, side = open_session(path), trained.config.data.image_size
    expected, found, differences = list[Detections](), list[Detections](), []
    for position, size in enumerate(index.sizes):
        pixels = index.read_pixels(position)[None]
        with torch.inference_mode():
            output = trained.model(list(resize(torch.from_numpy(pixels), side)))[0]
        expected.append(Detections.of(output, torch.tensor(np.tile(size[::-1], 2) / side)))
        boxes, scores, labels = (each[0] for each in session.run(None, {"images": pixels}))
        found.append(Detections(*(each[scores > 0] for each in (boxes, scores, labels))))
        differences.append(_compare(expected[-1].above(COMPARED_SCORE), found[-1], SAME * size.max()))
    rows = np.concatenate(differences)
    twins = rows[np.isfinite(rows).all(1)]
    agreement = 100 * len(twins) / len(rows) if len(rows) else 100.0
    ap, network_ap = (evaluate_detections(index, each, trained.class_names).values["AP"] for each in (found, expected))
    return DetectionParity(network_ap, ap, agreement, *map(float, twins.max(0, initial=0)))


def _compare(wanted: Detections, found: Detections, tolerance: float) -> np.ndarray:
    """Returns the differences (n, 2) of score and box to the nearest detection of the same class; inf without one."""
    scores = np.abs(wanted.scores[:, None] - found.scores)
    boxes = np.abs(wanted.boxes[:, None] - found.boxes).max(2, initial=0)
    is_same = (wanted.labels[:, None] == found.labels) & (scores <= SAME) & (boxes <= tolerance)
    return np.column_stack([np.where(is_same, each, np.inf).min(1, initial=np.inf) for each in (scores, boxes)])


def _translate_nms(boxes: Any, scores: Any, threshold: float) -> Any:
    """Expresses `mask_of_nms` by operators of ONNX."""
    from onnxscript import opset18 as op

    kept = op.NonMaxSuppression(boxes, op.Unsqueeze(scores, [1]), [2**63 - 1], [threshold])  # rows of (group, 0, box)
    places = op.Gather(kept, [0, 2], axis=1)
    ones = op.Expand([1.0], op.Slice(op.Shape(places), [0], [1]))
    mask = op.ScatterND(op.ConstantOfShape(op.Shape(scores)), places, ones)
    return op.Cast(mask, to=9)  # bool
