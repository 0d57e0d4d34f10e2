"""Exports trained detectors as ONNX and safetensors, and compares the ONNX file with the network on real images."""

import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from rexnet.checkpoints.checkpoint import WeightsKind, build_description
from rexnet.data.sources.decode import open_image
from rexnet.detection.box_index import BoxIndex
from rexnet.detection.box_sets import load_box_index
from rexnet.detection.coco_metrics import Detections, evaluate_detections
from rexnet.detection.deployed_detector import OUTPUTS, DeployedRCNN, DeployedSSDLite, resize
from rexnet.detection.trained_detector import TrainedDetector, load_trained_detector
from rexnet.errors import ConfigError, DataError, ExportError
from rexnet.export.formats import OPSET, describe_network, quiet, require_onnx, write_proto, write_weights
from rexnet.export.reading import open_session
from rexnet.runs.checkpoint_files import run_of
from rexnet.system.atomic_files import atomic_write

log = logging.getLogger(__name__)

FORMATS = ("onnx", "safetensors")
COMPARED_SCORE = 0.05
MIN_AGREEMENT = 99.9  # percent; rounding decides where two overlaps or scores are nearly equal
SAME = 1e-3  # largest difference of scores, and of boxes relative to the image's long side
BATCH = 4


class DetectionParity(NamedTuple):
    """AP and speed of one form of a detector, and its agreement with the network in PyTorch."""

    ap: float
    """In percent."""
    agreement: float
    """Percentage of the network's detections with a score of at least 0.05 that this form finds, too."""
    score_difference: float
    """Largest difference of their scores."""
    box_difference: float
    """Largest difference of their coordinates, in pixels."""
    images_per_s: float
    n: int
    """Number of images."""


def export_detector(
    source: Path,
    formats: Sequence[str],
    output: Path | None = None,
    root: Path | None = None,
    weights: WeightsKind | None = None,
    max_images: int | None = None,
) -> dict[str, DetectionParity]:
    """Writes the files and `parity.md` into a folder, and returns the parity of network and file on validation images.

    The arguments are those of `rexnet.export.export.export`.

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
        return {}
    index = _find_images(trained, root)
    path = folder / "model.onnx"
    write_detector(trained, path, description)
    if index is None:
        return {}
    parities = measure_parity(trained, path, index, max_images)
    report, table = folder / "parity.md", describe_parity(parities)
    title = f"{trained.path} ({trained.weights} weights) on {parities['onnx'].n} images of {index.root}"
    with atomic_write(report) as temporary:
        temporary.write_text(f"# {title}\n\n{table}\n", encoding="utf-8")
    log.info(f"\n{title}\n{table}\nwritten to {report}")
    if parities["onnx"].agreement < MIN_AGREEMENT:
        raise ExportError(
            f"{path}: differs from the network in {100 - parities['onnx'].agreement:.2f} % of the detections"
        )
    return parities


def describe_detector(trained: TrainedDetector) -> dict[str, str]:
    """Returns text entries for the header of a file; this program reads the entry `rexnet` back."""
    config = trained.config
    entry = build_description(config, trained.class_names, trained.metrics)
    shared = describe_network(config.model, entry, trained.weights)
    return {**shared, "detector": config.detector.name, "image_size": str(config.data.image_size)}


def write_detector(trained: TrainedDetector, path: Path, description: dict[str, str]) -> None:
    """Writes an ONNX graph with input `images` and outputs `boxes`, `scores` and `labels`."""
    require_onnx()
    import onnx

    example = torch.zeros(2, 96, 128, 3, dtype=torch.uint8)
    axes = {place: torch.export.Dim(name) for place, name in enumerate(("batch", "height", "width"))}
    names: dict[str, Any] = {"input_names": ["images"], "output_names": list(OUTPUTS), "opset_version": OPSET}
    with quiet(), tempfile.TemporaryDirectory() as folder:
        if trained.config.detector.name == "ssdlite":
            program = torch.onnx.export(
                DeployedSSDLite(trained.model).eval(),
                (example,),
                dynamo=True,
                dynamic_shapes=(axes,),
                custom_translation_table={torch.ops.rexnet.mask_of_nms.default: _translate_nms},
                **names,
            )
            assert program is not None
            proto = program.model_proto
        else:  # the exporter of TorchScript; the newer one cannot follow torchvision's R-CNNs (torch 2.15)
            sizes = {"images": {1: "height", 2: "width"}, **{name: {1: "detections"} for name in OUTPUTS}}
            network, file = DeployedRCNN(trained.model).eval(), f"{folder}/model.onnx"
            torch.onnx.export(network, (example[:1],), file, dynamo=False, dynamic_axes=sizes, **names)
            proto = onnx.load(file)
    write_proto(proto, path, description)


def measure_parity(
    trained: TrainedDetector, path: Path, index: BoxIndex, max_images: int | None = None
) -> dict[str, DetectionParity]:
    """Detects with the network and with the ONNX file in turns, in batches of images of one size.

    Two detections are the same if class, score (to 0.001) and box (to 0.1 % of the image's long side) agree.
    """
    lite = trained.config.detector.name == "ssdlite"
    session, network = open_session(path), trained.model.to(memory_format=torch.channels_last)

    def run_network(images: np.ndarray) -> list[Detections]:
        with torch.inference_mode():
            pixels = torch.from_numpy(images)
            x = resize(pixels, trained.config.data.image_size) if lite else pixels.permute(0, 3, 1, 2).float() / 255
            outputs = network(list(x))
        height, width = (images.shape[axis] / x.shape[axis + 1] for axis in (1, 2))
        scale = torch.tensor([width, height, width, height])
        return [Detections.of({name: output[name] for name in OUTPUTS}, scale) for output in outputs]

    def run_file(images: np.ndarray) -> list[Detections]:
        outputs = zip(*session.run(None, {"images": images}), strict=True)
        return [
            Detections(boxes[scores > 0], scores[scores > 0], labels[scores > 0]) for boxes, scores, labels in outputs
        ]

    forms = {"network": run_network, "onnx": run_file}
    found: dict[str, list[Detections]] = {form: [] for form in forms}
    seconds, order = dict.fromkeys(forms, 0.0), list[int]()
    for positions in _batches_of_one_size(index, max_images, BATCH if lite else 1):
        images = np.stack([np.asarray(open_image(index.source.read(at), index.name(at))) for at in positions])
        order += positions
        for form, run in forms.items():
            start = time.perf_counter()
            found[form] += run(images)
            seconds[form] += time.perf_counter() - start
    part = index.select(np.array(order))
    parities = {}
    for form in forms:
        pairs = zip(found["network"], found[form], part.sizes.max(1), strict=True)
        rows = np.concatenate([_compare(wanted.above(COMPARED_SCORE), there, side) for wanted, there, side in pairs])
        twins = rows[np.isfinite(rows).all(1)]
        score_difference, box_difference = twins.max(0, initial=0)
        parities[form] = DetectionParity(
            evaluate_detections(part, found[form], trained.class_names).values.get("AP", 0.0),
            100 * len(twins) / len(rows) if len(rows) else 100.0,
            float(score_difference),
            float(box_difference),
            len(order) / seconds[form],
            len(order),
        )
    return parities


def describe_parity(parities: Mapping[str, DetectionParity]) -> str:
    """Returns a Markdown table that is also readable in a terminal."""
    lines = [
        "| form    | AP %  | same detections % | scores differ by | boxes differ by, px | images/s |",
        "| ------- | ----- | ----------------- | ---------------- | ------------------- | -------- |",
    ]
    for form, parity in parities.items():
        lines.append(
            f"| {form:7} | {parity.ap:5.2f} | {parity.agreement:17.2f} | {parity.score_difference:16.1e} | "
            f"{parity.box_difference:19.1e} | {parity.images_per_s:8.1f} |"
        )
    return "\n".join(lines)


def _compare(wanted: Detections, found: Detections, side: int) -> np.ndarray:
    """Returns the differences (n, 2) of score and box to the nearest detection of the same class; inf without one."""
    rows = np.full((len(wanted.scores), 2), np.inf)
    for row, box, score, label in zip(rows, wanted.boxes, wanted.scores, wanted.labels, strict=True):
        same = found.labels == label
        scores, boxes = np.abs(found.scores[same] - score), np.abs(found.boxes[same] - box).max(1, initial=0)
        near = (scores <= SAME) & (boxes <= SAME * side)
        if near.any():
            best = np.where(near, boxes, np.inf).argmin()
            row[:] = scores[best], boxes[best]
    return rows


def _find_images(trained: TrainedDetector, root: Path | None) -> BoxIndex | None:
    """Returns the validation images; None if those of the training are not here."""
    data = trained.config.data
    given = data if root is None else data.model_copy(update={"root": root})
    try:
        return load_box_index(given, "val", trained.class_names)
    except DataError as error:
        if root is not None:
            raise
        log.warning(f"the file will not be compared with the network ({error}); name the images with --data")
        return None


def _batches_of_one_size(index: BoxIndex, most: int | None, size: int) -> Iterator[list[int]]:
    """Yields the positions of at most `most` images at even intervals."""
    count = len(index) if most is None else min(most, len(index))
    sides: dict[tuple[int, ...], list[int]] = {}
    for position in np.linspace(0, len(index) - 1, count).astype(int).tolist():
        sides.setdefault(tuple(index.sizes[position].tolist()), []).append(position)
    for positions in sides.values():
        yield from (positions[start : start + size] for start in range(0, len(positions), size))


def _translate_nms(boxes: Any, scores: Any, threshold: float) -> Any:
    """Expresses `mask_of_nms` by operators of ONNX."""
    from onnxscript import opset18 as op

    kept = op.NonMaxSuppression(boxes, op.Unsqueeze(scores, [1]), [2**63 - 1], [threshold])  # rows of (group, 0, box)
    places = op.Gather(kept, [0, 2], axis=1)
    ones = op.Expand([1.0], op.Slice(op.Shape(places), [0], [1]))
    mask = op.ScatterND(op.ConstantOfShape(op.Shape(scores)), places, ones)
    return op.Cast(mask, to=9)  # bool
