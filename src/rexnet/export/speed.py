"""How fast networks compute on this machine in each form, one after the other in turns, beside timm's."""

import functools
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rexnet.export.formats import write_graph
from rexnet.export.quantize import write_int8
from rexnet.export.reading import open_onnx
from rexnet.models.folding import fold_batchnorm

BATCHES = (1, 32)
ROUNDS = 3
SECONDS = 1.0  # for each form and batch in a round

Step = Callable[[], object]


def measure_network(model: nn.Module, peer: nn.Module | None, image_size: int) -> dict[str, dict[int, float]]:
    """Images/s of a network in each form for batches of 1 and 32, the best of three rounds.

    On the CPU: in PyTorch (NHWC, float32), with BatchNorm folded, by ONNX Runtime, and in int8; on a GPU the first two,
    under bf16. `peer` is measured in the same forms in the same rounds.

    Args:
        model: a network that takes (N, 3, H, W).
        peer: the same network in timm.
        image_size: H and W in pixels.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    speeds: dict[str, dict[int, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        networks: dict[str, nn.Module] = {}
        files: dict[str, Path] = {}
        for prefix, network in {"": model, "timm ": peer}.items():
            if network is None:
                continue
            networks |= {f"{prefix}eager": network, f"{prefix}folded": fold_batchnorm(network)}
            if device.type == "cpu":
                written = _write_graphs(network, image_size, Path(tempfile.mkdtemp(dir=folder)))
                files |= {f"{prefix}{form}": path for form, path in written.items()}
        ready = {name: _on(network, device) for name, network in networks.items()}
        sessions = {name: open_onnx(path) for name, path in files.items()}
        for batch in BATCHES:
            images = torch.randn(batch, 3, image_size, image_size)
            steps: dict[str, Step] = {name: _eager_step(network, images, device) for name, network in ready.items()}
            steps |= {name: functools.partial(session, images.numpy()) for name, session in sessions.items()}
            for name, rate in measure_in_turns(steps, device).items():
                speeds.setdefault(name, {})[batch] = rate * batch
    return speeds


def measure_in_turns(steps: Mapping[str, Step], device: torch.device, seconds: float = SECONDS) -> dict[str, float]:
    """Steps a second of each, the best of rounds in which all take turns, so that a busy machine slows all alike."""
    best = dict.fromkeys(steps, 0.0)
    for step in steps.values():
        step()
    for _ in range(ROUNDS):
        for name, step in steps.items():
            best[name] = max(best[name], _steps_per_second(step, device, seconds))
    return best


def _on(network: nn.Module, device: torch.device) -> nn.Module:
    return network.eval().to(device).to(memory_format=torch.channels_last)


def _eager_step(network: nn.Module, images: torch.Tensor, device: torch.device) -> Step:
    batch = images.to(device, memory_format=torch.channels_last)

    def step() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            result: torch.Tensor = network(batch)
        return result

    return step


def _steps_per_second(step: Step, device: torch.device, seconds: float) -> float:
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        step()
        count += 1
        if device.type == "cuda":
            torch.cuda.synchronize()
    return count / elapsed


def _write_graphs(model: nn.Module, image_size: int, folder: Path) -> dict[str, Path]:
    """The network as ONNX in float32 and in int8, the latter calibrated on noise: its speed does not depend on it."""
    graph, quantised = folder / "model.onnx", folder / "model-int8.onnx"
    write_graph(fold_batchnorm(model), (torch.randn(2, 3, image_size, image_size),), graph)
    noise = np.random.default_rng(0).standard_normal((4, 3, image_size, image_size), dtype=np.float32)
    write_int8(graph, quantised, [noise])
    return {"onnx": graph, "int8": quantised}
