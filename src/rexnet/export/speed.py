"""How fast networks compute on this machine in each form, beside timm's."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rexnet.export.formats import write_graph
from rexnet.export.quantize import write_int8
from rexnet.export.reading import open_onnx
from rexnet.export.turns import Maker, Run, measure_in_turns
from rexnet.models.folding import fold_batchnorm
from rexnet.system.device import keep_freed_memory

BATCHES = (1, 32)
SECONDS = 1.0  # for each form and batch in a round

Build = Callable[[], nn.Module]
"""Gives the network; picklable, for each form builds it in its own process."""


def measure_network(build: Build, build_peer: Build | None, image_size: int) -> dict[str, dict[int, float]]:
    """Images/s of a network in each form for batches of 1 and 32, the best of three rounds.

    On the CPU: in PyTorch (NHWC, float32), with BatchNorm folded, by ONNX Runtime, and in int8; on a GPU the first two,
    under bf16. Each form has a process of its own. Ours keeps freed memory, as in training and evaluation; timm's is
    left as timm runs it.

    Args:
        build: gives a network that takes (N, 3, H, W).
        build_peer: gives the same network of timm.
        image_size: H and W in pixels.

    Raises:
        ConfigError: the packages of the extra `export` are missing.
    """
    makers: dict[str, Maker] = {}
    with tempfile.TemporaryDirectory() as folder:
        for prefix, source in {"": build, "timm ": build_peer}.items():
            if source is None:
                continue
            for form, folded in {"eager": False, "folded": True}.items():
                makers[prefix + form] = functools.partial(
                    prepare_eager, source, image_size, folded, keeps_memory=not prefix
                )
            if not torch.cuda.is_available():
                written = _write_graphs(source().eval(), image_size, Path(tempfile.mkdtemp(dir=folder)))
                makers |= {
                    prefix + form: functools.partial(prepare_onnx, path, image_size) for form, path in written.items()
                }
        return measure_in_turns(makers, BATCHES, SECONDS)


def prepare_eager(
    build: Build,
    image_size: int,
    folded: bool = False,
    *,
    channels_last: bool = True,
    bf16: bool | None = None,
    compiled: bool = False,
    keeps_memory: bool = True,
) -> Run:
    """A network in evaluation by PyTorch, on the GPU if there is one.

    Args:
        build: gives the network.
        image_size: H and W in pixels.
        folded: with BatchNorm folded into the convolutions.
        channels_last: NHWC rather than NCHW.
        bf16: under autocast to bf16; None: on a GPU only.
        compiled: by torch.compile.
        keeps_memory: with this program's setting of the C library (`hardware.keep_freed_memory`).
    """
    if keeps_memory:
        keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = build().eval()
    network = (fold_batchnorm(network) if folded else network).to(device).to(memory_format=layout)
    compute: Callable[[torch.Tensor], object] = torch.compile(network) if compiled else network
    held: dict[int, torch.Tensor] = {}

    def run(batch: int) -> None:
        if batch not in held:
            held[batch] = torch.randn(batch, 3, image_size, image_size, device=device).to(memory_format=layout)
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" if bf16 is None else bf16)
        with torch.inference_mode(), autocast:
            compute(held[batch])
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def prepare_onnx(path: Path, image_size: int) -> Run:
    """A graph that takes (N, 3, H, W), by ONNX Runtime on the CPU."""
    session = open_onnx(path)
    held: dict[int, np.ndarray] = {}

    def run(batch: int) -> None:
        if batch not in held:
            held[batch] = _noise(batch, image_size)
        session(held[batch])

    return run


def _write_graphs(model: nn.Module, image_size: int, folder: Path) -> dict[str, Path]:
    """The network as ONNX in float32 and in int8, the latter calibrated on noise: its speed does not depend on it."""
    graph, quantised = folder / "model.onnx", folder / "model-int8.onnx"
    write_graph(fold_batchnorm(model), (torch.randn(2, 3, image_size, image_size),), graph)
    write_int8(graph, quantised, [_noise(4, image_size)])
    return {"onnx": graph, "int8": quantised}


def _noise(batch: int, image_size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 3, image_size, image_size), dtype=np.float32)
