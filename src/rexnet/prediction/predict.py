"""Classifies image files and writes a table: `rexnet predict`."""

import dataclasses
import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from rexnet.checkpoints.checkpoint import WeightsKind
from rexnet.class_names import readable_names
from rexnet.data.sources.decode import decode_image
from rexnet.data.sources.image_files import printable
from rexnet.errors import ConfigError, DataError
from rexnet.evaluation.inference_model import TIMM, InferenceModel, load_inference_model
from rexnet.prediction.classify import classify_stream
from rexnet.prediction.inputs import Found, find_files, require_inputs
from rexnet.prediction.prediction_table import TableFormat, open_table
from rexnet.system.atomic_files import atomic_write
from rexnet.system.terminal import is_interactive, progress_bar

log = logging.getLogger(__name__)

MAX_FILE_SIZE = 1 << 29  # bytes; the largest image that is decoded, in 16 bits without compression
LISTED_ERRORS = 10  # on the screen; the table has all


class Outcome(NamedTuple):
    """Numbers of files; those left out are in folders and are no images, neither by name nor by content."""

    classified: int
    broken: int
    left_out: int


def load_for_prediction(
    source: str | Path, weights: WeightsKind | None = None, trust_pt2: bool = False
) -> InferenceModel:
    """Loads a classifier with folded BatchNorm and readable class names; see `load_inference_model`."""
    model = load_inference_model(source, weights, fold=True, trust_pt2=trust_pt2)
    preprocessing = model.preprocessing._replace(class_names=readable_names(model.class_names))
    return dataclasses.replace(model, preprocessing=preprocessing)


def predict_files(
    source: str,
    inputs: Sequence[str],
    top: int = 5,
    output: Path | None = None,
    form: TableFormat | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    weights: WeightsKind | None = None,
    trust_pt2: bool = False,
) -> Outcome:
    """Writes a table with one line per image, and logs how many images could not be read.

    Args:
        source: source of `load_inference_model`.
        inputs: files, folders, and patterns with `*`, `?` and `**`.
        top: classes per line.
        output: file of the table, written atomically; None: standard output.
        form: csv or jsonl; None: by the suffix of `output`, else csv.
        batch_size: images per forward pass.
        workers: decoding threads; None: one per core.
        weights: EMA or raw; None: EMA if there are any.
        trust_pt2: read a `.pt2`, which can execute code when it is read.

    Raises:
        RexnetError: the source, an argument or the output is faulty, or no image could be read.
    """
    form = form or _form_of(output)
    require_inputs(inputs)
    model = load_for_prediction(source, weights, trust_pt2)
    _warn(model, source)
    errors: list[str] = []
    counts = dict.fromkeys(Outcome._fields, 0)
    shows_bar = is_interactive() and (output is not None or not sys.stdout.isatty())  # else the table shows progress
    total = sum(1 for _ in find_files(inputs)) if shows_bar else None
    with _open_output(output) as file, progress_bar(total, " images", shows_bar) as bar:
        write = open_table(file, form, min(top, len(model.class_names)))
        for found, result in classify_stream(model, find_files(inputs), _load, top, batch_size, workers):
            bar.update()
            if not isinstance(result, DataError):
                counts["classified"] += 1
                write(found.path, result, "")
            elif found.is_named:
                counts["broken"] += 1
                errors += [str(result)] if len(errors) < LISTED_ERRORS else []
                write(found.path, None, str(result))
            else:
                counts["left_out"] += 1
    outcome = Outcome(**counts)
    _report(outcome, errors, output)
    return outcome


def _load(found: Found) -> np.ndarray:
    if found.fault:
        raise DataError(found.fault)
    if os.path.isfile(found.path) and (size := os.path.getsize(found.path)) > MAX_FILE_SIZE:
        raise DataError(f"{printable(found.path)}: has {size:,} bytes, more than an image")
    return decode_image(found.path)


def _form_of(output: Path | None) -> TableFormat:
    if output is None:
        return "csv"
    if output.is_dir():
        raise ConfigError(f"{output}: is a folder; give the name of a file")
    match output.suffix.lower():
        case ".csv":
            return "csv"
        case ".jsonl" | ".ndjson":
            return "jsonl"
    raise ConfigError(f"{output}: should end in .csv or .jsonl, or --format should name one of them")


@contextmanager
def _open_output(output: Path | None) -> Iterator[IO[str]]:
    """Yields standard output, or a file that appears when it is complete."""
    if output is not None:
        with atomic_write(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    yield sys.stdout
    sys.stdout.flush()


def _warn(model: InferenceModel, source: str) -> None:
    if model.temperature is None and model.network is not None and not source.startswith(TIMM):
        log.info(f"{source}: no temperature was fitted, so probabilities are not calibrated")
    if model.config is not None and model.config.data.crop_to_box:
        log.warning(f"{source}: was trained on images cropped to their boxes, but sees whole images here")


def _report(outcome: Outcome, errors: Sequence[str], output: Path | None) -> None:
    """Logs the outcome.

    Raises:
        DataError: no image could be read.
    """
    where = "" if output is None else f"; written to {output}"
    left_out = f"; {outcome.left_out} other files are no images" if outcome.left_out else ""
    if errors:
        more = [f"... and {outcome.broken - len(errors)} more"] if outcome.broken > len(errors) else []
        log.warning("\n".join([*errors, *more]))
    if not outcome.classified:
        raise DataError(f"none of {outcome.broken + outcome.left_out} files could be read as an image{where}")
    log.info(f"{outcome.classified} images, {outcome.broken} that could not be read{left_out}{where}")
