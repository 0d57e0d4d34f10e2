"""Images in, the likeliest classes with calibrated probabilities out, in the order of the images."""

import dataclasses
import io
import itertools
import logging
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch

from rexnet.checkpoints.checkpoint import WeightsKind
from rexnet.class_names import readable_names
from rexnet.data.augment.transforms import Transform, build_eval_transform
from rexnet.data.sources.decode import decode_image
from rexnet.data.sources.image_files import printable
from rexnet.errors import ConfigError, DataError
from rexnet.evaluation.inference_model import InferenceModel, load_inference_model
from rexnet.prediction.inputs import Found, find_files, require_inputs
from rexnet.prediction.prediction_table import Answer, TableFormat, open_table
from rexnet.preprocessing import resolve_preprocessing
from rexnet.system.atomic_files import atomic_write
from rexnet.system.resources import count_cores
from rexnet.system.terminal import is_interactive, progress_bar

log = logging.getLogger(__name__)

LARGEST_FILE = 1 << 29
"""Larger files are no images: 512 MB hold the largest that is decoded in 16 bits without compression."""
NAMED_FAULTS = 10  # on the screen; the table has all


class Outcome(NamedTuple):
    """How many images were looked at."""

    answered: int
    broken: int
    left_out: int
    """Files in folders that neither are images nor say so by their names."""


class _View(NamedTuple):
    """An image as the network sees it, uint8 (H, W, 3), or why there is none."""

    found: Found
    image: np.ndarray | None
    fault: str


def predict(
    source: str,
    inputs: Sequence[str],
    top: int = 5,
    output: Path | None = None,
    form: TableFormat | None = None,
    batch: int = 32,
    workers: int | None = None,
    weights: WeightsKind | None = None,
    trust_pt2: bool = False,
) -> Outcome:
    """Writes a table with one line for each image, and says on the log how many could not be read.

    Images are decoded, computed and written batch by batch, so that memory does not grow with their number.

    Args:
        source: what classifies, see `load_inference_model`.
        inputs: files, folders, and patterns with `*`, `?` and `**`.
        top: classes in a line.
        output: the table, written whole or not at all; None: standard output.
        form: csv or jsonl; None: by the suffix of `output`, else csv.
        batch: images computed at once.
        workers: threads that decode; None: one for each core.
        weights: averaged or raw; None: the averaged where there are any.
        trust_pt2: whether a `.pt2`, which can run code when it is read, may be read.

    Raises:
        RexnetError: the source, an argument or the output is at fault, or not one image could be read.
    """
    form = form or _form_of(output)
    require_inputs(inputs)
    model = load_inference_model(source, weights, fold=True, trust_pt2=trust_pt2)
    model = dataclasses.replace(model, class_names=readable_names(model.class_names))
    _announce(model, source)
    top = min(top, len(model.class_names))
    faults: list[str] = []
    counts = dict.fromkeys(("answered", "broken", "left_out"), 0)
    shown = output is not None or not sys.stdout.isatty()  # on one screen, the table is the progress
    with _opened(output) as file:
        write = open_table(file, form, top)
        for answer in _answers(model, inputs, top, batch, workers, shown):
            if answer is None:
                counts["left_out"] += 1
                continue
            write(answer)
            counts["broken" if answer.fault else "answered"] += 1
            if answer.fault and len(faults) < NAMED_FAULTS:
                faults.append(answer.fault)
    outcome = Outcome(**counts)
    _report(outcome, faults, output)
    return outcome


def _answers(
    model: InferenceModel, inputs: Sequence[str], top: int, batch: int, workers: int | None, shown: bool
) -> Iterator[Answer | None]:
    """One for each file, in order; None for what is no image and was not said to be one."""
    transform = build_eval_transform(resolve_preprocessing(model.config, model.class_names))
    threads = workers or count_cores()
    shown = shown and is_interactive()
    total = sum(1 for _ in find_files(inputs)) if shown else None  # counting walks through all folders once more
    views = _see_ahead(find_files(inputs), transform, threads, 2 * batch)
    with progress_bar(total, " images", shown) as bar:
        while some := list(itertools.islice(views, batch)):
            seen = [view.image for view in some if view.image is not None]
            classes = iter(_classify(model, np.stack(seen), top) if seen else ())
            for view in some:
                if view.image is not None:
                    yield Answer(view.found.path, next(classes))
                else:
                    yield Answer(view.found.path, (), view.fault) if view.found.is_named else None
            bar.update(len(some))


def _classify(model: InferenceModel, images: np.ndarray, top: int) -> list[tuple[tuple[str, float], ...]]:
    """The likeliest classes of uint8 (N, H, W, 3)."""
    values, places = model.probabilities(torch.from_numpy(images)).cpu().topk(top, dim=1)
    return [
        tuple((model.class_names[place], value) for place, value in zip(row, probabilities, strict=True))
        for row, probabilities in zip(places.tolist(), values.tolist(), strict=True)
    ]


def _see_ahead(files: Iterable[Found], transform: Transform, threads: int, most: int) -> Iterator[_View]:
    """The views of files in order, at most `most` of them ahead; decoding leaves Python's lock to other threads."""
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[_View]] = deque()
    try:
        for file in files:
            waiting.append(pool.submit(_see, file, transform))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _see(found: Found, transform: Transform) -> _View:
    """One image, decoded and transformed as in evaluation."""
    if found.fault:
        return _View(found, None, found.fault)
    try:
        if os.path.isfile(found.path) and (size := os.path.getsize(found.path)) > LARGEST_FILE:
            raise DataError(f"{printable(found.path)}: has {size:,} bytes, more than an image")
        return _View(found, transform(decode_image(found.path), key=0), "")
    except DataError as error:
        return _View(found, None, str(error))


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
    raise ConfigError(f"{output}: should end in .csv or .jsonl, or --format say which of them it is")


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that is there only once all is written."""
    if output is not None:
        with atomic_write(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    yield sys.stdout
    sys.stdout.flush()


def _announce(model: InferenceModel, source: str) -> None:
    """What a reader of probabilities must know."""
    if model.temperature is None and model.network is not None and not source.startswith("timm/"):
        log.info(f"{source}: no temperature was fitted, so that probabilities are the network's own (not calibrated)")
    if model.config.data.crop_to_box:
        log.warning(f"{source}: was trained on images cropped to their boxes, and sees whole ones here")


def _report(outcome: Outcome, faults: Sequence[str], output: Path | None) -> None:
    """Says what was done.

    Raises:
        DataError: there was nothing but broken images.
    """
    where = "" if output is None else f"; written to {output}"
    left_out = f"; {outcome.left_out} other files are no images" if outcome.left_out else ""
    more = f"\n... and {outcome.broken - len(faults)} more" if outcome.broken > len(faults) else ""
    if outcome.broken:
        log.warning("\n".join(faults) + more)
    if not outcome.answered:
        raise DataError(f"none of {outcome.broken + outcome.left_out} files could be read as an image{where}")
    log.info(f"{outcome.answered} images, {outcome.broken} that could not be read{left_out}{where}")
