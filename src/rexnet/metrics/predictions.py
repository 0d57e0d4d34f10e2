"""The logits of a classifier for a split, saved for reports and comparisons."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rexnet.class_names import readable_names
from rexnet.errors import DataError, first_sentence
from rexnet.system.atomic_files import atomic_write

EVALUATION_FOLDER = "evaluation"  # in a run folder


class Predictions(NamedTuple):
    """Logits and labels of a split, in the order of the data set."""

    logits: np.ndarray
    """float32 (N, classes); for exported graphs, the logarithm of their probabilities."""
    labels: np.ndarray
    """int64 (N,), rows of `class_names`."""
    names: tuple[str, ...]  # paths of the images below the root of the data set
    class_names: tuple[str, ...]

    @property
    def has_top5(self) -> bool:
        """False if five answers are all classes, so that top-5 is always 100 %."""
        return len(self.class_names) > 5

    def select(self, positions: np.ndarray) -> "Predictions":
        """Returns the predictions at `positions`, in that order."""
        names = tuple(self.names[position] for position in positions.tolist())
        return self._replace(logits=self.logits[positions], labels=self.labels[positions], names=names)

    def with_readable_classes(self) -> "Predictions":
        """Returns a copy with English names instead of ImageNet's WordNet numbers."""
        return self._replace(class_names=readable_names(self.class_names))


def predictions_path(run: Path, stem: str, weights: str, split: str) -> Path:
    """Returns the file in a run for the predictions of a checkpoint; the results are in `.json` next to it."""
    return run / EVALUATION_FOLDER / f"{stem}-{weights}-{split}.npz"


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Writes an `.npz` file atomically.

    Raises:
        ConfigError: the file cannot be written.
    """
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            logits=predictions.logits.astype(np.float32),
            labels=predictions.labels.astype(np.int64),
            names=_pack(predictions.names),
            class_names=_pack(predictions.class_names),
        )


def load_predictions(path: Path) -> Predictions:
    """Reads the file of `save_predictions` without executing anything from it.

    Raises:
        DataError: the file is missing, damaged or of another kind.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of predictions; `rexnet evaluate` writes them")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names, class_names = (tuple(json.loads(arrays[key].tobytes())) for key in ("names", "class_names"))
            predictions = Predictions(arrays["logits"], arrays["labels"], names, class_names)
    except Exception as error:  # zipfile and NumPy raise a dozen types for damaged files
        raise DataError(f"{path}: cannot be read as predictions: {first_sentence(error)}") from None
    logits, labels, shape = predictions.logits, predictions.labels, (len(names), len(class_names))
    fits = logits.shape == shape and labels.shape == shape[:1] and logits.dtype == np.float32
    if not fits or not np.isin(labels, np.arange(shape[1])).all():
        raise DataError(f"{path}: its logits are {logits.shape}, but it names {shape[0]} images and {shape[1]} classes")
    return predictions


def _pack(names: tuple[str, ...]) -> np.ndarray:
    """Returns names as JSON bytes: NumPy's strings would all take four bytes per letter of the longest."""
    return np.frombuffer(json.dumps(names).encode("ascii"), np.uint8)
