"""Anything that classifies images, by its name or file: what prediction and evaluation compute with.

| source | what |
| --- | --- |
| a run folder, a `.ckpt`, a `.safetensors` of `rexnet export` | the network itself |
| an `.onnx` or `.pt2` of `rexnet export` | the exported graph, on the CPU |
| `timm/NAME`, `timm/NAME.TAG` | timm's network for ImageNet-1k, with its weights from the Hugging Face hub |
| `timm/NAME=FILE` | the same with the weights of a file |
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rexnet.checkpoints.checkpoint import (
    Trained,
    WeightsKind,
    load_trained,
    parse_description,
    require_weights,
)
from rexnet.config import Config
from rexnet.data.augment.batch import normalize
from rexnet.errors import CheckpointError, ConfigError
from rexnet.evaluation.timm_networks import load_timm
from rexnet.export.reading import Exported, open_onnx, open_program
from rexnet.models.folding import fold_batchnorm
from rexnet.runs.checkpoint_files import run_of
from rexnet.system.device import resolve_device, with_available_hardware

TIMM = "timm/"
Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class InferenceModel:
    """A classifier that takes RGB bytes as `build_eval_transform` of its configuration leaves them."""

    name: str
    """For tables: of the run, the file, or the network of timm."""
    class_names: tuple[str, ...]
    """One for each logit. Those of timm's networks are ImageNet's English names."""
    config: Config
    """Of the training, as far as this machine has its hardware; for timm's networks that of ImageNet. It holds the
    view for evaluation: `data.image_size`, `data.mean`, `data.std` and `eval_transform`."""
    logits: Logits
    """uint8 (N, H, W, 3), on any device, to float32 (N, classes). What exports give, probabilities, comes back as
    their logarithm, whose softmax they are."""
    temperature: float | None = None
    """What logits are to be divided by for honest probabilities; None: nothing fitted, or done inside the export."""
    weights: WeightsKind | None = None
    path: Path | None = None
    """The checkpoint or file; None for weights from the hub."""
    network: nn.Module | None = None
    """On its device, in evaluation mode; None for an exported graph, which takes images of one size only."""
    metrics: dict[str, float] = field(default_factory=dict)
    """What training logged for a checkpoint, such as `val/top1`."""

    def probabilities(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) to float32 (N, classes), calibrated where a temperature is there."""
        return (self.logits(images) / (self.temperature or 1.0)).softmax(1)


def load_inference_model(
    source: str | Path, weights: WeightsKind | None = None, fold: bool = False, trust_pt2: bool = False
) -> InferenceModel:
    """The classifier of a source in the table above.

    Args:
        source: a path, or a name of timm.
        weights: averaged or raw; None: the averaged where there are any.
        fold: compute with BatchNorm folded into the convolutions: 1.4 times as fast on a CPU, and probabilities move by
            float32's rounding (below 1e-5).
        trust_pt2: whether a `.pt2`, which can run code when it is read, may be read.

    Raises:
        RexnetError: nothing there, damaged, not of this program, or of a kind that cannot be run; said in one line.
    """
    path = Path(source)
    if str(source).startswith(TIMM) and not path.exists():
        return _open_timm(str(source), weights, fold)
    match path.suffix.lower():
        case ".onnx" | ".pt2" if not path.is_dir():
            return _open_export(path, weights, trust_pt2)
        case ".pth" | ".pt":
            raise CheckpointError(
                f"{path}: holds bare weights, without configuration and classes; name their network: timm/NAME={path}"
            )
    trained = load_trained(path, weights)
    return wrap_trained(trained, _name(path, trained.path), fold)


def wrap_trained(trained: Trained, name: str, fold: bool = False) -> InferenceModel:
    """A classifier that is in memory already; for `name` and `fold` see `load_inference_model`."""
    config = with_available_hardware(trained.config)
    network, logits = _on_device(trained.model, config, fold)
    return InferenceModel(
        name,
        trained.class_names,
        config,
        logits,
        trained.temperature,
        trained.weights,
        trained.path,
        network,
        trained.metrics,
    )


def _on_device(model: nn.Module, config: Config, fold: bool) -> tuple[nn.Module, Logits]:
    """A network where and in the arithmetic in which training's validation computes, and its logits of bytes."""
    device, data = resolve_device(config.trainer), config.data
    network = device.place(fold_batchnorm(model) if fold else model.eval())

    def logits(images: Tensor) -> Tensor:
        with torch.inference_mode(), device.autocast():
            inputs = normalize(images.to(device.torch_device), data.mean, data.std, device.channels_last)
            result: Tensor = network(inputs)
        return result.float()

    return network, logits


def _open_timm(source: str, weights: WeightsKind | None, fold: bool) -> InferenceModel:
    if weights is not None:
        raise CheckpointError(f"{source}: has one set of weights; leave --weights out")
    loaded = load_timm(source.removeprefix(TIMM))
    network, logits = _on_device(loaded.model, loaded.config, fold)
    return InferenceModel(source, loaded.class_names, loaded.config, logits, path=loaded.path, network=network)


def _open_export(path: Path, weights: WeightsKind | None, trust_pt2: bool) -> InferenceModel:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    is_program = path.suffix.lower() == ".pt2"
    if is_program and not trust_pt2:
        raise CheckpointError(
            f"{path}: a .pt2 can run code when it is read; take the checkpoint or an .onnx, or, if you know who wrote "
            f"it, add --trust-pt2"
        )
    graph = open_program(path) if is_program else open_onnx(path)
    if not graph.description:
        raise CheckpointError(f"{path}: does not tell its classes and preprocessing, as files of rexnet export do")
    description = parse_description(graph.description, path)
    config, class_names = with_available_hardware(description.config), description.preprocessing.class_names
    kind = require_weights(graph.description, weights, path)
    logits = _log_probabilities(graph, config, len(class_names), path)
    return InferenceModel(path.name, class_names, config, logits, weights=kind, path=path)


def _log_probabilities(graph: Exported, config: Config, classes: int, path: Path) -> Logits:
    size, smallest = config.data.image_size, float(np.finfo(np.float32).tiny)

    def logits(images: Tensor) -> Tensor:
        if images.shape[1:3] != (size, size):
            raise ConfigError(f"{path}: takes images of {size} px only, not of {images.shape[2]} x {images.shape[1]}")
        bytes_ = images.cpu()
        ready = bytes_ if graph.kind == "uint8" else normalize(bytes_, config.data.mean, config.data.std).contiguous()
        probabilities = torch.from_numpy(graph(ready.numpy()))
        if probabilities.shape != (len(images), classes):
            raise CheckpointError(
                f"{path}: gives {tuple(probabilities.shape)} for {len(images)} images of {classes} classes"
            )
        return probabilities.float().clamp(min=smallest).log()

    return logits


def _name(given: Path, checkpoint: Path) -> str:
    """The run's name, with that of the checkpoint where one was given by hand."""
    if given.is_dir():
        return given.resolve().name
    run = run_of(checkpoint)
    return checkpoint.name if run is None else f"{run.resolve().name}/{checkpoint.stem}"
