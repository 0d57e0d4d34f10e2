"""Gathers all that others need of a run in one folder, which is there whole or not at all."""

import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import numpy as np

from rexnet.checkpoints.checkpoint import Trained, WeightsKind, load_trained
from rexnet.config import dump_config
from rexnet.config.portable import make_portable
from rexnet.data.datasets.index import Index
from rexnet.errors import CheckpointError, ConfigError, DataError, ExportError
from rexnet.evaluation.inference import measure
from rexnet.evaluation.inference_model import load_inference_model
from rexnet.export.deployed import Deployed
from rexnet.export.export import find_images_here
from rexnet.export.formats import write_onnx, write_safetensors
from rexnet.export.parity import find_faults, measure_parity
from rexnet.export.reading import open_onnx
from rexnet.metrics.predictions import Predictions, predictions_path, save_predictions
from rexnet.models.factory import find_timm_architecture
from rexnet.publishing.card import write_card
from rexnet.report.report import write_report
from rexnet.runs.run import Run
from rexnet.system.atomic_files import made, temporary_path

log = logging.getLogger(__name__)

PARITY_IMAGES = 256


class Evidence(NamedTuple):
    """What the images told; None where they are not here."""

    predictions: Predictions | None
    training_images: int | None


def publish(run: Path, target: Path, weights: WeightsKind | None = None, root: Path | None = None) -> None:
    """Writes weights, configuration, ONNX file, model card and report of a run's best checkpoint into a new folder.

    All validation images are measured for it, and the ONNX file is compared with the network on some of them.

    Args:
        run: the run folder.
        target: the folder; it must not be there, or be empty.
        weights: averaged or raw; None: the averaged where there are any.
        root: where the images are, if not where they were in training.

    Raises:
        RexnetError: the run, the images or the folder is at fault, or the ONNX file differs from the network.
    """
    if not run.is_dir():
        raise CheckpointError(f"{run}: is no run folder")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target}: is there already; give the name of a new folder")
    trained = load_trained(run, weights)
    index, title = _find_images(trained, root), target.absolute().name
    with _cleaned_up_on_sigterm(), _built_beside(target) as folder:
        public = trained._replace(config=make_portable(trained.config))
        write_safetensors(public, folder / "model.safetensors")
        (folder / "config.yaml").write_text(dump_config(public.config), encoding="utf-8")
        write_onnx(public, Deployed(public), folder / "model.onnx")
        evidence = _measure(run, trained, index, folder / "model.onnx", root)
        architecture = find_timm_architecture(trained.model, trained.config.model)
        if architecture is not None:
            _write_timm_config(architecture, public, folder / "config.json")
        write_report([run], folder / "report.html", published_as=title)
        write_card(
            title,
            Run(run).epochs,
            public,
            evidence.predictions,
            evidence.training_images,
            architecture,
            folder / "README.md",
        )
    log.info(
        f"Published    {target}  ({', '.join(sorted(path.name for path in target.iterdir()))})\n"
        f"Look at      {target / 'README.md'}, above all at intended use and licence\n"
        f"Upload       hf upload USER/NAME {target}"
    )


def _find_images(trained: Trained, root: Path | None) -> Index | None:
    """The validation images, or None with a warning where they are not on this machine."""
    index = find_images_here(trained, root, "val")
    if index is None:
        log.warning("the run's images are not here: the card tells what training logged; see --data")
    elif index.class_names != trained.class_names:
        raise DataError(f"{index.root}: has other classes than {trained.path}")
    return index


def _measure(run: Path, trained: Trained, index: Index | None, onnx: Path, root: Path | None) -> Evidence:
    """The network on all validation images, which the run keeps for its report, and the ONNX file on some."""
    if index is None:
        return Evidence(None, None)
    predictions = measure(load_inference_model(trained.path, trained.weights), index).predictions
    save_predictions(predictions_path(run, trained.path.stem, trained.weights, "val"), predictions)
    some = index.select(np.linspace(0, len(index) - 1, min(PARITY_IMAGES, len(index))).astype(np.int64))
    if faults := find_faults(measure_parity(trained, some, {"onnx": open_onnx(onnx)}, "uint8")):
        raise ExportError(f"{run}: {'; '.join(faults)}")
    train: Index | None = None
    with suppress(DataError):  # another folder may hold the validation images alone
        train = find_images_here(trained, root, "train")
    return Evidence(predictions, len(train) if train is not None else None)


def _write_timm_config(architecture: str, trained: Trained, path: Path) -> None:
    """What lets `timm.create_model("hf-hub:USER/NAME", pretrained=True)` and `local-dir:` find network and view."""
    data, size = trained.config.data, trained.config.data.image_size
    content = {
        "architecture": architecture,
        "num_classes": len(trained.class_names),
        "num_features": trained.model.num_features,
        "label_names": list(trained.class_names),
        "pretrained_cfg": {
            "num_classes": len(trained.class_names),
            "input_size": [3, size, size],
            "mean": list(data.mean),
            "std": list(data.std),
            "interpolation": trained.config.eval_transform.interpolation,
            "crop_pct": trained.config.eval_transform.crop_pct,
            "crop_mode": "center",
        },
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _cleaned_up_on_sigterm() -> Iterator[None]:
    """Lets SIGTERM unwind the block, as Ctrl-C does, instead of ending the process where it stands."""
    owner = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a loader process, which has this handler from its parent
            os._exit(128 + number)
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _built_beside(target: Path) -> Iterator[Path]:
    """Lends a hidden folder beside `target`, which takes its place once the block has ended well."""
    target = target.absolute()
    try:
        with made(target.parent), temporary_path(target) as folder:
            folder.mkdir()
            yield folder
            folder.rename(target)  # an empty folder is replaced
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror or error}") from None
