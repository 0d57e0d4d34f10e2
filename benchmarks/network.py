"""Measures ReXNet 1.0x beside timm's rexnet_100 in one run: training step, evaluation, memory in training.

    python benchmarks/network.py [--width 1.0] [--image-size 224] [--batch 32] [--seconds 10]

Both networks hold the same weights and get the same images. They take turns in rounds, and the best round of each
counts, so that a busy machine slows both alike. Memory is the peak of a process of its own that trains three steps,
above what it held before them. In bf16 only where the hardware has it; on a GPU everything runs there, and ONNX Runtime
and int8 are left out.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from torch import nn

from rexnet import rexnet
from rexnet.export.formats import open_onnx, write_graph
from rexnet.export.speed import measure_in_turns
from rexnet.hardware import has_fast_bf16, keep_freed_memory
from rexnet.models.folding import fold_batchnorm

KINDS = ("ours", "timm", "ours, checkpointed")


def main() -> None:
    """Prints three tables with ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1.0, choices=(1.0, 1.3, 1.5, 2.0, 3.0))
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each form in each of three rounds")
    parser.add_argument("--memory-of", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.memory_of:
        print(measure_memory(build(options.memory_of, options.width), options, device))
        return
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{hardware}, torch {torch.__version__}, timm {timm.__version__}, {options.image_size} px, x{options.width:g}"
    )
    precisions = [None] + [torch.bfloat16] * has_fast_bf16("gpu" if device.type == "cuda" else "cpu")
    keep_freed_memory()
    for precision in precisions:
        compare_training(options, device, precision)
        compare_evaluation(options, device, precision)
    compare_memory(options)


def build(kind: str, width: float) -> nn.Module:
    """One of the networks, all with the same weights, NHWC."""
    torch.manual_seed(0)
    theirs = timm.create_model(f"rexnet_{round(width * 100)}", drop_rate=0.2)
    if kind == "timm":
        return theirs.to(memory_format=torch.channels_last)
    ours = rexnet(width, grad_checkpointing=kind == "ours, checkpointed")
    ours.load_state_dict(theirs.state_dict())
    return ours.to(memory_format=torch.channels_last)


def compare_training(options: argparse.Namespace, device: torch.device, precision: torch.dtype | None) -> None:
    """Images/s of whole training steps."""
    steps = {kind: training_step(build(kind, options.width), options, device, precision) for kind in KINDS}
    rates = measure_in_turns(steps, device, options.seconds)
    report(f"training step, batch {options.batch}", precision, {k: v * options.batch for k, v in rates.items()})


def compare_evaluation(options: argparse.Namespace, device: torch.device, precision: torch.dtype | None) -> None:
    """Images/s in evaluation."""
    networks = {"ours": build("ours", options.width).eval(), "timm": build("timm", options.width).eval()}
    networks["ours, folded"] = fold_batchnorm(networks["ours"])
    images = torch.randn(options.batch, 3, options.image_size, options.image_size)
    steps = {name: evaluation_step(net.to(device), images.to(device), precision) for name, net in networks.items()}
    with tempfile.TemporaryDirectory() as folder:
        if device.type == "cpu" and precision is None:
            graph = Path(folder) / "model.onnx"
            write_graph(fold_batchnorm(build("ours", options.width)), (images[:2],), graph)
            session, array = open_onnx(graph), images.numpy()
            steps["ours, ONNX Runtime"] = lambda: session(array)
        rates = measure_in_turns(steps, device, options.seconds)
    report(f"evaluation, batch {options.batch}", precision, {k: v * options.batch for k, v in rates.items()})


def compare_memory(options: argparse.Namespace) -> None:
    """Peak memory of training, each in a process of its own."""
    sizes = {}
    for kind in KINDS:
        command = [sys.executable, __file__, "--memory-of", kind, "--width", str(options.width)]
        command += ["--batch", str(options.batch), "--image-size", str(options.image_size)]
        sizes[kind] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(f"\npeak memory of training, batch {options.batch}, MiB (ratio to timm)")
    for kind, size in sizes.items():
        print(f"  {kind:20} {size:8.0f}  {size / sizes['timm']:.2f}")


def training_step(
    model: nn.Module, options: argparse.Namespace, device: torch.device, precision: torch.dtype | None
) -> Callable[[], None]:
    """A function that trains one step on fixed images."""
    model = model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    images = torch.randn(options.batch, 3, options.image_size, options.image_size, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.arange(options.batch, device=device)

    def step() -> None:
        with torch.autocast(device.type, precision or torch.bfloat16, enabled=precision is not None):
            loss = nn.functional.cross_entropy(model(images), labels, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def evaluation_step(
    model: nn.Module, images: torch.Tensor, precision: torch.dtype | None
) -> Callable[[], torch.Tensor]:
    """A function that computes the logits of fixed images."""
    model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)

    def step() -> torch.Tensor:
        with (
            torch.inference_mode(),
            torch.autocast(images.device.type, precision or torch.bfloat16, enabled=precision is not None),
        ):
            return model(images)

    return step


def measure_memory(model: nn.Module, options: argparse.Namespace, device: torch.device) -> float:
    """MiB that three steps of training take at their peak, beyond the network itself."""
    step = training_step(model, options, device, None)
    before = torch.cuda.memory_allocated() / 2**20 if device.type == "cuda" else peak_memory()
    for _ in range(3):
        step()
    return (torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else peak_memory()) - before


def peak_memory() -> float:
    """MiB that this process has held at most; `getrusage` would tell the peak of the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def report(what: str, precision: torch.dtype | None, rates: dict[str, float]) -> None:
    """One table with the ratio to timm."""
    name = "fp32" if precision is None else str(precision).removeprefix("torch.")
    print(f"\n{what}, {name}, images/s (ratio to timm)")
    for kind, rate in rates.items():
        print(f"  {kind:20} {rate:8.1f}  {rate / rates['timm']:.2f}", flush=True)


if __name__ == "__main__":
    main()
