"""Writes one HTML file about one run or several, which needs no server and no network."""

import itertools
import logging
import re
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import jinja2
import numpy as np

from rexnet import __version__
from rexnet.config import RunConfig
from rexnet.config.portable import make_portable
from rexnet.data.datasets.index import Index, Split
from rexnet.data.sources.image_files import printable
from rexnet.errors import ConfigError, RexnetError
from rexnet.figures.data_uri import embed_picture
from rexnet.preprocessing import resolve_preprocessing
from rexnet.report.answers import describe_calibration, describe_classes, describe_mistakes
from rexnet.report.curves import draw_run
from rexnet.report.provenance import describe_data, describe_environment, describe_recipe, open_split
from rexnet.report.side_by_side import compare_runs
from rexnet.report.summary import RESULT_COLUMNS, describe_logged, describe_result, describe_state, describe_tiles
from rexnet.runs.checkpoint_files import checkpoint_folder
from rexnet.runs.image_list import describe_changes
from rexnet.runs.run import KeptPredictions, Run
from rexnet.system.atomic_files import atomic_write

log = logging.getLogger(__name__)

AUGMENTED_WIDTH = 640  # pixels
SECTIONS = (
    *("curves", "results", "mistakes", "classes", "calibration", "slices"),
    *("detections", "data", "recipe", "environment"),
)
"""Keys of a run's context and, capitalized, headings; a section without content is left out."""

Context = dict[str, Any]


def write_report(folders: Sequence[Path], target: Path, title: str | None = None) -> None:
    """Writes a self-contained page about one run, or a comparison of several.

    A best checkpoint without kept predictions is evaluated first. If the images are gone or a file of a run is
    damaged, the page names what is missing. So that it can be published, it names no folder, command line, host or
    person; `rexnet runs` does. A run in progress is reported up to its last epoch, and `title` replaces a run's name.

    Raises:
        ConfigError: a folder is not a run or is given twice, its config is damaged, or the file cannot be written.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError("a run is given twice; a comparison needs different ones")
    opened = [Run(folder) for folder in folders]
    for run in opened:
        run.config  # noqa: B018 - raises if it is damaged, before anything is evaluated
    contexts, runs, results = zip(*(_describe(run, title) for run in opened), strict=True)
    write_page(target, contexts, compare_runs(runs, results) if len(runs) > 1 else None)


def write_page(target: Path, runs: Sequence[Context], comparison: Context | None = None) -> None:
    """Writes the page of runs whose contexts have the keys `SECTIONS` and those of `_describe`."""
    page = _template().render(
        title=runs[0]["name"] if len(runs) == 1 else f"{len(runs)} runs",
        made=time.strftime("%Y-%m-%d %H:%M"),
        version=__version__,
        style=_package_file("report.css"),
        runs=[run | {"sections": [section for section in SECTIONS if run[section]]} for run in runs],
        comparison=comparison,
    )
    with atomic_write(target) as temporary:
        temporary.write_bytes(page.encode("utf-8", "replace"))


def default_target(folders: Sequence[Path]) -> Path:
    """Returns the default path of a report: in the run folder, or next to the first of several."""
    return folders[0] / "report.html" if len(folders) == 1 else folders[0].resolve().parent / "report.html"


def _describe(run: Run, title: str | None) -> tuple[Context, Run, KeptPredictions | None]:
    """Returns the content of a run's sections, the run with its predictions, and the best of them."""
    config = make_portable(run.config)
    train, val = open_split(run.config.data, "train"), open_split(run.config.data, "val")
    indexes: dict[Split, Index | None] = {"train": train, "val": val}
    changes = describe_changes(run.folder, {split: index for split, index in indexes.items() if index is not None})
    run, note = _with_predictions(run, val)
    results = [
        kept._replace(predictions=kept.predictions.with_readable_classes())
        for kept in run.kept_predictions
        if kept.images in get_args(Split)  # others name folders
    ]
    best = results[0] if results else None
    context = describe_start(run, config) | {"analyses": best.analyses if best is not None else {}}
    context["slices"] = context["analyses"].get("slices")
    classes = val.class_names if val is not None else ()
    if best is not None:
        classes = best.predictions.class_names
        shown = val if best.images == "val" else open_split(run.config.data, "test")
        context["mistakes"] = describe_mistakes(best.predictions, shown, resolve_preprocessing(run.config, classes))
        context["classes"] = describe_classes(best.predictions, train)
        checkpoint = checkpoint_folder(run.folder) / f"{best.checkpoint}.ckpt"
        context["calibration"] = describe_calibration(best.predictions, checkpoint, best.weights)
    evaluated = [describe_result(kept) for kept in results]
    logged = describe_logged(run, len(val) if val is not None and "val" not in changes else None)
    if evaluated or logged:
        context["results"] = {"columns": RESULT_COLUMNS, "evaluated": evaluated, "logged": logged}
    context |= {
        "name": title or run.name,
        "tiles": describe_tiles(run, best, classes),
        "curves": draw_run(run),
        "data": describe_data(run.config.data, train, val),
    }
    for damaged in run.damage:
        log.warning(f"{run.folder}/{damaged}")
    context["notes"] = [sentence for sentence in (note, *run.damage) if sentence]
    context["notes"] += [
        f"Images of {split} have changed since the training: {text}." for split, text in changes.items()
    ]
    return context, run, best


def describe_start(run: Run, config: RunConfig) -> Context:
    """Returns the context of a run of any task with a portable config, as far as it was known at its start."""
    return dict.fromkeys(SECTIONS) | {
        "name": run.name,
        "state": describe_state(run),
        "augmented": run.augmented and embed_picture(run.augmented, AUGMENTED_WIDTH),
        "recipe": describe_recipe(config, run.environment.get("command")),
        "environment": describe_environment(run.environment),
    }


def _with_predictions(run: Run, val: Index | None) -> tuple[Run, str]:
    """Evaluates the best checkpoint unless its predictions are kept; returns the run, and a note if that fails."""
    if run.kept_predictions and run.kept_predictions[0].is_best:
        return run, ""
    if val is None:
        why = "the images are not on this machine"
    elif run.best_checkpoint is None:
        why = "there is no checkpoint yet"
    else:
        from rexnet.evaluation.evaluate import Request, evaluate  # slow to import, and often not needed

        for damaged in run.damage:  # the evaluation may replace it
            log.warning(f"{run.folder}/{damaged}")
        try:
            evaluate([run.folder], Request())[0].save()
            return Run(run.folder), ""
        except RexnetError as error:
            log.warning(f"{run.folder}: was not evaluated: {error}")
            why = "its evaluation failed"
    return run, f"The best checkpoint was not evaluated on the validation images: {why}."


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    figures = itertools.count()
    filters: dict[str, Callable[..., str]] = {
        "number": lambda value: "\N{EN DASH}" if np.isnan(value) else f"{value:.1f}",
        "plain": _plain,
        "own_ids": lambda svg: re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>figure{next(figures)}-", svg),
    }
    environment.filters |= filters
    return environment.from_string(_package_file("report.html.jinja"))


def _plain(value: Any) -> str:
    """Returns the value of a config as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return printable(f"{value:g}" if isinstance(value, float) else str(value))


def _package_file(name: str) -> str:
    return files("rexnet.report").joinpath(name).read_text(encoding="utf-8")
