"""Runs a classifier over the images of an index, optionally with test-time augmentation."""

import itertools
import time
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rexnet.data.augment.transforms import build_eval_transform
from rexnet.data.dataset import ImageDataset
from rexnet.data.datasets.index import Index
from rexnet.data.loaders import build_eval_loader
from rexnet.data.workers import explained_faults
from rexnet.errors import DataError
from rexnet.evaluation.inference_model import SMALLEST, InferenceModel
from rexnet.evaluation.processes import ALONE, Processes
from rexnet.metrics.accuracy import count_batch
from rexnet.metrics.predictions import Predictions
from rexnet.preprocessing import Preprocessing
from rexnet.system.terminal import progress_bar


class View(NamedTuple):
    """The size and test-time augmentation of the images."""

    image_size: int | None = None
    """Side of the square; the resize before the crop grows in proportion (FixRes, arXiv 1906.06423). None: as in
    training."""
    flip: bool = False
    """Average the probabilities of the image and its mirror image."""

    def of(self, preprocessing: Preprocessing) -> Preprocessing:
        """Returns the preprocessing at the size of this view."""
        return preprocessing._replace(image_size=self.image_size or preprocessing.image_size)

    def describe(self, preprocessing: Preprocessing) -> str:
        """Returns words such as `224 px, flip`."""
        return f"{self.of(preprocessing).image_size} px{', flip' if self.flip else ''}"


PLAIN = View()


class InferenceResult(NamedTuple):
    """Logits of every image, with metrics and throughput."""

    predictions: Predictions
    metrics: dict[str, float]
    """`top1` and `top5` in percent, and `loss`, summed over batches in the arithmetic of training's validation."""
    images_per_s: float


def run_inference(
    model: InferenceModel, index: Index, view: View = PLAIN, processes: Processes = ALONE, title: str = "inference"
) -> InferenceResult:
    """Classifies every image of `index`.

    The result does not depend on the number of processes or loader processes: batches are the same, each is computed by
    one process, and every process receives all logits. On GPUs, which select algorithms at run time, the last bits of
    a logit may differ between runs.

    Raises:
        DataError: an image is broken.
        ConfigError: an exported graph is asked for another image size.
    """
    if not len(index):
        raise DataError(f"{index.root}: holds no images")
    size = view.of(model.preprocessing).image_size
    model = model.for_job(len(index) * (1 + view.flip) // processes.world_size, (model.batch_size, size, size, 3))
    start = time.perf_counter()
    mine = []
    dataset = ImageDataset(index, build_eval_transform(view.of(model.preprocessing)))
    loader = build_eval_loader(dataset, model.batch_size, model.loader, processes.rank, processes.world_size)
    bar = progress_bar(len(index), " images", desc=title, leave=False)
    with bar, explained_faults([dataset], model.loader.timeout):
        for batch in loader:
            images = batch.images
            if len(images):  # empty if there are fewer batches than processes
                logits = model.logits(images)
                if view.flip:
                    logits = average_probabilities([logits, model.logits(images.flip(2))])
                mine.append(logits.cpu())
            bar.update(min(len(images) * processes.world_size, len(index) - bar.n))
    rounds = itertools.zip_longest(*processes.gather(mine))  # batch 0 belongs to process 0, batch 1 to process 1, ...
    values = torch.cat([batch for one_round in rounds for batch in one_round if batch is not None])
    seconds = time.perf_counter() - start
    assert len(values) == len(index), "every image is classified once"
    predictions = Predictions(values.numpy(), np.asarray(index.labels), tuple(index.paths), model.class_names)
    return InferenceResult(predictions, count_in_batches(predictions, model.batch_size), len(index) / seconds)


def average_probabilities(logits: list[Tensor]) -> Tensor:
    """Returns the logarithm of the mean probabilities of several logits (N, classes)."""
    return torch.stack([one.softmax(1) for one in logits]).mean(0).clamp(min=SMALLEST).log()


def count_in_batches(predictions: Predictions, batch_size: int) -> dict[str, float]:
    """Returns `top1`, `top5` and `loss`, added batch by batch as in training's validation."""
    logits, labels = torch.from_numpy(predictions.logits), torch.from_numpy(np.array(predictions.labels))
    counts = map(count_batch, torch.split(logits, batch_size), torch.split(labels, batch_size))
    hits, *sums = zip(*counts, strict=True)
    correct1, (correct5, loss), n = torch.cat(hits).sum(), (torch.stack(values).sum() for values in sums), len(labels)
    top1, top5 = (100.0 * correct / n for correct in (correct1, correct5))
    return {"top1": top1.item(), "top5": top5.item(), "loss": (loss / n).float().item()}
