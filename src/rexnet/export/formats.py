"""Writes a trained classifier in each of the export formats."""

import contextlib
import hashlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rexnet import __version__
from rexnet.checkpoints.checkpoint import Trained, WeightsKind, build_description
from rexnet.config.schema import ModelConfig
from rexnet.errors import ConfigError
from rexnet.export.deployed import Deployed
from rexnet.models.naming import to_official_names
from rexnet.models.weights import ENTRY
from rexnet.system.atomic_files import write_file

Format = Literal["onnx", "torch", "safetensors", "official", "int8"]

OPSET = 18  # the first ONNX opset with the current form of all operators used here
METADATA_FILE = "rexnet.json"  # in a .pt2


def write_onnx(trained: Trained, deployed: Deployed, path: Path) -> None:
    """Writes an ONNX graph with input `images` and output `probabilities`, and with the classes in its metadata."""
    write_graph(deployed, deployed.example(), path, describe_export(trained))


def write_graph(
    model: nn.Module,
    example: tuple[Tensor],
    path: Path,
    description: Mapping[str, str] | None = None,
    axes: Sequence[str] = ("batch",),
    outputs: Sequence[str] = ("probabilities",),
    translations: dict[Any, Any] | None = None,
) -> None:
    """Writes a network with one argument `images` as ONNX, for any size of its first axes, such as the batch."""
    require_onnx()
    with quiet():
        program = torch.onnx.export(
            model,
            example,
            dynamo=True,
            input_names=["images"],
            output_names=list(outputs),
            dynamic_shapes=({place: torch.export.Dim(name) for place, name in enumerate(axes)},),
            custom_translation_table=translations,
            opset_version=OPSET,
            external_data=False,
        )
    assert program is not None
    _write_proto(program.model_proto, path, description)


def _write_proto(proto: Any, path: Path, description: Mapping[str, str] | None = None) -> None:
    """Writes an ONNX graph with metadata, and without the paths of this machine."""
    import onnx

    for node in proto.graph.node:  # the source line of each node
        for entry in [entry for entry in node.metadata_props if entry.key.endswith("stack_trace")]:
            node.metadata_props.remove(entry)
    onnx.helper.set_model_props(proto, dict(description or {}))
    onnx.checker.check_model(proto)
    write_file(path, proto.SerializeToString())


def write_program(trained: Trained, deployed: Deployed, path: Path) -> None:
    """Writes a torch.export program (`.pt2`), used as `torch.export.load(path).module()(images)`."""
    with quiet():
        program = torch.export.export(
            deployed, deployed.example(), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False
        )
        content = io.BytesIO()
        torch.export.save(program, content, extra_files={METADATA_FILE: json.dumps(describe_export(trained))})
    write_file(path, content.getvalue())


def write_safetensors(trained: Trained, path: Path) -> None:
    """Writes the weights under timm's names, which are also ours, with the metadata in the header."""
    write_weights(trained.model, path, describe_export(trained))


def write_weights(model: nn.Module, path: Path, description: Mapping[str, str]) -> None:
    """Writes the weights of a network of any task as safetensors."""
    from safetensors.torch import save

    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    write_file(path, save(state, metadata={"format": "pt", **description}))


def write_official(trained: Trained, path: Path) -> None:
    """Writes the weights under the names of the authors' code, for its `load_state_dict`."""
    content = io.BytesIO()  # torch.save hides a full disk behind another error
    torch.save(to_official_names(dict(trained.model.state_dict())), content)
    write_file(path, content.getvalue())


def require_official(config: ModelConfig) -> None:
    """Checks that the authors' code can build the network and computes the same.

    Raises:
        ConfigError: names the key that prevents it.
    """
    activation = "relu6" if config.variant == "lite" else "silu"
    faults = {
        "name": config.name != "rexnet",
        "variant": config.variant == "r",
        "activation": config.activation not in (None, activation),
        "channel_divisor": config.channel_divisor is not None,
        "use_se": config.variant == "lite" and bool(config.use_se),
        "se_ratio": config.variant == "v1" and config.se_ratio != 1 / 12,
        "depth_mult": config.variant == "lite" and config.depth_mult != 1.0,
    }
    for key, is_at_fault in faults.items():
        if is_at_fault:
            raise ConfigError(
                f"--to official: the authors' code has no network with model.{key}={getattr(config, key)}"
            )


def require_onnx() -> None:
    """Raises ConfigError if a package for ONNX is missing."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        if find_spec(package) is None:
            raise ConfigError(f"ONNX files need the package {package}: pip install onnx onnxruntime onnxscript")


def describe_export(trained: Trained) -> dict[str, str]:
    """Returns text entries for the header of a file; this program reads the entry `rexnet` back."""
    view = trained.preprocessing
    own = {
        "image_size": str(view.image_size),
        "mean": json.dumps(view.mean),
        "std": json.dumps(view.std),
        "interpolation": view.interpolation,
        "crop_pct": f"{view.crop_pct:g}",
    }
    fitted = {"temperature": trained.temperature, "threshold": trained.threshold}
    calibrated = {name: value for name, value in fitted.items() if value is not None}
    entry = build_description(trained.config, view.class_names, trained.metrics) | calibrated
    shown = {key: str(value) for key, value in calibrated.items()}
    return describe_network(trained.config.model, entry, trained.weights) | own | shown


def describe_network(model: ModelConfig, entry: Mapping[str, Any], weights: WeightsKind) -> dict[str, str]:
    """Returns the text entries that do not depend on the task, for a description of `build_description`."""
    network = {"family": model.name}
    if model.name == "rexnet":
        network = {"family": f"rexnet-{model.variant}", "width_mult": f"{model.width_mult:g}"}
    return {
        **network,
        "num_classes": str(len(entry["class_names"])),
        "class_names": json.dumps(entry["class_names"]),
        "weights": weights,
        "config_sha256": hashlib.sha256(entry["config"].encode()).hexdigest(),
        "written_by": f"rexnet-lightning {__version__}",
        ENTRY: json.dumps({**entry, "weights": weights}),
    }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the exporters' messages to their developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
