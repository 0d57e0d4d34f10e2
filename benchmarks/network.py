"""Compares ReXNet with timm's in one run: training step, evaluation, memory in training.

    python benchmarks/network.py [--width 1.0] [--image-size 224] [--batch 32] [--seconds 10]

Each form of each network has a process of its own. They take turns in three rounds, and the best round of each counts,
so that a busy machine slows all forms alike. On a CPU the forms are float32, and also bf16 if the hardware has it.
timm's network is measured as its users run it, and with our memory setting of the C library (`keep_freed_memory`),
which all of our forms have. On a GPU the forms are bf16 (float32 on old GPUs) in several layouts, with and without
torch.compile, and with odd and rounded widths. Ratios are relative to timm as its users run it, and to timm's best
form.

The training memory is the peak of a process that trains three steps, minus its memory before them.
"""

import argparse
import functools
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import timm
import torch
from torch import nn
from turns import Maker, Run, measure_in_turns

from rexnet import rexnet
from rexnet.export.formats import write_graph
from rexnet.export.reading import open_onnx
from rexnet.models.folding import fold_batchnorm
from rexnet.system.device import has_fast_bf16, keep_freed_memory


class Form(NamedTuple):
    """One way to compute a network, in NHWC unless `nchw`."""

    network: str
    """`ours`, `rounded` (variant r) or `timm`."""
    folded: bool = False
    checkpointed: bool = False
    nchw: bool = False
    compiled: bool = False
    keeps_memory: bool = True

    @property
    def name(self) -> str:
        """The form in words."""
        switches = {"folded": self.folded, "checkpointed": self.checkpointed, "NCHW": self.nchw}
        switches |= {"compiled": self.compiled, "our memory setting": self.network == "timm" and self.keeps_memory}
        return ", ".join([self.network, *(name for name, is_on in switches.items() if is_on)])


TIMM = Form("timm", keeps_memory=False)
ON_CPU = (TIMM, Form("timm"), Form("ours"), Form("ours", nchw=True))
IN_MEMORY = (TIMM, Form("timm"), Form("ours", keeps_memory=False), Form("ours"), Form("ours", checkpointed=True))


def main() -> None:
    """Prints three tables with ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1.0, choices=(1.0, 1.3, 1.5, 2.0, 3.0))
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each form in each of three rounds")
    parser.add_argument("--gpu-forms", action="store_true", help="the forms of a GPU on a CPU too, to try them")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    hardware = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{hardware}, torch {torch.__version__}, timm {timm.__version__}, {options.image_size} px, x{options.width:g}"
    )
    fast_bf16 = has_fast_bf16("gpu" if on_gpu else "cpu")
    forms = gpu_forms() if on_gpu or options.gpu_forms else ON_CPU
    for bf16 in (fast_bf16,) if on_gpu else (False, True)[: 1 + fast_bf16]:
        compare_training([*forms, Form("ours", checkpointed=True)], options, bf16)
        compare_evaluation([*forms, Form("ours", folded=True)], options, bf16, with_onnx=not on_gpu and not bf16)
    compare_memory(options)


def gpu_forms() -> list[Form]:
    """Returns layouts and compilation of timm's, our and the rounded network, timm's default first."""
    return [
        Form(network, nchw=nchw, compiled=compiled, keeps_memory=network != "timm")
        for network in ("timm", "ours", "rounded")
        for compiled in (False, True)
        for nchw in (True, False)
    ]


def build(form: Form, width: float) -> nn.Module:
    """Builds one of the networks; ours and timm's have the same weights."""
    torch.manual_seed(0)
    if form.network == "rounded":
        return rexnet(width, "r", grad_checkpointing=form.checkpointed)
    theirs = timm.create_model(f"rexnet_{round(width * 100)}", drop_rate=0.2)
    if form.network == "timm":
        return theirs
    ours = rexnet(width, grad_checkpointing=form.checkpointed)
    ours.load_state_dict(theirs.state_dict())
    return ours


def compare_training(forms: list[Form], options: argparse.Namespace, bf16: bool) -> None:
    """Prints images/s of whole training steps."""
    makers: dict[str, Maker] = {
        form.name: functools.partial(prepare_training, form, options.width, options.image_size, bf16) for form in forms
    }
    report("training step", makers, options, bf16)


def compare_evaluation(forms: list[Form], options: argparse.Namespace, bf16: bool, with_onnx: bool) -> None:
    """Prints images/s in evaluation."""
    makers: dict[str, Maker] = {
        form.name: functools.partial(prepare_evaluation, form, options.width, options.image_size, bf16)
        for form in forms
    }
    with TemporaryDirectory() as folder:
        if with_onnx:
            graph = Path(folder) / "model.onnx"
            example = torch.randn(2, 3, options.image_size, options.image_size)
            write_graph(fold_batchnorm(build(Form("ours"), options.width)), (example,), graph)
            makers["ours, ONNX Runtime"] = functools.partial(prepare_onnx, graph, options.image_size)
        report("evaluation", makers, options, bf16)


def report(what: str, makers: dict[str, Maker], options: argparse.Namespace, bf16: bool) -> None:
    """Measures the forms and prints a table with ratios to timm."""
    rates = {name: r[options.batch] for name, r in measure_in_turns(makers, [options.batch], options.seconds).items()}
    theirs = {name: rate for name, rate in rates.items() if name.startswith("timm")}
    default, best = next(iter(theirs)), max(theirs, key=lambda name: theirs[name])
    print(f"\n{what}, batch {options.batch}, {'bf16' if bf16 else 'fp32'}: images/s, ratio to {default}, to {best}")
    for name, rate in rates.items():
        print(f"  {name:26} {rate:8.1f} {rate / rates[default]:8.2f} {rate / rates[best]:8.2f}", flush=True)


def prepare_training(form: Form, width: float, image_size: int, bf16: bool) -> Run:
    """Returns a function that trains one step on a batch of the given size."""
    if form.keeps_memory:
        keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = torch.contiguous_format if form.nchw else torch.channels_last
    model = build(form, width).train().to(device, memory_format=layout)
    model = torch.compile(model) if form.compiled else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    images: dict[int, torch.Tensor] = {}

    def step(batch: int) -> None:
        if batch not in images:
            images[batch] = torch.randn(batch, 3, image_size, image_size, device=device).to(memory_format=layout)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            labels = torch.arange(batch, device=device)
            loss = nn.functional.cross_entropy(model(images[batch]), labels, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def prepare_evaluation(form: Form, width: float, image_size: int, bf16: bool) -> Run:
    """Returns a function that classifies a batch of the given size."""
    if form.keeps_memory:
        keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = torch.contiguous_format if form.nchw else torch.channels_last
    model = build(form, width).eval()
    model = (fold_batchnorm(model) if form.folded else model).to(device).to(memory_format=layout)
    compute: Callable[[torch.Tensor], object] = torch.compile(model) if form.compiled else model
    images: dict[int, torch.Tensor] = {}

    def run(batch: int) -> None:
        if batch not in images:
            images[batch] = torch.randn(batch, 3, image_size, image_size, device=device).to(memory_format=layout)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            compute(images[batch])
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def prepare_onnx(path: Path, image_size: int) -> Run:
    """Returns a function that classifies a batch of the given size with ONNX Runtime on the CPU."""
    graph, noise = open_onnx(path), np.random.default_rng(0)
    images: dict[int, np.ndarray] = {}

    def run(batch: int) -> None:
        if batch not in images:
            images[batch] = noise.standard_normal((batch, 3, image_size, image_size), dtype=np.float32)
        graph(images[batch])

    return run


def compare_memory(options: argparse.Namespace) -> None:
    """Prints the peak memory of training in float32, each form in a process of its own."""
    print(f"\npeak memory of training, batch {options.batch}, fp32, MiB (ratio to timm)")
    sizes: dict[str, float] = {}
    for form in IN_MEMORY:
        name = f"{form.name}, plain memory" if form == Form("ours", keeps_memory=False) else form.name
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            sizes[name] = process.submit(measure_memory, form, options).result()
        print(f"  {name:26} {sizes[name]:8.0f} {sizes[name] / sizes['timm']:8.2f}", flush=True)


def measure_memory(form: Form, options: argparse.Namespace) -> float:
    """Returns the peak memory in MiB of three training steps, without that of the network."""
    step = prepare_training(form, options.width, options.image_size, bf16=False)
    on_gpu = torch.cuda.is_available()
    before = torch.cuda.memory_allocated() / 2**20 if on_gpu else peak_memory()
    for _ in range(3):
        step(options.batch)
    return (torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_memory()) - before


def peak_memory() -> float:
    """Returns the peak memory of this process in MiB; `getrusage` would include that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
