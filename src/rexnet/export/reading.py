"""Opens exported files that can be run."""

import contextlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rexnet.errors import CheckpointError, first_sentence
from rexnet.export.deployed import InputKind
from rexnet.export.formats import METADATA_FILE, quiet, require_onnx
from rexnet.models.weights import ENTRY

MAX_DESCRIPTION = 16 << 20  # bytes; 1,000 classes need 30 kB


@dataclass(frozen=True)
class Exported:
    """An exported file, ready to run."""

    run: Callable[[np.ndarray], np.ndarray]
    """Maps images in the form of `kind` to probabilities (N, classes)."""
    kind: InputKind
    description: dict[str, Any]
    """The file's entry `rexnet`; empty if `rexnet export` did not write the file."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns probabilities (N, classes)."""
        return self.run(images)


def open_onnx(path: Path) -> Exported:
    """Opens an ONNX file with ONNX Runtime on the CPU.

    Raises:
        CheckpointError: the runtime cannot read the file.
        ConfigError: a package is missing.
    """
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own types are not public
        raise CheckpointError(f"{path}: cannot be read as ONNX: {first_sentence(error)}") from None
    name, type_ = session.get_inputs()[0].name, session.get_inputs()[0].type
    description = _parse(session.get_modelmeta().custom_metadata_map.get(ENTRY))
    return Exported(
        lambda images: np.asarray(session.run(None, {name: images})[0]),
        "uint8" if type_ == "tensor(uint8)" else "float",
        description,
    )


def open_program(path: Path) -> Exported:
    """Opens a `.pt2` file. It can execute code from the file, so only trusted files may be opened.

    torch.export.load unpickles tensors that it cannot load otherwise, and evaluates sizes as Python expressions
    (`torch/_export/serde/serialize.py` of 2.11 to 2.15).

    Raises:
        CheckpointError: PyTorch cannot read it.
    """
    try:
        with quiet():
            exported = torch.export.load(path)
            program = exported.module()
    except Exception as error:  # torch raises a dozen types
        raise CheckpointError(f"{path}: cannot be read as a program of torch.export: {first_sentence(error)}") from None
    is_float = bool(exported.example_inputs) and exported.example_inputs[0][0].dtype.is_floating_point

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            result: np.ndarray = program(torch.from_numpy(images)).numpy()
        return result

    return Exported(run, "float" if is_float else "uint8", _read_extra(path))


def _read_extra(path: Path) -> dict[str, Any]:
    """Returns the description in the zip archive of a `.pt2`."""
    with contextlib.suppress(zipfile.BadZipFile, OSError, ValueError), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(f"extra/{METADATA_FILE}") and member.file_size <= MAX_DESCRIPTION:
                return _parse(json.loads(archive.read(member)).get(ENTRY))
    return {}


def _parse(text: object) -> dict[str, Any]:
    try:
        entry = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) else {}
