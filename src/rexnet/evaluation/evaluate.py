"""Measures classifiers on splits, exactly as training's validation did: from sources to results."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rexnet.checkpoints.checkpoint import Trained, WeightsKind
from rexnet.checkpoints.temperature import fitted_where, save_temperature
from rexnet.config.differences import recipe_of
from rexnet.data.datasets.by_name import splits_of
from rexnet.data.datasets.index import Index, Split
from rexnet.errors import ConfigError, DataError
from rexnet.evaluation.eval_images import find_images, fit_to_classes
from rexnet.evaluation.inference import Measured, View, configure, measure
from rexnet.evaluation.inference_model import TIMM, InferenceModel, load_inference_model, wrap_trained
from rexnet.evaluation.processes import ALONE, Processes
from rexnet.evaluation.results import Result, name_files, result_folder
from rexnet.evaluation.soup import SOUPS, build_soup
from rexnet.metrics.calibration import fit_temperature, split_in_halves
from rexnet.metrics.predictions import Predictions
from rexnet.metrics.statistics import summarise
from rexnet.system.terminal import is_interactive

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What is to be measured of each source."""

    split: Split = "val"
    roots: tuple[Path, ...] = ()
    """Other images than those of training; several give a row each."""
    weights: tuple[str, ...] = ()
    """`ema`, `raw`, `soup`, `greedy-soup`; none: the averaged where there are any, else the raw."""
    views: tuple[View, ...] = (View(),)
    workers: int | None = None
    calibrate: bool = False
    """Fit a temperature on other images than those reported, and keep it beside the checkpoint."""
    trust_pt2: bool = False
    processes: Processes = ALONE
    """Who shares the images; each of them makes the same request, and the first alone writes."""


class Candidate(NamedTuple):
    """A classifier to be measured."""

    model: InferenceModel
    weights: str
    remarks: tuple[str, ...]


def measure_all(sources: Sequence[str | Path], request: Request) -> list[Result]:
    """A result for each source, kind of weights, data set and view, in this order.

    Args:
        sources: whatever `load_inference_model` takes.
        request: what to measure.

    Raises:
        RexnetError: a source or the data is at fault, found before anything is measured where it can be.
    """
    _require_sound(request)
    candidates = [
        open_candidate(str(source), kind, request) for source in sources for kind in (request.weights or (None,))
    ]
    _require_same_classes([candidate.model for candidate in candidates], request)
    work = [
        (candidate, *_images_for(candidate.model, request.split, root))
        for candidate in candidates
        for root in (request.roots or (None,))
    ]
    results: list[Result] = []
    total = len(work) * len(request.views)
    for candidate, index, note in work:
        for view in request.views:
            remarks = (*candidate.remarks, *([note] if note else []))
            noted = candidate._replace(remarks=remarks)
            title = f"{len(results) + 1} of {total}" if total > 1 else "measuring"
            if total > 1 and not is_interactive():
                seen = f"{view.describe(candidate.model.config)}, {index.root}"
                log.info(f"{title}: {candidate.model.name} {candidate.weights}, {seen}")
            results.append(_measure(noted, index, view, request, title))
    return results


def open_candidate(source: str, weights: str | None, request: Request) -> Candidate:
    """The classifier of a source with the wanted weights, or the mean of a run's checkpoints.

    Networks of timm, for which training logged nothing, have their BatchNorm folded.
    """
    if weights not in SOUPS:
        kind: WeightsKind | None = weights  # type: ignore[assignment]  # one of the two
        model = load_inference_model(source, kind, fold=source.startswith(TIMM), trust_pt2=request.trust_pt2)
        return Candidate(model, model.weights or "", ())
    run = Path(source)

    def score(trained: Trained) -> float:
        """Top-1 on the validation images, with which greedy soups are chosen."""
        model = wrap_trained(trained, run.name)
        index, _ = _images_for(model, "val", None)
        title = "choosing a soup"
        return measure(model, index, View(), request.workers, request.processes, title).counts["top1"]

    trained, remark = build_soup(run, "soup" if weights == "soup" else "greedy-soup", score)
    return Candidate(wrap_trained(trained, run.resolve().name), weights, (remark,))


def _images_for(model: InferenceModel, split: Split, root: Path | None) -> tuple[Index, str | None]:
    if root is None and model.name.startswith(TIMM):
        raise ConfigError(f"{model.name}: has no images of its own; say with --data which to measure on")
    data = model.config.data
    if root is None and not (data.root.exists() or data.download or data.dataset == "digits"):  # which are made there
        raise DataError(f"{model.name}: its images, {data.root}, are not here; say with --data which to measure on")
    return fit_to_classes(find_images(model.config, split, root), model.class_names, model.name)


def _measure(candidate: Candidate, index: Index, view: View, request: Request, title: str) -> Result:
    model, remarks = candidate.model, candidate.remarks
    measured = measure(model, index, view, request.workers, request.processes, title)
    temperature = model.temperature
    if request.calibrate:
        measured, temperature, remark = _calibrate(candidate, measured, request)
        remarks = (*remarks, remark)
    elif temperature is not None and model.path is not None and model.path.suffix == ".ckpt":
        remarks = (*remarks, f"{fitted_where(model.path, candidate.weights)}: on those very images its figures flatter")
    as_trained = view == View() and not request.roots and not request.calibrate and request.split == "val"
    return Result(
        model=model.name,
        source=str(model.path or model.name),
        weights=candidate.weights,
        data=str(index.root),
        split=request.split,
        view=view.describe(model.config),
        index=index,
        config=configure(model.config, view, request.workers),
        predictions=measured.predictions,
        summary=summarise(measured.predictions)._replace(**measured.counts),  # type: ignore[arg-type]
        images_per_s=measured.images_per_s,
        temperature=temperature,
        logged=model.metrics.get("val_ema/top1" if candidate.weights == "ema" else "val/top1") if as_trained else None,
        remarks=remarks,
        series=_series(model, candidate.weights),
        network=model.network,
        name=name_files(
            model, candidate.weights, request.split, index.root if request.roots else None, view, request.calibrate
        ),
        folder=None if model.path is None or model.name.startswith(TIMM) else result_folder(model.path),
    )


def _calibrate(candidate: Candidate, measured: Measured, request: Request) -> tuple[Measured, float, str]:
    """What is to be reported, the temperature, and a line on the images that it was fitted on."""
    model, predictions = candidate.model, measured.predictions
    other = _held_out(model, request)
    if other is not None:
        index, _ = _images_for(model, other, None)
        fitting = measure(
            model, index, View(), request.workers, request.processes, "fitting the temperature"
        ).predictions
        fitted_on = f"the {len(fitting.labels)} images of {other}"
        remark = f"temperature fitted on {fitted_on}"
    else:
        first, second = split_in_halves(len(predictions.labels))
        fitting, reported = predictions.select(first), predictions.select(second)
        fitted_on = f"{len(first)} of the {len(predictions.labels)} images of {request.split}, drawn at random"
        remark = f"temperature fitted on {fitted_on}; all figures are of the other {len(second)}"
        measured = measured._replace(predictions=reported, counts=_counts(reported))
    temperature = fit_temperature(fitting.logits, fitting.labels)
    path, kind = model.path, model.weights
    if request.processes.is_first and path is not None and path.suffix == ".ckpt" and kind is not None:
        kept = save_temperature(path, kind, temperature, fitted_on, len(fitting.labels))
        remark += f"; kept in {kept}"
    return measured, temperature, remark


def _counts(predictions: Predictions) -> dict[str, float]:
    summary = summarise(predictions)
    return {"top1": summary.top1, "top5": summary.top5, "loss": summary.loss}


def _held_out(model: InferenceModel, request: Request) -> Split | None:
    """A split that neither is reported nor was trained on, if there is one; training images are known too well."""
    data = model.config.data
    if request.roots or request.split == "train" or data.train_on != "train":
        return None
    others = [split for split in splits_of(data) if split not in ("train", request.split)]
    return others[0] if others and len(splits_of(data)) > 2 else None


def _require_sound(request: Request) -> None:
    for view in request.views:
        if view.image_size is not None and not 16 <= view.image_size <= 4096:
            raise ConfigError(f"--image-size: should be 16 to 4096, as data.image_size, not {view.image_size}")
    if request.calibrate and (request.views != (View(),) or len(request.roots) > 1):
        raise ConfigError(
            "--calibrate: fits one temperature, to the plain view; leave --tta and --image-size out, and "
            "give one --data at most"
        )


def _require_same_classes(models: Sequence[InferenceModel], request: Request) -> None:
    """Without images in common, different classes make a table that compares nothing."""
    first = models[0]
    for model in models:
        if not request.roots and model.class_names != first.class_names:
            raise ConfigError(
                f"{first.name} has {len(first.class_names)} classes and {model.name} {len(model.class_names)}, other "
                f"ones; measure each by itself, or all on images whose classes all of them have, with --data"
            )


def _series(model: InferenceModel, weights: str) -> str:
    """Returns a text that is equal for runs whose recipes differ only in the seed."""
    recipe = recipe_of(model.config) | {"seed": None}
    return f"{weights} {json.dumps(recipe)}"
