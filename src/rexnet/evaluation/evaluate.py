"""Evaluates classifiers on splits, exactly as training's validation does: from sources to results."""

import dataclasses
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rexnet.checkpoints.checkpoint import WeightsKind
from rexnet.checkpoints.temperature import describe_temperature
from rexnet.data.datasets.eval_images import find_images, fit_to_classes
from rexnet.data.datasets.index import Index, Split
from rexnet.data.datasets.remarks import remark_left_out
from rexnet.errors import ConfigError, DataError
from rexnet.evaluation.analyses import Analysis, compare_with_unknown, slice_images
from rexnet.evaluation.fitting import calibrate, limit_risk
from rexnet.evaluation.inference import PLAIN, View, run_inference
from rexnet.evaluation.inference_model import TIMM, InferenceModel, load_inference_model, wrap_trained
from rexnet.evaluation.processes import ALONE, Processes
from rexnet.evaluation.results import Result
from rexnet.evaluation.soup import build_soup
from rexnet.metrics.statistics import summarize
from rexnet.runs.checkpoint_files import run_of
from rexnet.runs.image_list import describe_changes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """The images, weights and views to evaluate."""

    split: Split = "val"
    roots: tuple[Path, ...] = ()
    """Other images than those of the training; each gives a result."""
    weights: tuple[str, ...] = ()
    """`ema`, `raw`, `soup`; empty: EMA if there are any, else raw."""
    views: tuple[View, ...] = (PLAIN,)
    workers: int | None = None
    """Loader processes; None: as in training."""
    calibrate: bool = False
    """Fit a temperature on other images than the reported ones and save it next to the checkpoint."""
    max_risk: float | None = None
    """Choose the threshold that keeps the share of wrong answers this small, and save it next to the checkpoint."""
    unknown: Path | None = None
    """Folder of images that show none of the classes."""
    slices: Sequence[Path] | None = None
    """Measure the accuracy of slices of the images, also by the columns of these CSV files."""
    processes: Processes = ALONE
    """The processes of this evaluation; each makes the same request, and only the first writes files."""

    @property
    def fits(self) -> bool:
        """True if a temperature or a threshold is fitted on half of the images."""
        return self.calibrate or self.max_risk is not None


def evaluate(sources: Sequence[str | Path], request: Request) -> list[Result]:
    """Returns a result for each source, kind of weights, data set and view, in this order.

    The sources are those of `load_inference_model`.

    Raises:
        RexnetError: a source, the request or the data is faulty; raised before the first inference where possible.
    """
    for view in request.views:
        if view.image_size is not None and not 16 <= view.image_size <= 4096:
            raise ConfigError(f"--image-size: should be 16 to 4096, as data.image_size, not {view.image_size}")
    is_both = request.calibrate and request.max_risk is not None
    if request.fits and (is_both or request.views != (PLAIN,) or len(request.roots) > 1):
        options = "--calibrate and --coverage-at-error: fit one value"
        raise ConfigError(f"{options}, one after the other, without --tta and --image-size, on one --data at most")
    for path in filter(None, (request.unknown, *(request.slices or ()))):
        if not path.exists():
            raise DataError(f"{path}: does not exist")
    models = load_models(sources, request)
    images = [(model, *images_of(model, request.split, root)) for model in models for root in request.roots or (None,)]
    jobs = list(itertools.product(images, request.views))
    results = []
    for number, ((model, index, remarks), view) in enumerate(jobs, start=1):
        title = f"{number} of {len(jobs)}" if len(jobs) > 1 else "evaluation"
        if len(jobs) > 1:
            log.info(f"{title}: {model.name} {model.weights}, {view.describe(model.preprocessing)}, {index.root}")
        results.append(_evaluate(model, index, view, request, title, (*model.remarks, *remarks)))
    return results


def load_models(sources: Sequence[str | Path], request: Request) -> list[InferenceModel]:
    """Loads each source with each of the requested kinds of weights."""
    return [_load_model(str(source), kind, request) for source in sources for kind in (request.weights or (None,))]


def _load_model(source: str, weights: str | None, request: Request) -> InferenceModel:
    """Loads a source with the requested weights, or averages the checkpoints of a run.

    BatchNorm of timm's networks is folded, because training logged no number that must be reproduced.
    """
    if weights == "soup":
        run = Path(source)
        trained, remark = build_soup(run)
        model = dataclasses.replace(wrap_trained(trained, run.resolve().name), weights=weights, remarks=(remark,))
    else:
        kind: WeightsKind | None = weights  # type: ignore[assignment]  # ema or raw
        model = load_inference_model(source, kind, fold=source.startswith(TIMM))
    loader = model.loader if request.workers is None else model.loader._replace(workers=request.workers)
    return dataclasses.replace(model, loader=loader)


def images_of(model: InferenceModel, split: Split, root: Path | None) -> tuple[Index, tuple[str, ...]]:
    """Returns the images with the classes of a model, and a remark if they show some of the classes only."""
    own = model.config.data if model.config is not None else None
    if root is None and own is None:
        raise ConfigError(f"{model.name}: has no images of its own; name some with --data")
    if root is None and own and not (own.root.exists() or own.download or own.dataset == "digits"):
        raise DataError(f"{model.name}: its images, {own.root}, are not here; name others with --data")
    return fit_to_classes(find_images(own, split, root), model.class_names, model.name)


def _evaluate(
    model: InferenceModel, index: Index, view: View, request: Request, title: str, remarks: tuple[str, ...]
) -> Result:
    """Runs a model on some images, with the requested analyses, and fits a value to it if that is requested."""
    run = run_of(model.path) if model.path is not None and not request.roots else None
    changes = {} if run is None else describe_changes(run, {request.split: index})
    remarks += tuple(
        f"images have changed since the training: {text}; labels match by name" for text in changes.values()
    )
    remarks += tuple(remark_left_out(index))
    processes, temperature, analyses = request.processes, model.temperature, list[Analysis]()
    inference = run_inference(model, index, view, processes, title)
    if request.unknown is not None:
        analyses.append(compare_with_unknown(model, inference.predictions, request.unknown, view, processes))
    if request.max_risk is not None:
        inference, remark = limit_risk(model, inference, request.split, request.max_risk, processes.is_first)
        remarks += (f"{remark}; all results are of the other half",)
    elif request.calibrate:
        inference, temperature, remark = calibrate(model, inference, request.split, processes.is_first)
        remarks += (remark,)
    elif temperature is not None and model.checkpoint is not None:
        fitted = describe_temperature(model.checkpoint, model.weights)
        remarks += (f"{fitted}: calibrated numbers on those images are optimistic",)
    if request.slices is not None and processes.is_first:
        analyses.append(slice_images(inference.predictions, index, request.slices))
    as_trained = view == PLAIN and request.split == "val" and not (request.roots or request.fits or changes)
    return Result(
        model,
        index,
        request.split,
        view,
        inference.predictions,
        summarize(inference.predictions)._replace(**inference.metrics),  # type: ignore[arg-type]
        inference.images_per_s,
        temperature,
        model.metrics.get(f"val{'_ema' * (model.weights == 'ema')}/top1") if as_trained else None,
        remarks,
        _file_name(model, index, view, request),
        tuple(analyses),
    )


def _file_name(model: InferenceModel, index: Index, view: View, request: Request) -> str:
    """Returns the stem of a result's files, such as `last-ema-test-photos-flowers-test-224px-flip`."""
    if model.path is None:
        file = model.name.partition("=")[0].replace("/", "-")
    else:  # the stem of every export is `model`
        file = model.path.stem if model.path.suffix in ("", ".ckpt") else model.path.name
    of_root = index.root.resolve().parts[1:][-3:] if request.roots else ()
    of_view = "" if view == PLAIN else view.describe(model.preprocessing).replace(", ", "-").replace(" ", "")
    fitted = "calibrated" if request.calibrate else "accepted" if request.max_risk is not None else ""
    return "-".join(filter(None, (file, model.weights, request.split, *of_root, of_view, fitted)))
