"""What the safety costs: of a step at 224 pixels, and of a save."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from rexnet.models.rexnet import ReXNet
from rexnet.training.checkpoint_io import DurableCheckpointIO
from rexnet.training.ema import build_average, update_average
from rexnet.training.faults import StepGuard, poison

REPEATS = 7


def seconds(function: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure_overheads() -> str:
    """A section of Markdown."""
    network, images, labels = ReXNet(1.0, 1000), torch.randn(32, 3, 224, 224), torch.randint(0, 1000, (32,))
    network = network.to(memory_format=torch.channels_last)
    average, guard = build_average(network), StepGuard()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True, fused=True)
    guard.start(network)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        update_average(average, network, 0.999)

    def guarding() -> None:
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        poison(torch.ones((), requires_grad=True)).backward()
        guard.settle(guard.judge(torch.nn.utils.get_total_norm(gradients), optimizer))

    whole = seconds(step, 3)
    shares = {
        "watching for NaN (norm, masks, BatchNorm's statistics)": seconds(guarding) / whole,
        "seeding the network's randomness by (seed, epoch, batch)": seconds(lambda: torch.manual_seed(7)) / whole,
    }
    content = {"rexnet": {}, "state_dict": {"w": torch.randn(25_000_000)}}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        durable = seconds(lambda: DurableCheckpointIO().save_checkpoint(content, Path(folder) / "last.ckpt"), 3)
        plain = seconds(lambda: torch.save(content, Path(folder) / "plain.ckpt"), 3)
    lines = [f"| {name} | {100 * share:.2f} % of a step |" for name, share in shares.items()]
    lines.append(f"| saving 100 MB, read back and hashed | {durable:.2f} s (torch.save alone: {plain:.2f} s) |")
    title = f"\n## What it costs\n\nReXNet 1.0x, 32 images of 224 px, {whole:.1f} s a step.\n\n"
    return title + "| what | cost |\n| --- | --- |\n" + "\n".join(lines) + "\n"
