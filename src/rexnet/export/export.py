"""Writes a trained classifier in several formats and compares each file with the network."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rexnet.checkpoints.checkpoint import Trained, WeightsKind, load_trained
from rexnet.data.datasets.eval_images import find_images, fit_to_classes
from rexnet.data.datasets.index import Index, Split
from rexnet.errors import DataError, ExportError
from rexnet.export.deployed import Deployed, InputKind
from rexnet.export.formats import Format, require_official, write_official, write_onnx, write_program, write_safetensors
from rexnet.export.parity import Parity, describe_parity, find_faults, load_eval_batches, measure_parity
from rexnet.export.quantize import write_int8
from rexnet.export.reading import Runner, open_onnx, open_program
from rexnet.runs.checkpoint_files import run_of
from rexnet.system.atomic_files import write_file

log = logging.getLogger(__name__)

SUFFIXES: dict[Format, str] = {
    "onnx": ".onnx",
    "torch": ".pt2",
    "safetensors": ".safetensors",
    "official": ".pth",
    "int8": "-int8.onnx",
}
RUNNABLE = ("onnx", "torch", "int8")
CALIBRATION_IMAGES = 256


def export(
    source: Path,
    formats: Sequence[Format],
    kind: InputKind = "uint8",
    output: Path | None = None,
    root: Path | None = None,
    weights: WeightsKind | None = None,
    max_images: int | None = None,
) -> dict[str, Parity]:
    """Writes the files and `parity.md` into a folder, and returns the parity of each form on validation images.

    The source is a run folder (its best checkpoint), a checkpoint, or an exported `.safetensors`. Without `output`, the
    files go to `export/` in the run, or next to a single file; without `root`, the images are those of the training.

    Raises:
        RexnetError: the checkpoint, the images or the folder is faulty, or a file differs from the network.
    """
    trained = load_trained(source, weights)
    if "official" in formats:
        require_official(trained.config.model)
    calibration = find_local_images(trained, root, "train", CALIBRATION_IMAGES) if "int8" in formats else None
    if "int8" in formats and calibration is None:
        raise DataError("--to int8 calibrates on training images, which are not here; name their folder with --data")
    index = find_local_images(trained, root, "val", max_images)
    folder = output or (run_of(trained.path) or trained.path.parent) / "export"
    deployed = Deployed(trained, kind)
    wanted = {*formats, "onnx"} if "int8" in formats else {*formats}  # int8 is converted from ONNX
    paths = {
        name: folder / f"model{'-float' if kind == 'float' and name in RUNNABLE else ''}{suffix}"
        for name, suffix in SUFFIXES.items()
        if name in wanted
    }
    runners: dict[str, Runner] = {}
    for name, path in paths.items():
        log.info(f"{path}")
        match name:
            case "onnx":
                write_onnx(trained, deployed, path)
            case "torch":
                write_program(trained, deployed, path)
            case "safetensors":
                write_safetensors(trained, path)
            case "official":
                write_official(trained, path)
            case "int8":
                assert calibration is not None
                images = (deployed.prepare(batch.images).numpy() for batch in load_eval_batches(trained, calibration))
                write_int8(paths["onnx"], path, images)
        if name in RUNNABLE:
            runners[name] = open_program(path) if name == "torch" else open_onnx(path).run
    if not runners:
        return {}
    if index is None:
        log.warning("the files were not compared with the network: the images are not here; name them with --data")
        return {}
    parities = measure_parity(trained, index, deployed, runners)
    report = folder / "parity.md"
    title = f"{trained.path} ({trained.weights} weights) on {len(index)} images of {index.root}"
    write_file(report, f"# {title}\n\n{describe_parity(parities)}\n")
    log.info(f"\n{title}\n{describe_parity(parities)}\nwritten to {report}")
    if faults := find_faults(parities):
        raise ExportError(f"{folder}: {'; '.join(faults)}; see {report}")
    return parities


def find_local_images(trained: Trained, root: Path | None, split: Split, most: int | None = None) -> Index | None:
    """Returns the images of a split, at most `most` at even intervals; None if those of the training are not here.

    Raises:
        DataError: `root` does not hold them, or the images are of other classes.
    """
    try:
        images = find_images(trained.config.data, split, root)
    except DataError:
        if root is not None:
            raise
        return None
    index, _ = fit_to_classes(images, trained.class_names, str(trained.path))
    return index if most is None else thin_out(index, most)


def thin_out(index: Index, most: int) -> Index:
    """Returns at most `most` images at even intervals."""
    return index.select(np.linspace(0, len(index) - 1, min(most, len(index))).astype(np.int64))
