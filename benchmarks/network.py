"""Compares ReXNet with timm's in one run: training step, evaluation, memory in training, with start-up times.

    python benchmarks/network.py [--width 1.0] [--image-size 224] [--batch 32] [--seconds 5] [--compile] [--json FILE]

Compared are timm's network as its users run it (NCHW; fp32 on CPUs, bf16 autocast on GPUs), timm's network with its
best flags (NHWC, bf16 if the hardware has it, compiled on GPUs), and ours as this project places it by default. On a
CPU, timm's is also measured with our memory setting of the C library (`keep_freed_memory`), which all of our forms
have. Ratios are relative to timm as its users run it, and to the fastest form of timm.

Each form has a process of its own. They take turns in three rounds, and the best round of each counts, so that a busy
machine slows all forms alike. The start-up time is that of the process until its first batch is done, which includes
imports, compiling and the tuning of cuDNN; forms that are compiled start at the same time, the others one by one.
Compiled forms are measured on GPUs, or with --compile; on two CPU cores each takes minutes.

The training memory is the peak of a process that trains three steps, minus its memory before them.
"""

import argparse
import functools
import json
import re
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
from rexnet.config.schema import TrainerConfig
from rexnet.export.formats import write_graph
from rexnet.export.reading import open_onnx
from rexnet.models.folding import fold_batchnorm
from rexnet.models.padding import pad_channels
from rexnet.system.device import Device, has_fast_bf16, resolve_device
from rexnet.training.compiling import compile_steps


class Form(NamedTuple):
    """One way to compute a network: ours as it is by default, timm's as its users run it, unless the fields differ."""

    network: str
    """`ours` or `timm`."""
    folded: bool = False
    checkpointed: bool = False
    nchw: bool = False
    bf16: bool | None = None
    """None: as in the default of ours, or of timm's users."""
    padded: bool = True
    compiled: bool = False
    graphs: bool = False
    keeps_memory: bool = True

    @property
    def name(self) -> str:
        """The form in words."""
        is_timm = self.network == "timm"
        switches = {"NCHW": self.nchw, "NHWC": is_timm and not self.nchw, "fp32": self.bf16 is False}
        switches |= {"bf16": self.bf16 is True, "not padded": not is_timm and not self.padded, "folded": self.folded}
        switches |= {"checkpointed": self.checkpointed, "compiled": self.compiled, "CUDA graphs": self.graphs}
        switches |= {"our memory setting": is_timm and self.keeps_memory and not torch.cuda.is_available()}
        return ", ".join([self.network, *(name for name, is_on in switches.items() if is_on)])

    def device(self) -> Device:
        """Returns the device, arithmetic and layout of this form."""
        if not (self.keeps_memory or torch.cuda.is_available()):
            return Device("cpu", "bf16-mixed" if self.bf16 else "32-true", not self.nchw)
        default = resolve_device(TrainerConfig())  # on a CPU, also sets the memory allocator of this process
        precision = default.precision if self.bf16 is None else "bf16-mixed" if self.bf16 else "32-true"
        padding = default.pad_channels if self.padded and self.network == "ours" else 1
        return Device(default.accelerator, precision, not self.nchw, padding)


def forms_to_train(options: argparse.Namespace) -> list[Form]:
    """Returns the forms of a training step, timm as its users run it first."""
    if not torch.cuda.is_available():
        fast = has_fast_bf16("cpu")
        timm_forms = [Form("timm", nchw=True, bf16=False, keeps_memory=False)]
        timm_forms += [Form("timm", bf16=False, keeps_memory=False), Form("timm", bf16=False)]
        timm_forms += [Form("timm", bf16=True)] * fast + [Form("timm", bf16=fast, compiled=True)] * options.compile
        ours = [
            Form("ours"),
            *[Form("ours", bf16=False)] * fast,
            Form("ours", nchw=True),
            Form("ours", checkpointed=True),
        ]
        return [*timm_forms, *ours, *[Form("ours", compiled=True)] * options.compile]
    timm_forms = [Form("timm", nchw=True), Form("timm"), Form("timm", compiled=True)]
    ours = [Form("ours"), Form("ours", padded=False), Form("ours", compiled=True)]
    return [*timm_forms, *ours, *[Form("ours", compiled=True, graphs=True)] * (options.batch <= SMALL_BATCH)]


def forms_to_evaluate(options: argparse.Namespace) -> list[Form]:
    """Returns the forms of evaluation: those without what belongs to training, and with folded BatchNorm."""
    plain = [form for form in forms_to_train(options) if not (form.checkpointed or form.graphs)]
    ours_compiled = [form for form in plain if form.network == "ours" and form.compiled]
    others = [form for form in plain if form not in ours_compiled]
    return [*others, Form("ours", folded=True), *(form._replace(folded=True) for form in ours_compiled)]


IN_MEMORY = {
    "timm": Form("timm", bf16=False, keeps_memory=False),
    "timm, our memory setting": Form("timm", bf16=False),
    "ours, plain memory": Form("ours", bf16=False, keeps_memory=False),
    "ours": Form("ours", bf16=False),
    "ours, checkpointed": Form("ours", bf16=False, checkpointed=True),
}
SMALL_BATCH = 64  # up to which launches of kernels limit a GPU


def main() -> None:
    """Prints three tables with ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1.0, choices=(1.0, 1.3, 1.5, 2.0, 3.0))
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each form in each of three rounds (default: 5)")
    parser.add_argument("--compile", action="store_true", help="compiled forms on a CPU too")
    parser.add_argument("--only", choices=("training", "evaluation", "memory"), help="one of the tables")
    parser.add_argument("--forms", default="", help="a regular expression: only forms whose name contains it")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    hardware = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    print(f"{hardware}, torch {torch.__version__}, timm {timm.__version__}")
    tables: dict[str, object] = {"hardware": hardware, "torch": torch.__version__, "timm": timm.__version__}
    tables |= {"width": options.width, "image_size": options.image_size, "batch": options.batch}
    if options.only in (None, "training"):
        tables["training"] = compare_training(options)
    if options.only in (None, "evaluation"):
        tables["evaluation"] = compare_evaluation(options, with_onnx=not on_gpu)
    if options.only in (None, "memory"):
        tables["memory_mib"] = compare_memory(options)
    if options.json:
        options.json.write_text(json.dumps(tables, indent=2) + "\n", encoding="utf-8")


def build(form: Form, width: float) -> nn.Module:
    """Builds one of the networks; ours and timm's have the same weights."""
    torch.manual_seed(0)
    theirs = timm.create_model(f"rexnet_{round(width * 100)}", drop_rate=0.2)
    if form.network == "timm":
        return theirs
    ours = rexnet(width, grad_checkpointing=form.checkpointed)
    ours.load_state_dict(theirs.state_dict())
    return ours


def compare_training(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Prints images/s of whole training steps."""
    forms = forms_to_train(options)
    makers = {form.name: functools.partial(prepare_training, form, options.width, options.image_size) for form in forms}
    return report("training step", makers, options)


def compare_evaluation(options: argparse.Namespace, with_onnx: bool) -> dict[str, dict[str, float]]:
    """Prints images/s in evaluation."""
    forms = forms_to_evaluate(options)
    makers: dict[str, Maker] = {
        form.name: functools.partial(prepare_evaluation, form, options.width, options.image_size) for form in forms
    }
    with TemporaryDirectory() as folder:
        if with_onnx:
            graph = Path(folder) / "model.onnx"
            example = torch.randn(2, 3, options.image_size, options.image_size)
            write_graph(fold_batchnorm(build(Form("ours"), options.width)), (example,), graph)
            makers["ours, ONNX Runtime, fp32"] = functools.partial(prepare_onnx, graph, options.image_size)
        return report("evaluation", makers, options)


def report(what: str, makers: dict[str, Maker], options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measures the forms, prints a table with ratios to timm and returns it."""
    makers = {name: maker for name, maker in makers.items() if re.search(options.forms, name)}
    if not makers:
        return {}
    compiled = [name for name in makers if "compiled" in name]
    speeds = measure_in_turns(makers, [options.batch], options.seconds, compiled)
    rates = {name: speed.images_per_s[options.batch] for name, speed in speeds.items()}
    theirs = [name for name in rates if name.startswith("timm")] or list(rates)
    default, best = rates[theirs[0]], max(rates[name] for name in theirs)
    print(f"\n{what}, ReXNet {options.width:g}x, {options.image_size} px, batch {options.batch}")
    print(f"  {'':38} images/s   to timm's default   to timm's best   start-up")
    table = {}
    for name, rate in rates.items():
        table[name] = {"images_per_s": rate, "to_default": rate / default, "to_best": rate / best}
        table[name]["start_s"] = speeds[name].start_s
        numbers = f"{rate:9.1f} {rate / default:19.2f} {rate / best:16.2f} {speeds[name].start_s:9.0f} s"
        print(f"  {name:38}{numbers}", flush=True)
    return table


def place(form: Form, width: float) -> tuple[nn.Module, Device]:
    """Builds the network of a form on its device, with the memory setting of this process."""
    device = form.device()
    torch.backends.cudnn.benchmark = True  # as timm's scripts set it, and ours in long runs
    network = build(form, width)
    network = fold_batchnorm(network) if form.folded else network
    return device.place(pad_channels(network, device.pad_channels)), device


def prepare_training(form: Form, width: float, image_size: int) -> Run:
    """Returns a function that trains one step on a batch of the given size."""
    model, device = place(form, width)
    model.train()
    if form.network == "ours" and form.compiled:
        compile_steps(model, TrainerConfig(compile=True, cuda_graphs=form.graphs), form.checkpointed, processes=1)
    elif form.compiled:
        model.compile()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True)
    images: dict[int, torch.Tensor] = {}

    def step(batch: int) -> None:
        if batch not in images:
            images[batch] = random_images(batch, image_size, device)
        optimizer.zero_grad()
        with device.autocast():
            labels = torch.arange(batch, device=device.torch_device)
            loss = nn.functional.cross_entropy(model(images[batch]), labels, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        if device.accelerator == "gpu":
            torch.cuda.synchronize()

    return step


def prepare_evaluation(form: Form, width: float, image_size: int) -> Run:
    """Returns a function that classifies a batch of the given size."""
    model, device = place(form, width)
    model.eval()
    compute: Callable[[torch.Tensor], object] = torch.compile(model.forward, dynamic=False) if form.compiled else model
    images: dict[int, torch.Tensor] = {}

    def run(batch: int) -> None:
        if batch not in images:
            images[batch] = random_images(batch, image_size, device)
        with torch.inference_mode(), device.autocast():
            compute(images[batch])
        if device.accelerator == "gpu":
            torch.cuda.synchronize()

    return run


def random_images(batch: int, image_size: int, device: Device) -> torch.Tensor:
    """Returns normal noise (batch, 3, image_size, image_size) in the layout of the device."""
    noise = torch.randn(batch, 3, image_size, image_size, device=device.torch_device)
    return noise.to(memory_format=device.memory_format)


def prepare_onnx(path: Path, image_size: int) -> Run:
    """Returns a function that classifies a batch of the given size with ONNX Runtime on the CPU."""
    graph, noise = open_onnx(path), np.random.default_rng(0)
    images: dict[int, np.ndarray] = {}

    def run(batch: int) -> None:
        if batch not in images:
            images[batch] = noise.standard_normal((batch, 3, image_size, image_size), dtype=np.float32)
        graph(images[batch])

    return run


def compare_memory(options: argparse.Namespace) -> dict[str, float]:
    """Prints the peak memory of training in float32, each form in a process of its own."""
    print(f"\npeak memory of training, batch {options.batch}, fp32, MiB (ratio to timm)")
    sizes: dict[str, float] = {}
    for name, form in IN_MEMORY.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            sizes[name] = process.submit(measure_memory, form, options).result()
        print(f"  {name:26} {sizes[name]:8.0f} {sizes[name] / sizes['timm']:8.2f}", flush=True)
    return sizes


def measure_memory(form: Form, options: argparse.Namespace) -> float:
    """Returns the peak memory in MiB of three training steps, without that of the network."""
    step = prepare_training(form, options.width, options.image_size)
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
