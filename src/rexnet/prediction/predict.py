"""Classifies image files and writes a table: `rexnet predict`."""

import csv
import dataclasses
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from rexnet.checkpoints.checkpoint import WeightsKind
from rexnet.checkpoints.temperature import describe_temperature, describe_threshold
from rexnet.class_names import readable_names
from rexnet.data.sources.decode import decode_image
from rexnet.data.sources.image_files import images_below, printable
from rexnet.errors import ConfigError, DataError
from rexnet.evaluation.inference_model import TIMM, InferenceModel, load_inference_model
from rexnet.prediction.classify import Prediction, classify_stream
from rexnet.system.atomic_files import atomic_write
from rexnet.system.terminal import progress_bar

log = logging.getLogger(__name__)

TableFormat = Literal["csv", "jsonl"]
LISTED_ERRORS = 10  # on the screen; the table has all


def load_for_prediction(source: str | Path, weights: WeightsKind | None = None) -> InferenceModel:
    """Loads a classifier with folded BatchNorm and readable class names; see `load_inference_model`."""
    model = load_inference_model(source, weights, fold=True)
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
) -> None:
    """Writes a table with one line per image, and logs how many images could not be read.

    The inputs are files and folders; the form is by default that of the suffix of `output`, else CSV. The other
    arguments are those of `load_inference_model` and `classify_stream`.

    Raises:
        RexnetError: the source, an argument or the output is faulty, or no image could be read.
    """
    form = form or _form_of(output)
    paths = find_files(inputs)
    model = load_for_prediction(source, weights)
    size = model.preprocessing.image_size
    model = model.for_job(len(paths), (batch_size, size, size, 3))
    if model.temperature is None and model.network is not None and not source.startswith(TIMM):
        log.info(f"{source}: no temperature was fitted, so probabilities are not calibrated")
    if model.temperature is not None and model.path is not None:
        log.info(f"{source}: its {describe_temperature(model.path, model.weights)}")
    if model.threshold is not None and model.path is not None:
        log.info(f"{source}: {describe_threshold(model.path, model.weights, model.threshold)}")
    if model.config is not None and model.config.data.crop_to_box:
        log.warning(f"{source}: was trained on images cropped to their boxes, but sees whole images here")
    errors, unknown = list[str](), 0
    shows_bar = output is not None or not sys.stdout.isatty()  # else the table shows progress
    with open_output(output) as file, progress_bar(len(paths), " images", shows_bar) as bar:
        write = _start_table(file, form, min(top, len(model.class_names)), model.threshold is not None)
        for path, result in classify_stream(model, paths, decode_image, top, batch_size, workers):
            bar.update()
            if isinstance(result, DataError):
                errors.append(str(result))
                write(path, None, str(result))
            else:
                unknown += result.answer not in result.class_names[:1]
                write(path, result, "")
    where = "" if output is None else f"; written to {output}"
    if errors:
        more = [f"... and {len(errors) - LISTED_ERRORS} more"] if len(errors) > LISTED_ERRORS else []
        log.warning("\n".join([*errors[:LISTED_ERRORS], *more]))
    if len(errors) == len(paths):
        raise DataError(f"none of {len(paths)} files could be read as an image{where}")
    rejected = "" if model.threshold is None else f", {unknown} of them unknown"
    log.info(f"{len(paths) - len(errors)} images{rejected}, {len(errors)} that could not be read{where}")


def find_files(inputs: Sequence[str]) -> list[str]:
    """Returns the files that the arguments name; folders with all images below them, sorted by name.

    Raises:
        DataError: a path does not exist, or a folder has no images.
    """
    found = []
    for given in inputs:
        if not os.path.lexists(given):
            raise DataError(f"{printable(given)}: no such file or folder")
        if not os.path.isdir(given):
            found.append(given)
            continue
        names, left_out = images_below(given)
        if left_out:
            log.warning(f"{printable(given)}: left out {left_out}")
        if not names:
            raise DataError(f"{printable(given)}: is a folder without images")
        found += [os.path.join(given, name) for name in names]
    return found


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
def open_output(output: Path | None) -> Iterator[IO[str]]:
    """Yields standard output, or a file that appears when it is complete."""
    if output is not None:
        with atomic_write(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    yield sys.stdout
    sys.stdout.flush()


def _start_table(
    file: IO[str], form: TableFormat, top: int, rejects: bool
) -> Callable[[str, Prediction | None, str], object]:
    r"""Returns a function that writes the line of an image from its path, its prediction, and an error.

    Both formats are UTF-8 and quote line breaks in names; bytes that are not UTF-8 become `\\xff`. Of a model that
    rejects answers, they have the answer, too: a class or `unknown`.
    """
    writer = csv.writer(file, lineterminator="\n")
    if form == "csv":
        header = [f"{what}_{rank}" for rank in range(1, top + 1) for what in ("class", "probability")]
        writer.writerow(["image", *(["answer"] if rejects else []), *header, "error"])

    def write(path: str, result: Prediction | None, error: str) -> None:
        image = os.fsencode(path).decode(errors="backslashreplace")
        pairs, answer = (result.pairs, result.answer) if result else ([], "")
        if form == "csv":
            cells = [text for name, probability in pairs for text in (name, f"{probability:.6f}")]
            writer.writerow([image, *([answer] if rejects else []), *cells, *[""] * (2 * top - len(cells)), error])
        else:
            classes = [{"class": name, "probability": round(probability, 6)} for name, probability in pairs]
            entry = {"image": image} | ({"answer": answer} if rejects else {}) | {"classes": classes}
            entry |= {"error": error} if error else {}
            print(json.dumps(entry, ensure_ascii=False), file=file)

    return write
