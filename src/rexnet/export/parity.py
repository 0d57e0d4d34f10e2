"""Compares exported files with the network that they came from, on real images."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch

from rexnet.checkpoints.checkpoint import Trained
from rexnet.data.augment.transforms import build_eval_transform
from rexnet.data.dataset import Batch, ImageDataset
from rexnet.data.datasets.index import Index
from rexnet.data.loaders import build_eval_loader, eval_batch_size, resolve_loader
from rexnet.export.deployed import Deployed
from rexnet.export.reading import Runner
from rexnet.system.device import adapt_to_hardware

EAGER = "eager"
MAX_DIFFERENCE = 1e-4  # of a probability, between the network and a float32 file


class Parity(NamedTuple):
    """Accuracy of one form of the network, and its agreement with the network in PyTorch."""

    top1: float
    """In percent."""
    agreement: float
    """Percentage of images with the same predicted class as the network in PyTorch."""
    largest_difference: float
    """Largest difference of a probability from the network in PyTorch."""
    n: int
    """Number of images."""


def measure_parity(
    trained: Trained, index: Index, deployed: Deployed, runners: Mapping[str, Runner]
) -> dict[str, Parity]:
    """Returns the parity of the float32 network in PyTorch, called `eager`, and of each exported file, by format."""
    model = trained.model.cpu().float().to(memory_format=torch.channels_last)
    outputs: dict[str, list[np.ndarray]] = {name: [] for name in (EAGER, *runners)}
    labels: list[np.ndarray] = []
    for batch in load_eval_batches(trained, index):
        with torch.inference_mode():
            probabilities = deployed.apply_temperature(model(deployed.normalize(batch.images)))
        outputs[EAGER].append(probabilities.numpy())
        images = deployed.prepare(batch.images).numpy()
        for name, run in runners.items():
            outputs[name].append(run(images))
        labels.append(batch.labels.numpy())
    truth, reference = np.concatenate(labels), np.concatenate(outputs[EAGER])
    parities = {}
    for name, batches in outputs.items():
        found = np.concatenate(batches)
        parities[name] = Parity(
            top1=100 * float((found.argmax(1) == truth).mean()),
            agreement=100 * float((found.argmax(1) == reference.argmax(1)).mean()),
            largest_difference=float(np.abs(found - reference).max()),
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
        "| form  | top-1 % | same class % | largest difference |",
        "| ----- | ------- | ------------ | ------------------ |",
    ]
    for name, parity in parities.items():
        numbers = f"{parity.top1:7.2f} | {parity.agreement:12.2f} | {parity.largest_difference:18.1e}"
        lines.append(f"| {name:5} | {numbers} |")
    return "\n".join(lines)
