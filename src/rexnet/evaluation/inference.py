"""Runs a classifier over images, as they are or in several views, and times it."""

import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rexnet.config import Config
from rexnet.data.augment.transforms import build_eval_transform
from rexnet.data.dataset import ImageDataset
from rexnet.data.datasets.index import Index
from rexnet.data.loaders import build_eval_loader, eval_batch_size, resolve_loader
from rexnet.data.workers import explained_faults
from rexnet.errors import DataError
from rexnet.evaluation.inference_model import InferenceModel, Logits
from rexnet.evaluation.processes import ALONE, Processes
from rexnet.metrics.accuracy import count_batch
from rexnet.metrics.predictions import Predictions
from rexnet.preprocessing import resolve_preprocessing
from rexnet.system.terminal import Bar, progress_bar

SIZES = (1, 8 / 7, 9 / 7)  # of the views of several sizes, relative to the image size: 224, 256, 288
SMALLEST = float(np.finfo(np.float32).tiny)


class View(NamedTuple):
    """How images are shown to a classifier. What it says of several views of an image is averaged, as probabilities."""

    image_size: int | None = None
    """Side of the square; resizing and cropping grow in proportion (FixRes, arXiv 1906.06423). None: as trained."""
    flip: bool = False
    """The image and its mirror image."""
    sizes: bool = False
    """The image at three sizes."""

    def describe(self, config: Config) -> str:
        """In words, such as `224 px, flip`."""
        size = self.image_size or config.data.image_size
        return ", ".join([f"{size} px", *(name for name in ("flip", "sizes") if getattr(self, name))])


class Measured(NamedTuple):
    """What came of it."""

    predictions: Predictions
    counts: dict[str, float]
    """`top1`, `top5` (percent) and `loss`, added up batch by batch as training's validation does, to the last digit."""
    images_per_s: float


def measure(
    model: InferenceModel,
    index: Index,
    view: View = View(),  # noqa: B008
    workers: int | None = None,
    processes: Processes = ALONE,
    title: str = "measuring",
) -> Measured:
    """Every image of `index` once in every view.

    The numbers are the same for any number of processes and loader processes: each process computes whole batches, the
    very ones that a single one would, all get the logits of all, and count them alike. On GPUs, whose algorithms are
    chosen anew in each run, a logit may differ in its last bits.

    Args:
        model: the classifier; the index's classes are its own.
        index: the images.
        view: how they are shown.
        workers: loader processes; None takes those of training.
        processes: those that share the images; all of them call this. Each holds all logits at the end.
        title: of the progress bar.

    Raises:
        DataError: an image is broken.
        ConfigError: an exported graph is asked for another size.
    """
    config, start = configure(model.config, view, workers), time.perf_counter()
    factors = SIZES if view.sizes else (1,)
    run = _mirrored(model.logits) if view.flip else model.logits
    with progress_bar(len(factors) * len(index), " images", desc=title, leave=False) as bar:
        parts = [_run(_at_size(config, factor), index, run, processes, bar) for factor in factors]
    logits = parts[0] if len(parts) == 1 else mean_of_views([torch.from_numpy(part) for part in parts]).numpy()
    seconds = time.perf_counter() - start
    names = tuple(index.paths)
    assert len(logits) == len(names) == len(index), "every image is measured once"
    predictions = Predictions(logits, np.asarray(index.labels), names, tuple(model.class_names))
    return Measured(
        predictions, count_as_training(predictions, eval_batch_size(config.data.batch_size)), len(index) / seconds
    )


def mean_of_views(logits: list[Tensor]) -> Tensor:
    """Logarithm of the mean of the probabilities of several views, each as logits (N, classes)."""
    return torch.stack([view.softmax(1) for view in logits]).mean(0).clamp(min=SMALLEST).log()


def count_as_training(predictions: Predictions, batch: int) -> dict[str, float]:
    """`top1`, `top5` and `loss` in the arithmetic of training's validation, whose batches had this many images."""
    logits, labels = torch.from_numpy(predictions.logits), torch.from_numpy(np.array(predictions.labels))
    parts = zip(torch.split(logits, batch), torch.split(labels, batch), strict=True)
    correct1, correct5, loss = (
        torch.stack(sums).sum() for sums in zip(*itertools.starmap(count_batch, parts), strict=True)
    )
    n = len(labels)
    return {
        "top1": (100.0 * correct1 / n).item(),
        "top5": (100.0 * correct5 / n).item(),
        "loss": (loss / n).float().item(),
    }


def _run(config: Config, index: Index, logits: Logits, processes: Processes, bar: Bar) -> np.ndarray:  # type: ignore[type-arg]
    """Logits (N, classes) of all images, in their order."""
    if not len(index):
        raise DataError(f"{index.root}: holds no images")
    mine, done = [], bar.n
    dataset = ImageDataset(index, build_eval_transform(resolve_preprocessing(config, index.class_names)))
    settings = resolve_loader(config.data, config.trainer)
    batch_size = eval_batch_size(config.data.batch_size)
    loader = build_eval_loader(dataset, batch_size, settings, processes.rank, processes.world_size)
    with explained_faults([dataset], config.data.worker_timeout):
        for batch in loader:
            if len(batch.images):  # none, where there are fewer batches than processes
                mine.append(logits(batch.images).cpu().numpy())
            bar.update(min(len(batch.images) * processes.world_size, len(index) - (bar.n - done)))
        rounds = itertools.zip_longest(*processes.gather(mine))  # batches were dealt out in turn
    return np.concatenate([batch for one in rounds for batch in one if batch is not None])


def _mirrored(logits: Logits) -> Callable[[Tensor], Tensor]:
    return lambda images: mean_of_views([logits(images), logits(images.flip(2))])


def configure(config: Config, view: View, workers: int | None) -> Config:
    """`config` at the size of a view, with so many loader processes."""
    changes: dict[str, object] = {}
    if workers is not None:
        changes["num_workers"] = workers
    if view.image_size is not None:
        changes["image_size"] = view.image_size
    return config.model_copy(update={"data": config.data.model_copy(update=changes)})


def _at_size(config: Config, factor: float) -> Config:
    size = round(factor * config.data.image_size)
    return config.model_copy(update={"data": config.data.model_copy(update={"image_size": size})})
