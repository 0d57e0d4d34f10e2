"""Opens exported files to run them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from rexnet.errors import CheckpointError, first_sentence
from rexnet.export.deployed import InputKind
from rexnet.export.formats import quiet, require_onnx
from rexnet.models.weights import ENTRY

Runner = Callable[[np.ndarray], np.ndarray]
"""Maps images in the form of a file's input to probabilities (N, classes)."""


class OnnxGraph(NamedTuple):
    """An ONNX file, ready to run."""

    run: Runner
    kind: InputKind
    description: dict[str, Any]
    """The file's entry `rexnet`; empty if `rexnet export` did not write the file."""


def open_onnx(path: Path) -> OnnxGraph:
    """Opens an ONNX file with ONNX Runtime on the CPU.

    Raises:
        CheckpointError: the runtime cannot read the file.
        ConfigError: a package is missing.
    """
    session = open_session(path)
    name, type_ = session.get_inputs()[0].name, session.get_inputs()[0].type
    return OnnxGraph(
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


def open_program(path: Path) -> Runner:
    """Opens a `.pt2` that this process wrote. It must not open others, since a `.pt2` can execute code when it is read.

    torch.export.load unpickles tensors that it cannot load otherwise, and evaluates sizes as Python expressions
    (`torch/_export/serde/serialize.py` of 2.11 to 2.15).
    """
    with quiet():
        program = torch.export.load(path).module()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            result: np.ndarray = program(torch.from_numpy(images)).numpy()
        return result

    return run


def _description(metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        entry = json.loads(metadata[ENTRY])
    except (KeyError, TypeError, ValueError):
        return {}
    return entry if isinstance(entry, dict) else {}
