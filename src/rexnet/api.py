"""The Python API: trains, loads, predicts, evaluates and exports, by the same functions as the command line.

Nothing is printed unless the logger `rexnet` is set to INFO. Errors are `rexnet.errors.RexnetError`, in one sentence.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from pytorch_lightning.callbacks import Callback

from rexnet.checkpoints.checkpoint import WeightsKind
from rexnet.config import Config, load_config
from rexnet.config.load import Overrides, replace_values, require_kind
from rexnet.data.datasets.index import Split
from rexnet.data.sources.decode import decode_image, rgb_pixels
from rexnet.errors import ConfigError, DataError
from rexnet.evaluation.evaluate import Request, evaluate
from rexnet.export.deployed import InputKind
from rexnet.export.export import export
from rexnet.export.formats import Format
from rexnet.export.parity import Parity
from rexnet.metrics.statistics import Summary
from rexnet.prediction.classify import Prediction, classify_stream
from rexnet.prediction.predict import load_for_prediction
from rexnet.runs.resume_rules import load_run_config
from rexnet.training.classification import train as train_classifier
from rexnet.training.run_training import TrainingResult

Image = str | Path | np.ndarray | PIL.Image.Image


def train(
    config: str | Path | Config | None = None,
    overrides: Overrides = (),
    resume: str | Path | None = None,
    allow_change: Collection[str] = (),
    callbacks: Sequence[Callback] = (),
) -> TrainingResult:
    """Trains a classifier and returns its metrics, run folder and best checkpoint.

    Args:
        config: a YAML file, the name of a shipped recipe such as `finetune/folder`, or a `Config`; None to resume a
            run with its own config.
        overrides: replace values of the config: `{"schedule.epochs": 3}`, or `["schedule.epochs=3"]`.
        resume: a run folder or checkpoint to continue.
        allow_change: keys of the recipe that may differ from those of the run to resume.
        callbacks: Lightning callbacks to add.

    Raises:
        Stopped: a signal ended the run after a checkpoint was saved.
        RexnetError: the config, the data, a weight file or the training itself is at fault.
    """
    if isinstance(config, Config):
        resolved = replace_values(config, overrides)
    elif resume is not None:
        found = load_run_config(Path(resume), overrides, allow_change, None if config is None else str(config))
        resolved = require_kind(found, Config, resume)
    elif config is None:
        raise ConfigError("train: needs a config for a new run, or resume=RUN to continue one")
    else:
        resolved = load_config(config, overrides)
    return train_classifier(resolved, Path(resume) if resume is not None else None, callbacks, allow_change)


def load(source: str | Path, weights: WeightsKind | None = None) -> "Predictor":
    """Loads a classifier.

    Args:
        source: a run folder (its best checkpoint), a checkpoint, a `.safetensors` or `.onnx` of `rexnet export`,
            `timm/NAME` or `timm/NAME=FILE`.
        weights: `ema` or `raw`; None: EMA if there are any.

    Raises:
        RexnetError: the source is missing, damaged, or not a classifier.
    """
    return Predictor(source, weights)


class Predictor:
    """A classifier that predicts, evaluates and exports; see `load` for the arguments."""

    def __init__(self, source: str | Path, weights: WeightsKind | None = None) -> None:
        self.source, self.weights = source, weights
        self.model = load_for_prediction(source, weights)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the outputs."""
        return self.model.class_names

    def predict(
        self, images: Image | Iterable[Image], top: int = 5, batch_size: int = 32, workers: int | None = None
    ) -> list[Prediction]:
        """Returns the most probable classes of each image, with calibrated probabilities if a temperature was fitted.

        Args:
            images: a path, a PIL image or RGB array of uint8 (H, W, 3), or several of these.
            top: classes per image.
            batch_size: images per forward pass.
            workers: decoding threads; None: one per core.

        Raises:
            DataError: an image cannot be read.
        """
        is_array = isinstance(images, np.ndarray) and images.ndim != 4
        is_single = is_array or isinstance(images, str | Path | PIL.Image.Image)
        several: Iterable[Image] = [images] if is_single else images  # type: ignore[list-item, assignment]
        predictions = []
        for _, result in classify_stream(self.model, several, _read_pixels, top, batch_size, workers):
            if isinstance(result, DataError):
                raise result
            predictions.append(result)
        return predictions

    def evaluate(self, root: str | Path | None = None, split: Split = "val") -> Summary:
        """Returns top-1, top-5, loss and other metrics on a split.

        `root` names other images than those of the training: a data set, or class folders with some of the classes.

        Raises:
            RexnetError: the images are missing, broken, or of other classes.
        """
        roots = () if root is None else (Path(root),)
        weights = () if self.weights is None else (self.weights,)
        return evaluate([self.source], Request(split, roots, weights))[0].summary

    def export(
        self,
        formats: Sequence[Format],
        folder: str | Path | None = None,
        kind: InputKind = "uint8",
        root: str | Path | None = None,
    ) -> dict[str, Parity]:
        """Writes files for other programs, and returns accuracy and agreement of each with the network.

        Args:
            formats: `onnx`, `torch`, `safetensors`, `official` or `int8`.
            folder: the folder of the files; None: `export/` in the run, or next to a single file.
            kind: input of the files: `uint8` for RGB bytes, `float` for normalized images.
            root: the images to compare on, if not those of the training.

        Raises:
            RexnetError: the source is not a run, checkpoint or `.safetensors`, or a file differs from the network.
        """
        if self.model.network is None or self.model.config is None:
            raise ConfigError(f"{self.source}: only runs, checkpoints and .safetensors files can be exported")
        output, images = (None if path is None else Path(path) for path in (folder, root))
        return export(Path(self.source), formats, kind, output, images, self.weights)


def _read_pixels(image: Image) -> np.ndarray:
    """Returns the RGB pixels of an image, uint8 (H, W, 3)."""
    if isinstance(image, PIL.Image.Image):
        return rgb_pixels(image, "a PIL image")
    if not isinstance(image, np.ndarray):
        return decode_image(str(image))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"an array should be an RGB image of uint8 (H, W, 3), not {image.dtype} {image.shape}")
    return np.ascontiguousarray(image)
