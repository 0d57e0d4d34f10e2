"""Opens exported files that can be run."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rexnet.errors import CheckpointError, first_sentence
from rexnet.export.deployed import InputKind
from rexnet.export.formats import METADATA_FILE, quiet, require_onnx
from rexnet.models.weights import ENTRY


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
    session = open_session(path)
    name, type_ = session.get_inputs()[0].name, session.get_inputs()[0].type
    return Exported(
        lambda images: np.asarray(session.run(None, {name: images})[0]),
        "uint8" if type_ == "tensor(uint8)" else "float",
        _description(session.get_modelmeta().custom_metadata_map),
    )


def open_session(path: Path) -> Any:
    """Returns ONNX Runtime's session of a file on the CPU; see `open_onnx` for the errors."""
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own types are not public
        raise CheckpointError(f"{path}: cannot be read as ONNX: {first_sentence(error)}") from None


def open_program(path: Path) -> Exported:
    """Opens a `.pt2` file. It can execute code from the file, so only trusted files may be opened.

    torch.export.load unpickles tensors that it cannot load otherwise, and evaluates sizes as Python expressions
    (`torch/_export/serde/serialize.py` of 2.11 to 2.15).

    Raises:
        CheckpointError: PyTorch cannot read it.
    """
    extra = {METADATA_FILE: ""}
    try:
        with quiet():
            exported = torch.export.load(path, extra_files=extra)
            program = exported.module()
        metadata = json.loads(extra[METADATA_FILE] or "{}")
    except Exception as error:  # torch raises a dozen types
        raise CheckpointError(f"{path}: cannot be read as a program of torch.export: {first_sentence(error)}") from None
    is_float = bool(exported.example_inputs) and exported.example_inputs[0][0].dtype.is_floating_point

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            result: np.ndarray = program(torch.from_numpy(images)).numpy()
        return result

    return Exported(run, "float" if is_float else "uint8", _description(metadata))


def _description(metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        entry = json.loads(metadata[ENTRY])
    except (KeyError, TypeError, ValueError):
        return {}
    return entry if isinstance(entry, dict) else {}
