"""What an exported file gives on real images, beside the network that it came from."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from rexnet.checkpoints.checkpoint import Trained
from rexnet.data.augment.transforms import build_eval_transform
from rexnet.data.dataset import ImageDataset, Sample
from rexnet.data.datasets.index import Index
from rexnet.data.loaders import build_eval_loader, eval_batch_size, resolve_loader
from rexnet.export.deployed import Deployed
from rexnet.preprocessing import resolve_preprocessing
from rexnet.system.atomic_files import atomic_write
from rexnet.system.device import with_available_hardware

Runner = Callable[[np.ndarray], np.ndarray]

EAGER = "eager"
LARGEST_DIFFERENCE = 1e-4  # of a probability, between the network and a file in its own arithmetic
LARGEST_LOSS = 1.0  # points of top-1 that int8 may cost


@dataclass(frozen=True)
class Parity:
    """One form of the network, measured on n images."""

    top1: float
    """Percent."""
    agreement: float
    """Percent of images for which it names the same class as the network in PyTorch."""
    largest_difference: float
    """Of any probability, to the network in PyTorch."""
    images_per_s: float
    megabytes: float | None
    """Size of the file."""
    n: int


def measure_parity(trained: Trained, index: Index, runners: Mapping[str, Runner], kind: str) -> dict[str, Parity]:
    """Each form's figures on the images of `index`; the network itself, as trained and in float32, is the first.

    All forms see each batch one after the other, so that a busy machine slows all of them alike. The speed is that of
    this process with the threads of PyTorch and ONNX Runtime side by side (`benchmarks/network.py` keeps them apart).
    """
    model = trained.model.cpu().float().to(memory_format=torch.channels_last)
    deployed = Deployed(trained, kind)  # type: ignore[arg-type]
    outputs: dict[str, list[np.ndarray]] = {name: [] for name in (EAGER, *runners)}
    seconds = dict.fromkeys(outputs, 0.0)
    labels: list[np.ndarray] = []

    def eager(images: np.ndarray) -> np.ndarray:
        floats = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - deployed.mean) / deployed.std
        with torch.inference_mode():
            result: np.ndarray = deployed.apply_temperature(model(floats)).numpy()
        return result

    for batch in load_eval_batches(trained, index):
        bytes_ = batch.images.numpy()
        ready = deployed.prepare(batch.images).numpy()
        for name in outputs:
            run, images = (eager, bytes_) if name == EAGER else (runners[name], ready)
            if not labels:
                run(images)  # the first time takes longer, and does not count
            start = time.perf_counter()
            outputs[name].append(run(images))
            seconds[name] += time.perf_counter() - start
        labels.append(batch.labels.numpy())
    truth, reference = np.concatenate(labels), np.concatenate(outputs[EAGER])
    return {
        name: _compare(np.concatenate(found), reference, truth, len(truth) / seconds[name])
        for name, found in outputs.items()
    }


def load_eval_batches(trained: Trained, index: Index) -> DataLoader[Sample]:
    """Returns a loader of `index` with the preprocessing of a trained network."""
    config = trained.config
    transform = build_eval_transform(resolve_preprocessing(config, index.class_names))
    settings = resolve_loader(config.data, with_available_hardware(config).trainer)
    return build_eval_loader(ImageDataset(index, transform), eval_batch_size(config.data.batch_size), settings)


def _compare(found: np.ndarray, reference: np.ndarray, truth: np.ndarray, images_per_s: float) -> Parity:
    """Probabilities (n, classes) against those of the network and the labels (n,)."""
    return Parity(
        top1=100 * float((found.argmax(1) == truth).mean()),
        agreement=100 * float((found.argmax(1) == reference.argmax(1)).mean()),
        largest_difference=float(np.abs(found - reference).max()),
        images_per_s=images_per_s,
        megabytes=None,
        n=len(truth),
    )


def find_faults(parities: Mapping[str, Parity]) -> list[str]:
    """What a form does worse than it may, in words; nothing if all is well."""
    faults = []
    for name, parity in parities.items():
        lost = parities[EAGER].top1 - parity.top1
        if name == "int8":
            if lost > LARGEST_LOSS:
                faults.append(f"int8 loses {lost:.2f} points of top-1, more than {LARGEST_LOSS:g}: do not use it")
            fastest = max((other.images_per_s for key, other in parities.items() if key != "int8"), default=0.0)
            if parity.images_per_s < fastest:
                faults.append(
                    f"int8 computes {parity.images_per_s:.0f} images/s on this machine and float32 {fastest:.0f}: "
                    f"it saves space here, not time; use float32 unless the size of the file matters"
                )
        elif parity.largest_difference > LARGEST_DIFFERENCE or parity.agreement < 100:
            faults.append(
                f"{name} differs from the network: probabilities by up to {parity.largest_difference:.1e}, the class "
                f"in {100 - parity.agreement:.2f} % of the images"
            )
    return faults


def describe_parity(parities: Mapping[str, Parity], faults: Sequence[str]) -> str:
    """The figures as a Markdown table, which is also good to read in a terminal."""
    lines = [
        "| form        | top-1 %  | same class % | largest difference | images/s | MB    |",
        "| ----------- | -------- | ------------ | ------------------ | -------- | ----- |",
    ]
    for name, parity in parities.items():
        size = f"{parity.megabytes:5.1f}" if parity.megabytes is not None else "     "
        lines.append(
            f"| {name:11} | {parity.top1:8.2f} | {parity.agreement:12.2f} | {parity.largest_difference:18.1e} | "
            f"{parity.images_per_s:8.0f} | {size} |"
        )
    return "\n".join([*lines, *(f"\nnote: {fault}" for fault in faults)])


def write_parity(folder: Path, title: str, parities: Mapping[str, Parity], faults: Sequence[str]) -> Path:
    """Writes `parity.md` and `parity.json` into `folder`; the path of the first."""
    content = {"forms": {name: asdict(parity) for name, parity in parities.items()}, "notes": list(faults)}
    with atomic_write(folder / "parity.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    path = folder / "parity.md"
    with atomic_write(path) as temporary:
        temporary.write_text(f"# {title}\n\n{describe_parity(parities, faults)}\n")
    return path
