"""Detects objects in image files and writes their boxes: `rexnet predict`."""

import csv
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import torch
from torchvision.transforms.v2.functional import to_pil_image

from rexnet.checkpoints.checkpoint import WeightsKind
from rexnet.data.sources.decode import decode_image
from rexnet.detection.coco_metrics import Detections, coco_categories, coco_results
from rexnet.detection.drawing import draw_boxes
from rexnet.detection.evaluate_detector import PlacedDetector
from rexnet.detection.trained_detector import load_trained_detector
from rexnet.errors import ConfigError, DataError
from rexnet.figures.image_grid import save_image_grid
from rexnet.models.folding import fold_batchnorm
from rexnet.prediction.predict import LISTED_ERRORS, find_files, open_output
from rexnet.system.terminal import progress_bar

log = logging.getLogger(__name__)

BoxFormat = Literal["csv", "jsonl", "coco"]
SUFFIXES: dict[str, BoxFormat] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "coco"}


def predict_boxes(
    source: str,
    inputs: Sequence[str],
    output: Path | None = None,
    form: BoxFormat | None = None,
    drawings: Path | None = None,
    min_score: float = 0.3,
    weights: WeightsKind | None = None,
) -> None:
    """Writes the boxes in all images, and logs how many images could not be read.

    The inputs are files and folders, and the form is by default that of the suffix of `output`, else `csv`
    with one line per box. `jsonl` has one per image, and `coco` is one JSON file that annotation tools read. Images
    with their boxes drawn go to the folder `drawings`.

    Raises:
        RexnetError: the source, an argument or the output is faulty, or no image could be read.
    """
    form = form or ("csv" if output is None else SUFFIXES.get(output.suffix.lower()))
    if form is None:
        raise ConfigError(f"{output}: should end in .csv, .jsonl or .json, or --format should name one of them")
    paths, trained = find_files(inputs), load_trained_detector(Path(source), weights)
    detector = PlacedDetector(trained._replace(model=fold_batchnorm(trained.model)))  # a third less time
    errors, boxes = list[str](), 0
    if drawings is not None:
        drawings.mkdir(parents=True, exist_ok=True)

    def detect(bar: Any) -> Iterator[tuple[str, Detections | DataError, Sequence[int]]]:
        nonlocal boxes
        for number, path in enumerate(paths, start=1):
            bar.update()
            try:
                pixels = decode_image(path)
            except DataError as error:
                errors.append(str(error))
                yield path, error, ()
                continue
            found = detector.detect_pixels(pixels).above(min_score)
            boxes += len(found.boxes)
            yield path, found, pixels.shape
            if drawings is not None:
                drawn = draw_boxes(torch.from_numpy(pixels).permute(2, 0, 1), found, trained.class_names)
                save_image_grid(to_pil_image(drawn), drawings / f"{number:04d}-{Path(path).stem}.png")

    with open_output(output) as file, progress_bar(len(paths), " images", output is not None) as bar:
        write_boxes(file, form, trained.class_names, detect(bar))
    for sentence in errors[:LISTED_ERRORS]:
        log.warning(sentence)
    if len(errors) == len(paths):
        raise DataError(f"none of {len(paths)} files could be read as an image")
    places = [f"; written to {output}"] * bool(output) + [f"; drawn in {drawings}"] * bool(drawings)
    counts = f"{len(paths) - len(errors)} images with {boxes} boxes, {len(errors)} that could not be read"
    log.info(counts + "".join(places))


def write_boxes(
    file: IO[str],
    form: BoxFormat,
    names: Sequence[str],
    images: Iterable[tuple[str, Detections | DataError, Sequence[int]]],
) -> None:
    """Writes paths of images with their detections (or errors) and shapes; edges are in pixels from the upper left."""
    writer = csv.writer(file, lineterminator="\n")
    if form == "csv":
        writer.writerow(["image", "class", "score", "left", "top", "right", "bottom", "error"])
    content: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": coco_categories(names)}
    for path, found, shape in images:
        image = os.fsencode(path).decode(errors="backslashreplace")
        entry: dict[str, Any] = {"image": image, "boxes": []}
        if isinstance(found, DataError):
            entry["error"] = str(found)
        elif form == "coco":
            number = len(content["images"]) + 1
            content["images"].append({"id": number, "file_name": image, "height": shape[0], "width": shape[1]})
            for result in coco_results(found, number):
                result |= {"id": len(content["annotations"]) + 1, "area": result["bbox"][2] * result["bbox"][3]}
                if mask := result.get("segmentation"):
                    result["segmentation"] = mask | {"counts": mask["counts"].decode()}
                content["annotations"].append(result | {"iscrowd": 0})
        else:
            for label, score, box in zip(found.labels, found.scores.tolist(), found.boxes.tolist(), strict=True):
                edges = [round(edge, 1) for edge in box]
                entry["boxes"].append({"class": names[label - 1], "score": round(score, 4), "box": edges})
        if form == "csv":
            writer.writerows([image, each["class"], each["score"], *each["box"], ""] for each in entry["boxes"])
            if "error" in entry:
                writer.writerow([image, *[""] * 6, entry["error"]])
        elif form == "jsonl":
            print(json.dumps(entry, ensure_ascii=False), file=file)
    if form == "coco":  # which has no place for errors
        print(json.dumps(content, ensure_ascii=False), file=file)
