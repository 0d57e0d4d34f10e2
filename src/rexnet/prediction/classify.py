"""Classifies a stream of images, decoded by threads a few batches ahead."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from rexnet.data.augment.transforms import build_eval_transform
from rexnet.errors import DataError
from rexnet.evaluation.inference_model import InferenceModel
from rexnet.system.resources import count_cores

T = TypeVar("T")


class Prediction(NamedTuple):
    """The most probable classes of an image, the most probable first."""

    class_names: tuple[str, ...]
    probabilities: tuple[float, ...]
    """Calibrated if a temperature was fitted."""
    threshold: float = 0.0
    """Of `rexnet evaluate --coverage-at-error`; 0 if none was chosen."""

    @property
    def answer(self) -> str:
        """The most probable class, or `unknown` if its probability is below the threshold."""
        return self.class_names[0] if self.probabilities[0] >= self.threshold else "unknown"

    @property
    def pairs(self) -> list[tuple[str, float]]:
        """Class names with their probabilities."""
        return list(zip(self.class_names, self.probabilities, strict=True))


def classify_stream(
    model: InferenceModel,
    images: Iterable[T],
    load: Callable[[T], np.ndarray],
    top: int = 5,
    batch_size: int = 32,
    workers: int | None = None,
) -> Iterator[tuple[T, Prediction | DataError]]:
    """Yields every image in order, with its prediction or the error of loading it.

    Memory does not grow with the number of images.

    Args:
        model: the classifier.
        images: anything that `load` accepts.
        load: returns the RGB pixels of an image, uint8 (H, W, 3), or raises a DataError.
        top: classes per prediction.
        batch_size: images per forward pass.
        workers: threads that load and transform; None: one per core.
    """
    transform = build_eval_transform(model.preprocessing)

    def view(image: T) -> tuple[T, np.ndarray | DataError]:
        try:
            return image, transform(load(image), key=0)
        except DataError as error:
            return image, error
        except MemoryError:
            name = image if isinstance(image, str) else "an image"
            return image, DataError(f"{name}: there is not enough memory to decode it")

    views = _map_ahead(view, images, workers or count_cores(), 2 * batch_size)
    while batch := list(itertools.islice(views, batch_size)):
        pixels = [view for _, view in batch if isinstance(view, np.ndarray)]
        predictions = iter(classify(model, np.stack(pixels), top) if pixels else ())
        for image, result in batch:
            yield image, result if isinstance(result, DataError) else next(predictions)


def classify(model: InferenceModel, views: np.ndarray, top: int) -> list[Prediction]:
    """Returns the predictions for transformed images, uint8 (N, H, W, 3)."""
    top = min(top, len(model.class_names))
    values, rows = model.probabilities(torch.from_numpy(views)).cpu().topk(top, dim=1)
    return [
        Prediction(tuple(model.class_names[row] for row in places), tuple(probabilities), model.threshold or 0.0)
        for places, probabilities in zip(rows.tolist(), values.tolist(), strict=True)
    ]


def _map_ahead(
    function: Callable[[T], tuple[T, np.ndarray | DataError]], items: Iterable[T], threads: int, ahead: int
) -> Iterator[tuple[T, np.ndarray | DataError]]:
    """Yields the results in order, at most `ahead` of them computed early; decoding releases Python's lock."""
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[tuple[T, np.ndarray | DataError]]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
