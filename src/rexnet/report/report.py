"""From run folders to one HTML file."""

import itertools
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import jinja2
import numpy as np

from rexnet import __version__
from rexnet.config.portable import make_portable
from rexnet.data.datasets.index import Split
from rexnet.data.sources.image_files import printable
from rexnet.errors import ConfigError, first_sentence
from rexnet.figures.data_uri import embed_picture
from rexnet.metrics.statistics import mcnemar
from rexnet.report.calibration import describe_calibration
from rexnet.report.classes import describe_classes
from rexnet.report.curves import draw_comparison, draw_run, style_of
from rexnet.report.images import count_classes, describe_data, open_split
from rexnet.report.measured import LEFT_OUT, Measured, find_or_measure
from rexnet.report.mistakes import describe_mistakes
from rexnet.report.recipe import compare_recipes, describe_recipe
from rexnet.report.record import Fault, RunRecord, read_run
from rexnet.report.seeds import describe_seeds
from rexnet.report.summary import (
    COMPARED,
    RESULT_COLUMNS,
    compare_values,
    describe_environment,
    describe_logged,
    describe_result,
    describe_state,
    describe_tiles,
    describe_usage,
)
from rexnet.runs.checkpoint_files import checkpoint_folder
from rexnet.system.atomic_files import atomic_write

log = logging.getLogger(__name__)

AUGMENTED_WIDTH = 640  # pixels
Context = dict[str, Any]


def write_report(runs: Sequence[Path], target: Path, published_as: str | None = None) -> None:
    """Writes one self-contained page about a run, or about several side by side.

    Where a run keeps no predictions, its best checkpoint is measured first; where the images are gone or a file of the
    run is damaged, the page says what it leaves out.

    Args:
        runs: run folders; one that goes on is told as far as it has come.
        target: the HTML file; written whole or not at all.
        published_as: what the public is to call a single run; the page then leaves out what belongs to this machine:
            folders, command line, system, what stopped the run, measurements on other images, and the lines to copy,
            which name the run's folder.

    Raises:
        ConfigError: a folder is no run, is named twice, its configuration is damaged, or the file cannot be written.
    """
    if len({run.resolve() for run in runs}) < len(runs):
        raise ConfigError("a run is named twice; a comparison needs different ones")
    records = [read_run(run) for run in runs]
    measured: list[list[Measured]] = []
    contexts = []
    for record in records:
        context, found = _describe(record, published_as)
        contexts.append(context)
        measured.append(found)
    page = _template().render(
        title=contexts[0]["name"] if len(records) == 1 else f"{len(records)} runs",
        made=time.strftime("%Y-%m-%d %H:%M"),
        version=__version__,
        style=_package_file("report.css"),
        runs=contexts,
        comparison=_compare(records, measured) if len(records) > 1 else None,
    )
    with atomic_write(target) as temporary:
        temporary.write_bytes(page.encode("utf-8", "replace"))


def _describe(record: RunRecord, published_as: str | None) -> tuple[Context, list[Measured]]:
    """All that the page says about one run, and the predictions that it rests on."""
    public = published_as is not None
    train, val = open_split(record.config, "train"), open_split(record.config, "val")
    measured, notes, damage = find_or_measure(record, val)
    faults = [*record.faults, *damage]
    measured = [one._replace(predictions=one.predictions.with_readable_classes()) for one in measured]
    if public:
        measured = [one for one in measured if one.images in get_args(Split)]  # others name folders
        notes = [LEFT_OUT.format(why="it was not measured")] if notes and not measured else []
    told = replace(record, config=make_portable(record.config)) if public else record
    classes: tuple[str, ...] = val.class_names if val is not None else ()
    context: Context = {"mistakes": None, "classes": None, "calibration": None}
    if measured:
        predictions = measured[0].predictions
        classes = predictions.class_names
        shown = val if measured[0].images == "val" else open_split(record.config, "test")
        context["mistakes"] = describe_mistakes(predictions, record.config, shown)
        context["classes"] = describe_classes(predictions, count_classes(train, len(classes)))
        checkpoint = checkpoint_folder(record.folder) / f"{measured[0].checkpoint}.ckpt"
        context["calibration"], damage = describe_calibration(predictions, checkpoint, measured[0].weights)
        faults += damage
    augmented, damage = _embed_augmented(record)
    faults += damage
    for fault in faults:
        log.warning(f"{record.folder}/{fault.sentence}")
    context |= {
        "name": published_as or record.name,
        "state": describe_state(record, public),
        "notes": notes,
        "tiles": describe_tiles(record, measured[0] if measured else None, classes),
        "figures": draw_run(record),
        "logged": describe_logged(record, len(val) if val is not None else None),
        "result_columns": RESULT_COLUMNS,
        "results": [describe_result(one) for one in measured],
        "data": describe_data(told.config, train, val),
        "augmented": augmented,
        "recipe": describe_recipe(told),
        "environment": describe_environment(record, public),
        "usage": [] if public else describe_usage(record, len(classes)),
    }
    context["faults"] = {part: [fault.sentence for fault in faults if fault.part == part] for part, _ in PARTS}
    always = {"data", "recipe", *(fault.part for fault in faults)}
    context["parts"] = [part for part in PARTS if part[0] in always or context[KEYS[part[0]]]]
    return context, measured


def _embed_augmented(record: RunRecord) -> tuple[str | None, list[Fault]]:
    """The first augmented images, where the event files hold a picture that is whole."""
    if record.augmented is None:
        return None, []
    try:
        return embed_picture(record.augmented, AUGMENTED_WIDTH), []
    except (OSError, ValueError) as error:  # as Pillow raises
        return None, [Fault("data", f"events.out.tfevents: its picture cannot be read: {first_sentence(error)}")]


PARTS = tuple(
    (heading.split()[0].lower(), heading)
    for heading in (
        "Curves",
        "Results",
        "Mistakes",
        "Classes",
        "Calibration",
        "Data",
        "Recipe",
        "Environment",
        "Use it",
    )
)
KEYS = {name: name for name, _ in PARTS} | {"curves": "figures", "results": "logged", "use": "usage"}
"""Which entry of a run's context must not be empty for a part to be there."""


def _compare(records: Sequence[RunRecord], measured: Sequence[list[Measured]]) -> Context:
    """The part on several runs: numbers and curves side by side, tests, and what differs in the recipes."""
    firsts = [found[0] if found else None for found in measured]
    rows = [
        {"name": record.name, "cells": compare_values(record, first), "line": style_of(number)}
        for number, (record, first) in enumerate(zip(records, firsts, strict=True))
    ]
    tests = []
    for (a, first), (b, second) in _pairs(list(zip(records, firsts, strict=True))):
        if first is None or second is None or not _same_images(first, second):
            continue
        result = mcnemar(first.predictions, second.predictions)
        tests.append(
            f"{a.name} alone is right on {result.only_first} images, {b.name} alone on {result.only_second}: "
            f"McNemar's test gives p = {result.p_value:.2g}."
        )
    if seeds := describe_seeds(records, firsts):
        tests.insert(0, seeds)
    return {
        "columns": COMPARED,
        "rows": rows,
        "tests": tests,
        "figures": draw_comparison(records),
        "differences": compare_recipes(list(records)),
    }


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    return [(first, second) for number, first in enumerate(items) for second in items[number + 1 :]]


def _same_images(first: Measured, second: Measured) -> bool:
    one, other = first.predictions, second.predictions
    same = one.names == other.names and one.class_names == other.class_names
    return same and np.array_equal(one.labels, other.labels)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    figures = itertools.count()
    filters: dict[str, Callable[..., str]] = {
        "number": _number,
        "plain": _plain,
        "own_ids": lambda svg: re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>figure{next(figures)}-", svg),
    }
    environment.filters |= filters
    return environment.from_string(_package_file("report.html.jinja"))


def _number(value: float) -> str:
    """A share in percent, or a dash where there is none."""
    return "–" if np.isnan(value) else f"{value:.1f}"  # noqa: RUF001 - a dash of a table


def _plain(value: Any) -> str:
    """A value of a configuration as YAML has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return printable(f"{value:g}" if isinstance(value, float) else str(value))


def _package_file(name: str) -> str:
    return files("rexnet.report").joinpath(name).read_text(encoding="utf-8")
