"""Image grids of the images that a classifier got most wrong, and of those it was least sure of."""

from pathlib import Path

import numpy as np

from rexnet.data.augment.transforms import build_eval_transform
from rexnet.data.dataset import ImageDataset
from rexnet.evaluation.results import Result
from rexnet.figures.image_grid import Row, layout_grid, picture_row, save_image_grid
from rexnet.metrics.statistics import least_sure, most_wrong, probabilities_of

COLUMNS, ROWS = 6, 3


def write_error_grid(path: Path, result: Result) -> None:
    """Writes a PNG of the most wrong and the least sure images, as the network sees them, with both classes."""
    predictions, count = result.predictions, ROWS * COLUMNS
    rows: list[Row] = []
    for name, places in {
        "Most wrong": most_wrong(predictions, count),
        "Least sure": least_sure(predictions, count),
    }.items():
        images, captions = view_images(result, places), caption_images(result, places)
        for start in range(0, len(images), COLUMNS):
            part = slice(start, start + COLUMNS)
            remark = f"{start + 1} to {min(start + COLUMNS, len(images))}"
            rows.append(picture_row("" if start else name, remark, images[part], captions[part]))
    wrong, n = int((predictions.logits.argmax(1) != predictions.labels).sum()), len(predictions.labels)
    title = f"{wrong} of {n} images classified wrongly; below each image its class, then the prediction"
    save_image_grid(layout_grid(rows, title), path)


def caption_images(result: Result, positions: np.ndarray) -> list[str]:
    """Returns two lines for each image: its class and the predicted one, each with its probability."""
    predictions, captions = result.predictions.with_readable_classes(), []
    rows = probabilities_of(predictions.logits[positions], result.temperature or 1.0)
    for label, probabilities in zip(predictions.labels[positions].tolist(), rows, strict=True):
        predicted = int(probabilities.argmax())
        second = f"{probabilities[predicted]:.0%} {predictions.class_names[predicted]}"
        second = "(right)" if predicted == label else second
        captions.append(f"{probabilities[label]:.0%} {predictions.class_names[label]}\n{second}")
    return captions


def view_images(result: Result, positions: np.ndarray) -> np.ndarray:
    """Returns the images at `positions` of the predictions as the network sees them, uint8 (n, H, W, 3)."""
    place_of = {name: place for place, name in enumerate(result.index.paths)}
    dataset = ImageDataset(result.index, build_eval_transform(result.view.of(result.model.preprocessing)))
    places = [place_of[result.predictions.names[position]] for position in positions.tolist()]
    return np.stack([dataset.view(place, 0) for place in places]) if places else np.empty((0, 1, 1, 3), np.uint8)
