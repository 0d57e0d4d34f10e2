"""ImageNet's robustness sets, each evaluated by the protocol of its authors: `rexnet evaluate --suite imagenet`."""

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rexnet.class_names import imagenet_synonyms
from rexnet.data.datasets.eval_images import find_images, fit_to_classes, is_imagenet
from rexnet.errors import ConfigError, DataError, first_sentence
from rexnet.evaluation.inference import run_inference
from rexnet.evaluation.inference_model import InferenceModel
from rexnet.evaluation.processes import ALONE, Processes
from rexnet.metrics.predictions import Predictions
from rexnet.metrics.statistics import is_among_top, wilson_interval

SETS = {
    "val": ("val", "image-net.org"),
    "ReaL": ("real.json", "github.com/google-research/reassessed-imagenet"),
    "V2": ("imagenetv2-matched-frequency-format-val", "github.com/modestyachts/ImageNetV2"),
    "A": ("imagenet-a", "github.com/hendrycks/natural-adv-examples"),
    "R": ("imagenet-r", "github.com/hendrycks/imagenet-r"),
    "Sketch": ("sketch", "github.com/HaohanWang/ImageNet-Sketch"),
    "C": ("ImageNet-C", "zenodo.org/records/2235448"),
}
"""Path below the root, as the authors publish it, and download source of each set."""
RESTRICTED = {"A": 200, "R": 200}  # number of classes that predictions are restricted to
SEVERITIES = "12345"
ALEXNET = """
    gaussian_noise 88.6428  shot_noise 89.4468  impulse_noise 92.2640  defocus_blur 81.9880  glass_blur 82.6268
    motion_blur 78.5948  zoom_blur 79.8360  snow 86.6816  frost 82.6572  fog 81.9324  brightness 56.4592
    contrast 85.3204  elastic_transform 64.6056  pixelate 71.7840  jpeg_compression 60.6500
"""
ALEXNET_ERRORS = {name: float(error) for name, error in re.findall(r"(\w+) ([\d.]+)", ALEXNET)}
"""AlexNet's error in percent, as the mean over five severities, from github.com/hendrycks/robustness."""

Row = dict[str, Any]
"""`set` and `note`; sets that were found also have `images`, `top1` and `interval`."""


def evaluate_suite(model: InferenceModel, root: Path, processes: Processes = ALONE) -> list[Row]:
    """Returns the accuracy on each set below `root`; the rows of missing sets name their sources.

    Raises:
        ConfigError: the model is not an ImageNet-1k classifier.
        DataError: `root` contains none of the sets, or one of them is invalid.
    """
    if not is_imagenet(model.class_names):
        raise ConfigError(f"--suite: {model.name} has {len(model.class_names):,} classes that are not ImageNet's 1,000")
    places = {name: root / place for name, (place, _) in SETS.items() if (root / place).exists()}
    if not places:
        raise DataError(f"--root: {root} has none of {', '.join(place for place, _ in SETS.values())}")
    rows: dict[str, Row] = {name: {"note": f"absent: {place}, from {source}"} for name, (place, source) in SETS.items()}
    for name in [name for name in places if name not in ("ReaL", "C")]:
        predictions = _predict(model, places[name], name, processes)
        if name in RESTRICTED:
            predictions = restrict(predictions)
        found, wanted = len(predictions.class_names), RESTRICTED.get(name, len(model.class_names))
        note = "" if found == wanted else f"has {found} class folders, but {wanted} were published"
        rows[name] = _count(is_among_top(predictions, 1), note)
        if name == "val" and "ReaL" in places:
            rows["ReaL"] = _measure_real(predictions, places["ReaL"])
    if "C" in places:
        rows["C"] = _measure_corruptions(model, places["C"], processes)
    return [{"set": name, **row} for name, row in rows.items()]


def restrict(predictions: Predictions) -> Predictions:
    """Restricts predictions to the classes that occur, as ImageNet-A and -R do with their 200."""
    rows, labels = np.unique(predictions.labels, return_inverse=True)
    names = tuple(predictions.class_names[row] for row in rows)
    return predictions._replace(logits=predictions.logits[:, rows], labels=labels, class_names=names)


def _predict(model: InferenceModel, folder: Path, title: str, processes: Processes) -> Predictions:
    """Classifies images in class folders that are named by WordNet id or, in V2, by the index of the class."""
    index = find_images(None, "val", folder.parent if folder.name == "val" else folder)  # the devkit is next to val
    if all(name.isdecimal() and int(name) < len(model.class_names) for name in index.class_names):
        wnids = tuple(imagenet_synonyms())
        index = replace(index, class_names=tuple(wnids[int(name)] for name in index.class_names))
    index = fit_to_classes(index, model.class_names, model.name)[0]
    return run_inference(model, index, processes=processes, title=title).predictions


def _count(right: np.ndarray, note: str = "") -> Row:
    interval = wilson_interval(int(right.sum()), len(right))
    return {"images": len(right), "top1": 100 * float(right.mean()), "interval": interval, "note": note}


def _measure_real(val: Predictions, file: Path) -> Row:
    """Counts a prediction as correct if it is one of the image's labels; images without labels do not count."""
    try:
        labels_of = json.loads(file.read_text(encoding="utf-8"))
        numbers = [int(re.findall(r"ILSVRC2012_val_(\d{8})", name)[-1]) for name in val.names]
        pairs = zip(val.logits.argmax(1).tolist(), (labels_of[number - 1] for number in numbers), strict=True)
        return _count(np.array([answer in labels for answer, labels in pairs if labels]))
    except (OSError, ValueError, TypeError, IndexError) as error:
        names = "ILSVRC2012_val_00000001 and so on, as the images of val are named"
        raise DataError(f"{file}: should list the labels of {names}: {first_sentence(error)}") from None


def _measure_corruptions(model: InferenceModel, folder: Path, processes: Processes) -> Row:
    """Computes the mean corruption error (arXiv 1903.12261) on images that are already cropped to 224 pixels."""
    model = replace(model, preprocessing=model.preprocessing._replace(crop_pct=1.0))
    right: dict[str, list[np.ndarray]] = {}
    for name in ALEXNET_ERRORS:
        place = next((place for place in (folder / name, *folder.glob(f"*/{name}")) if place.is_dir()), None)
        if place is not None:  # as the authors publish them, corruptions are in folders of their kind
            jobs = [(place / severity, f"{name} {severity}") for severity in SEVERITIES]
            right[name] = [is_among_top(_predict(model, *job, processes), 1) for job in jobs]
    if not right:
        raise DataError(f"{folder}: has none of the folders {', '.join(ALEXNET_ERRORS)}")
    ratios = [(1 - np.mean([one.mean() for one in found])) / ALEXNET_ERRORS[name] for name, found in right.items()]
    mce = 1e4 * float(np.mean(ratios))
    note = (
        f"mCE {mce:.1f} %" if len(right) == 15 else f"{mce:.1f} % of AlexNet's error on {len(right)} of 15 corruptions"
    )
    return _count(np.concatenate([*itertools.chain(*right.values())]), note)
