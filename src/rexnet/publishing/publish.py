"""Collects a trained network in a folder for other people; the folder appears when it is complete."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rexnet.checkpoints.checkpoint import Trained, WeightsKind, load_trained
from rexnet.config import dump_config
from rexnet.config.portable import make_portable
from rexnet.data.datasets.eval_images import find_images
from rexnet.data.datasets.index import Index
from rexnet.errors import CheckpointError, ConfigError, DataError, ExportError
from rexnet.evaluation.inference import run_inference
from rexnet.evaluation.inference_model import load_inference_model
from rexnet.export.deployed import Deployed
from rexnet.export.export import thin_out
from rexnet.export.formats import write_onnx, write_safetensors
from rexnet.export.parity import find_faults, measure_parity
from rexnet.export.reading import open_onnx
from rexnet.metrics.predictions import predictions_path, save_predictions
from rexnet.models.factory import find_timm_architecture
from rexnet.publishing.card import write_card
from rexnet.report.report import write_report
from rexnet.runs.run import Run
from rexnet.system.atomic_files import temporary_path

log = logging.getLogger(__name__)

PARITY_IMAGES = 256


def publish(run: Path, target: Path, weights: WeightsKind | None = None, root: Path | None = None) -> None:
    """Writes weights, config, ONNX file, model card and report of a run's best checkpoint into a new folder.

    The checkpoint is evaluated on all validation images, those at `root` if the data set has moved, and the ONNX file
    is compared with it on some of them. `target` must be missing or empty.

    Raises:
        RexnetError: the run, the images or the folder is faulty, or the ONNX file differs from the network.
    """
    if not run.is_dir():
        raise CheckpointError(f"{run}: is not a run folder")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target}: exists already; give the name of a new folder")
    trained = load_trained(run, weights)
    index, title = _find_images(trained, root), target.absolute().name
    with _new_folder(target) as folder:
        public = trained._replace(config=make_portable(trained.config))
        deployed = Deployed(public)
        write_safetensors(public, folder / "model.safetensors")
        (folder / "config.yaml").write_text(dump_config(public.config), encoding="utf-8")
        write_onnx(public, deployed, folder / "model.onnx")
        predictions = run_inference(load_inference_model(trained.path, trained.weights), index).predictions
        save_predictions(predictions_path(run, trained.path.stem, trained.weights, "val"), predictions)
        runners = {"onnx": open_onnx(folder / "model.onnx").run}
        if faults := find_faults(measure_parity(trained, thin_out(index, PARITY_IMAGES), deployed, runners)):
            raise ExportError(f"{run}: {'; '.join(faults)}")
        architecture = find_timm_architecture(trained.model, trained.config.model)
        if architecture is not None:
            _write_timm_config(architecture, public, folder / "config.json")
        write_report(run, folder / "report.html", title=title)
        write_card(title, Run(run).epochs, public, predictions, architecture, folder / "README.md")
    log.info(
        f"Published    {target}  ({', '.join(sorted(path.name for path in target.iterdir()))})\n"
        f"Check        {target / 'README.md'}, above all intended use and license\n"
        f"Upload       hf upload USER/NAME {target}"
    )


def _find_images(trained: Trained, root: Path | None) -> Index:
    """Returns the validation images."""
    try:
        index = find_images(trained.config.data, "val", root)
    except DataError as error:
        raise DataError(f"{error}; name the images with --data") from None
    if index.class_names != trained.class_names:
        raise DataError(f"{index.root}: has other classes than {trained.path}")
    return index


def _write_timm_config(architecture: str, trained: Trained, path: Path) -> None:
    """Writes the config that `timm.create_model("hf-hub:USER/NAME", pretrained=True)` and `local-dir:` read."""
    view = trained.preprocessing
    content = {
        "architecture": architecture,
        "num_classes": len(view.class_names),
        "num_features": trained.model.num_features,
        "label_names": list(view.class_names),
        "pretrained_cfg": {
            "num_classes": len(view.class_names),
            "input_size": [3, view.image_size, view.image_size],
            "mean": list(view.mean),
            "std": list(view.std),
            "interpolation": view.interpolation,
            "crop_pct": view.crop_pct,
            "crop_mode": "center",
        },
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Yields a hidden folder next to `target` and renames it to `target` if the block succeeds."""
    target = target.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_path(target) as folder:
            folder.mkdir()
            yield folder
            folder.rename(target)  # replaces an empty folder
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror or error}") from None
