"""Detects objects in image files and writes their boxes: `rexnet predict`."""

import csv
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal

import torch
from torchvision.transforms.v2.functional import to_pil_image

from rexnet.checkpoints.checkpoint import WeightsKind
from rexnet.data.sources.decode import decode_image
from rexnet.detection.coco_metrics import Detections, coco_results
from rexnet.detection.drawing import draw_boxes
from rexnet.detection.evaluate_detector import PlacedDetector
from rexnet.detection.trained_detector import load_trained_detector
from rexnet.errors import ConfigError, DataError
from rexnet.figures.image_grid import save_image_grid
from rexnet.models.folding import fold_batchnorm
from rexnet.prediction.predict import find_files, open_output
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

    Args:
        source: a run or checkpoint of a detector.
        inputs: files, folders, and patterns with `*`, `?` and `**`.
        output: the file; None: standard output.
        form: `csv` with one line per box, `jsonl` with one per image, or `coco` for one JSON file that annotation tools
            read; by default that of the suffix of `output`, else CSV.
        drawings: a folder for the images with their boxes drawn.
        min_score: the smallest score of a box, 0 to 1.
        weights: `ema` or `raw`; None: EMA if there are any.

    Raises:
        RexnetError: the source, an argument or the output is faulty, or no image could be read.
    """
    form = form or ("csv" if output is None else SUFFIXES.get(output.suffix.lower()))
    if form is None:
        raise ConfigError(f"{output}: should end in .csv, .jsonl or .json, or --format should name one of them")
    paths, trained = find_files(inputs), load_trained_detector(Path(source), weights)
    detector = PlacedDetector(trained._replace(model=fold_batchnorm(trained.model)))  # a third less time
    names, errors = trained.class_names, list[str]()
    if drawings is not None:
        drawings.mkdir(parents=True, exist_ok=True)
    with open_output(output) as file, progress_bar(len(paths), " images", output is not None) as bar:
        table = BoxTable(file, form, names)
        for path in paths:
            bar.update()
            try:
                pixels = decode_image(path)
            except DataError as error:
                errors.append(str(error))
                table.write_error(path, str(error))
                continue
            found = detector.detect_pixels(pixels).above(min_score)
            table.write(path, found, *pixels.shape[:2])
            if drawings is not None:
                image = torch.from_numpy(pixels).permute(2, 0, 1)
                drawn = to_pil_image(draw_boxes(image, found.boxes, found.labels, names, found.scores))
                save_image_grid(drawn, drawings / f"{len(table.images):04d}-{Path(path).stem}.png")
        table.close()
    for sentence in errors[:10]:
        log.warning(sentence)
    if len(errors) == len(paths):
        raise DataError(f"none of {len(paths)} files could be read as an image")
    where = "" if output is None else f"; written to {output}"
    where += "" if drawings is None else f"; drawn in {drawings}"
    log.info(f"{len(paths) - len(errors)} images with {table.boxes} boxes, {len(errors)} that could not be read{where}")


class BoxTable:
    """Writes the boxes of images in one of the formats; edges are in pixels from the upper left corner."""

    def __init__(self, file: IO[str], form: BoxFormat, class_names: Sequence[str]) -> None:
        self.file, self.form, self.class_names, self.boxes = file, form, class_names, 0
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.writer = csv.writer(file, lineterminator="\n")
        if form == "csv":
            self.writer.writerow(["image", "class", "score", "left", "top", "right", "bottom", "error"])

    def write(self, path: str, found: Detections, height: int, width: int) -> None:
        """Writes the boxes of an image."""
        image = os.fsencode(path).decode(errors="backslashreplace")
        self.boxes += len(found.boxes)
        self.images.append({"id": len(self.images) + 1, "file_name": image, "height": height, "width": width})
        if self.form == "coco":
            for result in coco_results(found, len(self.images)):
                result |= {"id": len(self.annotations) + 1, "area": result["bbox"][2] * result["bbox"][3]}
                if mask := result.get("segmentation"):
                    result["segmentation"] = mask | {"counts": mask["counts"].decode()}
                self.annotations.append(result | {"iscrowd": 0})
            return
        rows = [
            (self.class_names[label - 1], round(score, 4), [round(edge, 1) for edge in box])
            for label, score, box in zip(found.labels, found.scores.tolist(), found.boxes.tolist(), strict=True)
        ]
        if self.form == "csv":
            self.writer.writerows([image, name, score, *box, ""] for name, score, box in rows)
        else:
            self._print({"image": image, "boxes": [{"class": c, "score": score, "box": box} for c, score, box in rows]})

    def write_error(self, path: str, error: str) -> None:
        """Writes why an image cannot be read; COCO's form has no place for it."""
        image = os.fsencode(path).decode(errors="backslashreplace")
        if self.form == "csv":
            self.writer.writerow([image, *[""] * 6, error])
        elif self.form == "jsonl":
            self._print({"image": image, "boxes": [], "error": error})

    def close(self) -> None:
        """Writes COCO's file, which is complete only now."""
        if self.form == "coco":
            categories = [{"id": label, "name": name} for label, name in enumerate(self.class_names, 1)]
            self._print({"images": self.images, "annotations": self.annotations, "categories": categories})

    def _print(self, content: dict[str, Any]) -> None:
        print(json.dumps(content, ensure_ascii=False), file=self.file)
