"""Writes one HTML file about a run, which needs no server and no network."""

import logging
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
from rexnet.errors import RexnetError
from rexnet.figures.data_uri import embed_picture
from rexnet.preprocessing import resolve_preprocessing
from rexnet.report.answers import describe_calibration, describe_classes, describe_mistakes
from rexnet.report.curves import draw_run
from rexnet.report.provenance import describe_data, describe_environment, describe_recipe, open_split
from rexnet.report.summary import RESULT_COLUMNS, describe_result, describe_state, describe_tiles
from rexnet.runs.checkpoint_files import checkpoint_folder
from rexnet.runs.image_list import describe_changes
from rexnet.runs.run import KeptPredictions, Run
from rexnet.system.atomic_files import write_file

log = logging.getLogger(__name__)

AUGMENTED_WIDTH = 640  # pixels
SECTIONS = (
    *("curves", "results", "mistakes", "classes", "calibration", "slices"),
    *("detections", "data", "recipe", "environment"),
)
"""Keys of a context and, capitalized, headings; a section without content is left out."""

Context = dict[str, Any]


def write_report(folder: Path, target: Path, title: str | None = None) -> None:
    """Writes a self-contained page about the run of a classifier.

    A best checkpoint without kept predictions is evaluated first. If the images are gone or a file of a run is
    damaged, the page names what is missing. So that it can be published, it names no folder, command line, host or
    person; `rexnet runs` does. A run in progress is reported up to its last epoch, and `title` replaces its name.

    Raises:
        ConfigError: the folder is not a run, its config is damaged, or the file cannot be written.
    """
    run = Run(folder)
    config, data = make_portable(run.config), run.config.data
    train, val = open_split(data, "train"), open_split(data, "val")
    indexes: dict[Split, Index | None] = {"train": train, "val": val}
    changes = describe_changes(run.folder, {split: index for split, index in indexes.items() if index is not None})
    run, note = _with_predictions(run, val)
    results = [
        kept._replace(predictions=kept.predictions.with_readable_classes())
        for kept in run.kept_predictions
        if kept.images in get_args(Split)  # others name folders
    ]
    context, classes = describe_start(run, config), val.class_names if val is not None else ()
    if results:
        context |= _describe_results(run, results, train, val)
        classes = results[0].predictions.class_names
    for damaged in run.damage:
        log.warning(f"{run.folder}/{damaged}")
    outdated = [f"Images of {split} have changed since the training: {text}." for split, text in changes.items()]
    context |= {
        "name": title or run.name,
        "tiles": describe_tiles(run, results[0] if results else None, classes),
        "notes": [*filter(None, (note, *run.damage)), *outdated],
        "curves": draw_run(run),
        "data": describe_data(data, train, val),
    }
    write_page(target, context)


def write_page(target: Path, context: Context) -> None:
    """Writes the page of a run; the context has the keys `SECTIONS`, and the others that `write_report` sets."""
    page = _template().render(
        context,
        made=time.strftime("%Y-%m-%d %H:%M"),
        version=__version__,
        style=_package_file("report.css"),
        sections=[section for section in SECTIONS if context[section]],
    )
    write_file(target, page.encode("utf-8", "replace"))


def describe_start(run: Run, config: RunConfig) -> Context:
    """Returns the context of a run of any task with a portable config, as far as it was known at its start."""
    return dict.fromkeys(SECTIONS) | {
        "name": run.name,
        "state": describe_state(run),
        "augmented": run.augmented and embed_picture(run.augmented, AUGMENTED_WIDTH),
        "recipe": describe_recipe(config, run.environment.get("command")),
        "environment": describe_environment(run.environment),
    }


def _describe_results(run: Run, results: Sequence[KeptPredictions], train: Index | None, val: Index | None) -> Context:
    """Returns the sections that need predictions: a table of all results, and the details of the first."""
    best, data = results[0], run.config.data
    images = val if best.images == "val" else open_split(data, "test")
    preprocessing = resolve_preprocessing(run.config, best.predictions.class_names)
    checkpoint = checkpoint_folder(run.folder) / f"{best.checkpoint}.ckpt"
    return {
        "results": {"columns": RESULT_COLUMNS, "rows": [describe_result(kept) for kept in results]},
        "mistakes": describe_mistakes(best.predictions, images, preprocessing),
        "classes": describe_classes(best.predictions, train),
        "calibration": describe_calibration(best.predictions, checkpoint, best.weights),
        "slices": best.analyses.get("slices"),
        "unknown_images": best.analyses.get("unknown_images"),
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
    filters: dict[str, Callable[..., str]] = {
        "number": lambda value: "\N{EN DASH}" if np.isnan(value) else f"{value:.1f}",
        "plain": _plain,
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
