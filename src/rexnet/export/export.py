"""Writes a trained classifier in the wanted forms and measures each on real images."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rexnet.checkpoints.checkpoint import Trained, WeightsKind, load_trained
from rexnet.data.datasets.by_name import load_eval_index
from rexnet.data.datasets.index import Index, Split
from rexnet.errors import DataError, ExportError
from rexnet.export.deployed import Deployed, InputKind
from rexnet.export.formats import (
    Format,
    require_official,
    write_official,
    write_onnx,
    write_program,
    write_safetensors,
)
from rexnet.export.parity import (
    Parity,
    Runner,
    describe_parity,
    find_faults,
    load_eval_batches,
    measure_parity,
    write_parity,
)
from rexnet.export.quantize import write_int8
from rexnet.export.reading import open_onnx, open_program
from rexnet.runs.checkpoint_files import run_of

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
    run: Path,
    formats: Sequence[Format],
    kind: InputKind = "uint8",
    output: Path | None = None,
    root: Path | None = None,
    weights: WeightsKind | None = None,
    max_images: int | None = None,
) -> dict[str, Parity]:
    """Writes the files and `parity.md` into a folder, and returns what each gives on validation images.

    Args:
        run: a run folder, whose best checkpoint is taken, a checkpoint, or an exported `.safetensors`.
        formats: which files.
        kind: form of the input of those that can be run.
        output: where they go; None: `export/` in the run's folder, or beside the file.
        root: where the images are, if not where they were in training.
        weights: averaged or raw; None: the averaged where there are any.
        max_images: measure on so many validation images; None: on all.

    Raises:
        RexnetError: the checkpoint, the images or the folder is at fault; or a file differs from the network.
    """
    trained = load_trained(run, weights)
    if "official" in formats:
        require_official(trained.config.model)
    calibration = find_images_here(trained, root, "train", CALIBRATION_IMAGES) if "int8" in formats else None
    if "int8" in formats and calibration is None:
        raise DataError("--to int8 calibrates on training images, which are not here; give their folder with --data")
    folder = output or _folder_of(trained)
    index = find_images_here(trained, root, "val", max_images)
    deployed = Deployed(trained, kind)
    runners: dict[str, Runner] = {}
    sizes: dict[str, int] = {}
    for name in _in_order(formats):
        path = _path(folder, name, kind)
        if name in formats:
            log.info(f"{path}")
        _write(name, path, trained, deployed, calibration)
        sizes[name] = path.stat().st_size
        if name in RUNNABLE:
            runners[name] = open_program(path) if name == "torch" else open_onnx(path)
    return _measure(trained, index, runners, sizes, kind, folder) if runners else {}


def _in_order(formats: Sequence[Format]) -> list[Format]:
    """Each format once, and ONNX before int8, which is made of it."""
    order = sorted(set(formats), key=list(SUFFIXES).index)
    if "int8" in order and "onnx" not in order:
        order.insert(order.index("int8"), "onnx")
    return order


def _write(name: Format, path: Path, trained: Trained, deployed: Deployed, calibration: Index | None) -> None:
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
            write_int8(_path(path.parent, "onnx", deployed.kind), path, _see(trained, calibration, deployed))


def _measure(
    trained: Trained,
    index: Index | None,
    runners: dict[str, Runner],
    sizes: dict[str, int],
    kind: InputKind,
    folder: Path,
) -> dict[str, Parity]:
    if index is None:
        log.warning("parity was not measured: the data set's images are not here; give their folder with --data")
        return {}
    parities = {
        name: dataclasses.replace(parity, megabytes=sizes[name] / 1e6 if name in sizes else None)
        for name, parity in measure_parity(trained, index, runners, kind).items()
    }
    faults = find_faults(parities)
    title = f"{trained.path} ({trained.weights} weights) on {len(index)} images of {index.root}"
    report = write_parity(folder, title, parities, faults)
    log.info(f"\n{title}\n{describe_parity(parities, faults)}\nwritten to {report}")
    different = [fault for fault in faults if not fault.startswith("int8")]
    if different:
        raise ExportError(f"{folder}: {'; '.join(different)}; see {report}")
    return parities


def _folder_of(trained: Trained) -> Path:
    """`export/` of the run that a checkpoint belongs to, or beside a lone file."""
    return (run_of(trained.path) or trained.path.parent) / "export"


def _path(folder: Path, name: Format, kind: InputKind) -> Path:
    return folder / f"model{'-float' if kind == 'float' and name in RUNNABLE else ''}{SUFFIXES[name]}"


def find_images_here(trained: Trained, root: Path | None, split: Split, most: int | None = None) -> Index | None:
    """The images of a split, evenly thinned to `most`; None where they are not on this machine and nobody said where.

    Raises:
        DataError: `root` does not hold them.
    """
    try:
        index = load_eval_index(trained.config.data, split, root)
    except DataError:
        if root is not None:
            raise
        return None
    if most is None or most >= len(index):
        return index
    return index.select(np.linspace(0, len(index) - 1, most).astype(np.int64))


def _see(trained: Trained, index: Index, deployed: Deployed) -> Iterator[np.ndarray]:
    """The images of `index` as evaluation sees them, in batches in the form of the input."""
    for batch in load_eval_batches(trained, index):
        yield deployed.prepare(batch.images).numpy()
