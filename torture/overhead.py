"""Measures the cost of the protections per training step and per save; `python -m torture.overhead` runs it alone."""

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rexnet.data.keys import mix
from rexnet.data.sampling import BATCH, MODEL
from rexnet.models.factory import rexnet
from rexnet.training.checkpoint_io import DurableCheckpointIO
from rexnet.training.ema import averaged_tensors, build_ema, update_ema
from rexnet.training.nonfinite import NonFiniteGuard, propagate_nonfinite

REPEATS = 7
IMAGES = 32  # in a step
STEPS = 100  # in the short epoch over which a save is spread


def seconds(function: Callable[[], object], repeats: int = REPEATS) -> float:
    """Returns the median time of a call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure_overheads() -> str:
    """Returns a section of Markdown."""
    network, images, labels = rexnet(1.0), torch.randn(IMAGES, 3, 224, 224), torch.randint(0, 1000, (IMAGES,))
    network = network.to(memory_format=torch.channels_last)
    ema, guard = build_ema(network), NonFiniteGuard()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True, fused=True)
    guard.start(network)
    averaged = averaged_tensors(ema), averaged_tensors(network)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        update_ema(*averaged, 0.999)

    def guarding() -> None:
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        propagate_nonfinite(torch.ones((), requires_grad=True)).backward()
        guard.check(torch.nn.utils.get_total_norm(gradients), optimizer)
        guard.rollback(optimizer)

    whole = seconds(step, 3)
    durable, plain = time_saves({"w": torch.randn(25_000_000)})
    state = {**network.state_dict(), **{f"ema.{name}": value for name, value in ema.state_dict().items()}}
    moments = [entry["momentum_buffer"] for entry in optimizer.state.values()]
    safe, unsafe = time_saves(state | {"moments": moments})
    shares = {
        "seeding dropout by (seed, epoch, batch, rank), and each image's augmentation": seconds(seed_step),
        f"safe saving instead of torch.save, once every {STEPS} steps": (safe - unsafe) / STEPS,
        "detecting NaN (norm, masks, BatchNorm's statistics)": seconds(guarding),
    }
    lines = [f"| {name} | {100 * cost / whole:.3f} % of a step |" for name, cost in shares.items()]
    lines.append(f"| saving 100 MB, synced and read back | {durable:.2f} s (torch.save alone: {plain:.2f} s) |")
    title = f"\n## Cost\n\nReXNet 1.0x, {IMAGES} images of 224 px, {whole:.1f} s a step.\n\n"
    return title + "| protection | cost |\n| --- | --- |\n" + "\n".join(lines) + "\n"


def seed_step() -> None:
    """Does all seeding of one step: for the network, each image and the batch."""
    torch.manual_seed(mix(0, 1, 2, 3, MODEL) >> 1)
    keys = [mix(0, 1, position) for position in range(IMAGES)]
    for key in keys:
        random.Random(key)
    random.Random(mix(*keys, BATCH) >> 1)


def time_saves(weights: dict[str, Any]) -> tuple[float, float]:
    """Returns the seconds of a safe save and of torch.save, on the file system of the current folder."""
    content = {"rexnet": {}, "state_dict": weights}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        durable = seconds(lambda: DurableCheckpointIO().save_checkpoint(content, Path(folder) / "last.ckpt"), 3)
        plain = seconds(lambda: torch.save(content, Path(folder) / "plain.ckpt"), 3)
    return durable, plain


if __name__ == "__main__":
    print(measure_overheads())
