"""Compares exported files with the network that they came from, on real images."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch

from rexnet.checkpoints.checkpoint import Trained
from rexnet.data.augment.transforms import build_eval_transform
from rexnet.data.dataset import Batch, ImageDataset
from rexnet.data.datasets.index import Index
from rexnet.data.loaders import build_eval_loader, eval_batch_size, resolve_loader
from rexnet.export.deployed import Deployed
from rexnet.system.device import adapt_to_hardware

Runner = Callable[[np.ndarray], np.ndarray]
"""Maps images in the form of the file's input to probabilities (N, classes)."""

EAGER = "eager"
MAX_DIFFERENCE = 1e-4  # of a probability, between the network and a float32 file


class Parity(NamedTuple):
    """Accuracy and speed of one form of the network, and its agreement with the network in PyTorch."""

    top1: float
    """In percent."""
    agreement: float
    """Percentage of images with the same predicted class as the network in PyTorch."""
    largest_difference: float
    """Largest difference of a probability from the network in PyTorch."""
    images_per_s: float
    megabytes: float | None
    """Size of the file; None for the network in PyTorch."""
    n: int


def measure_parity(
    trained: Trained, index: Index, deployed: Deployed, runners: Mapping[str, Runner], sizes: Mapping[str, int]
) -> dict[str, Parity]:
    """Returns the parity of the float32 network in PyTorch, called `eager`, and of each exported file.

    All forms compute each batch one after the other, so that a busy machine slows all of them alike. PyTorch and ONNX
    Runtime share this process; `benchmarks/network.py` times them in separate ones. `runners` and `sizes` (in bytes)
    are keyed by format.
    """
    model = trained.model.cpu().float().to(memory_format=torch.channels_last)
    outputs: dict[str, list[np.ndarray]] = {name: [] for name in (EAGER, *runners)}
    seconds = dict.fromkeys(outputs, 0.0)
    labels: list[np.ndarray] = []

    def eager(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            result: np.ndarray = deployed.apply_temperature(model(deployed.normalize(torch.from_numpy(images)))).numpy()
        return result

    for batch in load_eval_batches(trained, index):
        prepared = deployed.prepare(batch.images).numpy()
        for name in outputs:
            run, images = (eager, batch.images.numpy()) if name == EAGER else (runners[name], prepared)
            if not labels:
                run(images)  # warm-up
            start = time.perf_counter()
            outputs[name].append(run(images))
            seconds[name] += time.perf_counter() - start
        labels.append(batch.labels.numpy())
    truth, reference = np.concatenate(labels), np.concatenate(outputs[EAGER])
    parities = {}
    for name, batches in outputs.items():
        found = np.concatenate(batches)
        parities[name] = Parity(
            top1=100 * float((found.argmax(1) == truth).mean()),
            agreement=100 * float((found.argmax(1) == reference.argmax(1)).mean()),
            largest_difference=float(np.abs(found - reference).max()),
            images_per_s=len(truth) / seconds[name],
            megabytes=sizes[name] / 1e6 if name in sizes else None,
            n=len(truth),
        )
    return parities


def load_eval_batches(trained: Trained, index: Index) -> Iterator[Batch]:
    """Yields the batches of `index` with the preprocessing of a trained network."""
    data, trainer = trained.config.data, adapt_to_hardware(trained.config.trainer)
    dataset = ImageDataset(index, build_eval_transform(trained.preprocessing))
    yield from build_eval_loader(dataset, eval_batch_size(data.step_images), resolve_loader(data, trainer))


def find_faults(parities: Mapping[str, Parity]) -> list[str]:
    """Returns one sentence for each float32 file that differs too much; int8 is judged by its accuracy."""
    return [
        f"{name} differs from the network: probabilities by up to {parity.largest_difference:.1e}, the class in "
        f"{100 - parity.agreement:.2f} % of the images"
        for name, parity in parities.items()
        if name != "int8" and (parity.largest_difference > MAX_DIFFERENCE or parity.agreement < 100)
    ]


def describe_parity(parities: Mapping[str, Parity]) -> str:
    """Returns a Markdown table that is also readable in a terminal."""
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
    return "\n".join(lines)
