"""What a classifier said about every image of a split, kept in a file for reports and comparisons."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rexnet.class_names import readable_names
from rexnet.errors import DataError, first_sentence
from rexnet.system.atomic_files import atomic_write

EVALUATION_FOLDER = "evaluation"  # in a run folder


class Predictions(NamedTuple):
    """Logits and labels of a split, in the data set's own order of images."""

    logits: np.ndarray
    """float32 (N, classes); of exports, which give probabilities, their logarithms."""
    labels: np.ndarray
    """int64 (N,), rows of `class_names`."""
    names: tuple[str, ...]
    """Of the images, relative to the data set's root."""
    class_names: tuple[str, ...]
    """One for each logit."""

    def select(self, positions: np.ndarray) -> "Predictions":
        """Those of the images at `positions`, in that order."""
        names = tuple(self.names[position] for position in positions.tolist())
        return self._replace(logits=self.logits[positions], labels=self.labels[positions], names=names)

    def with_readable_classes(self) -> "Predictions":
        """The same for people to look at, with English names in place of ImageNet's WordNet numbers."""
        return self._replace(class_names=readable_names(self.class_names))


def predictions_path(run: Path, stem: str, weights: str, split: str) -> Path:
    """Where a run keeps the predictions of one of its checkpoints; `.json` beside it holds the numbers."""
    return run / EVALUATION_FOLDER / f"{stem}-{weights}-{split}.npz"


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Writes an `.npz` file, whole or not at all.

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
    """What `save_predictions` wrote, without executing anything that the file contains.

    Raises:
        DataError: the file is missing, damaged or holds something else.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of predictions; `rexnet evaluate` writes them")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            predictions = Predictions(
                arrays["logits"], arrays["labels"], _unpack(arrays["names"]), _unpack(arrays["class_names"])
            )
    except Exception as error:  # zipfile and NumPy raise a dozen types for what is damaged; all mean the same
        raise DataError(f"{path}: cannot be read as predictions: {first_sentence(error)}") from None
    shape = (len(predictions.names), len(predictions.class_names))
    if predictions.logits.shape != shape or predictions.labels.shape != shape[:1]:
        raise DataError(
            f"{path}: its logits are {predictions.logits.shape}, but it names {shape[0]} images and {shape[1]} classes"
        )
    if predictions.logits.dtype != np.float32 or not np.isin(predictions.labels, np.arange(shape[1])).all():
        raise DataError(f"{path}: its labels or logits are none of {shape[1]} classes")
    return predictions


def _pack(names: tuple[str, ...]) -> np.ndarray:
    """Names as bytes of JSON: NumPy's own strings would all be as long as the longest, four bytes a letter."""
    return np.frombuffer(json.dumps(names).encode("ascii"), np.uint8)


def _unpack(packed: np.ndarray) -> tuple[str, ...]:
    return tuple(map(str, json.loads(packed.tobytes())))
