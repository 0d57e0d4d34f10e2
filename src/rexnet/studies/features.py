"""Singular values of the features of trained networks: `rexnet study features`."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from rexnet.data.datasets.index import Index, Split
from rexnet.evaluation.evaluate import images_of
from rexnet.evaluation.inference import run_inference
from rexnet.evaluation.inference_model import InferenceModel, load_inference_model
from rexnet.models.rexnet import ReXNet
from rexnet.studies.singular_values import GramMatrix, effective_rank, rank_ratio
from rexnet.studies.study_figure import study_figure
from rexnet.studies.study_folder import write_table
from rexnet.system.atomic_files import write_json
from rexnet.system.terminal import align

log = logging.getLogger(__name__)

TOLERANCE = 0.01  # smallest singular value that counts for the rank, relative to the largest
FINAL = "classifier input"


class LayerRank(NamedTuple):
    """Rank of a layer's output over all images; each position of a feature map is a sample."""

    name: str
    channels: int
    rank_ratio: float  # number of singular values above the tolerance, as a share of the channels
    effective_rank: float  # as a share of the channels
    nuclear_norm: float


class NetworkRank(NamedTuple):
    """Ranks of a network's layers; the last is the input of the classifier."""

    source: str
    images: int
    top1: float
    layers: tuple[LayerRank, ...]
    singular_values: tuple[float, ...]  # of the classifier's input, descending


def measure_sources(sources: Sequence[str], root: Path | None, split: Split) -> list[NetworkRank]:
    """Measures runs, checkpoints and timm networks, each on the data set that it was trained on or on that at `root`.

    Raises:
        RexnetError: a source or its images are missing or do not match; raised before the first measurement.
    """
    models = [load_inference_model(source).in_fp32() for source in dict.fromkeys(sources)]
    images = [images_of(model, split, root)[0] for model in models]
    return [measure_network(model, index) for model, index in zip(models, images, strict=True)]


def measure_network(model: InferenceModel, index: Index) -> NetworkRank:
    """Classifies all images, and returns the ranks of the blocks' outputs and of the classifier's input."""
    network = model.network
    assert network is not None, "exported graphs have no layers"
    with ExitStack() as hooks:
        matrices = {name: _watch(block, width, hooks) for name, block, width in find_blocks(network)}
        final = matrices[FINAL] = GramMatrix()
        classifier: nn.Module = network.get_classifier()  # type: ignore[operator]
        handle = classifier.register_forward_pre_hook(lambda _, inputs: final.add(inputs[0].flatten(1)))
        hooks.callback(handle.remove)
        inference = run_inference(model, index, title=model.name)
    if len(index) < len(final.sum):
        log.warning(f"{model.name}: the rank is at most that of {len(index)} images, below {len(final.sum)} features")
    layers = []
    for name, gram in matrices.items():
        values, channels = gram.singular_values(), len(gram.sum)
        ratios = rank_ratio(values, channels, TOLERANCE), effective_rank(values) / channels
        layers.append(LayerRank(name, channels, *ratios, float(values.sum())))
    values = final.singular_values()
    return NetworkRank(model.name, len(index), inference.metrics["top1"], tuple(layers), tuple(values.tolist()))


def find_blocks(network: nn.Module) -> Iterator[tuple[str, nn.Module, int | None]]:
    """Yields name, module and unpadded width of each block with weights in the `nn.Sequential` children of a network.

    The width is None for networks that are never padded.
    """
    if isinstance(network, ReXNet):
        widths = [*(block.out_channels for block in network.plan.blocks), network.num_features]
        for number, width in enumerate(widths):
            yield f"features.{number}", network.features[number], width
        return
    for name, child in network.named_children():
        if type(child) is nn.Sequential:
            yield from ((f"{name}.{inner}", block, None) for inner, block, _ in find_blocks(child))
        elif type(network) is nn.Sequential and any(weight.ndim > 1 for weight in child.parameters()):
            yield name, child, None


def _watch(block: nn.Module, width: int | None, hooks: ExitStack) -> GramMatrix:
    """Returns a matrix that accumulates the outputs of a block, (N, C, H, W) or (N, tokens, C), without padding."""
    gram = GramMatrix()

    def add(module: nn.Module, inputs: Any, output: Tensor) -> None:
        rows = output.movedim(1, -1) if output.ndim == 4 else output
        gram.add(rows.flatten(0, -2)[:, :width])

    hooks.callback(block.register_forward_hook(add).remove)
    return gram


def describe(networks: Sequence[NetworkRank]) -> str:
    """Returns a table of the ranks of the classifiers' inputs."""
    rows: list[Sequence[str]] = [("network", "images", "top-1", *LayerRank._fields[1:])]
    rows += [(each.source, *(f"{cell:.4g}" for cell in (*each[1:3], *each.layers[-1][1:]))) for each in networks]
    return "\n".join(align(rows))


def save(networks: Sequence[NetworkRank], folder: Path) -> None:
    """Writes `features.csv` with one row per layer, `features.json` with the singular values, and the figure."""
    rows = ((*network[:3], *layer) for network in networks for layer in network.layers)
    write_table(folder / "features.csv", ("source", "images", "top1", *LayerRank._fields), rows)
    write_json(folder / "features.json", {network.source: network.singular_values for network in networks})
    with study_figure(folder / "features", 8.0, 3.2) as figure:
        left, right = figure.subplots(1, 2)
        for network in networks:
            values = np.array(network.singular_values)
            shares = np.arange(1, len(values) + 1) / len(values)
            left.plot(np.sort(values) / values.max(), shares, label=network.source)
            ratios = [layer.effective_rank for layer in network.layers]
            right.plot(np.linspace(0, 1, len(ratios)) if len(ratios) > 1 else [1], ratios, "o-", label=network.source)
        left.set(xscale="log", xlim=(1e-5, 1), xlabel="singular value / largest", ylabel="share of values below")
        left.set_title("Singular values of the classifier's input")
        right.set(xlabel="first block to classifier", ylabel="effective rank / channels", ylim=(0, 1.03))
        right.set_title("Effective rank by layer")
        left.legend(loc="upper left")
