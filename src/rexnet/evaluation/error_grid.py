"""The images that a classifier got most wrong, and those it was least sure of, as a picture."""

from pathlib import Path

import numpy as np

from rexnet.data.augment.transforms import build_eval_transform
from rexnet.data.dataset import ImageDataset
from rexnet.evaluation.results import Result
from rexnet.figures.image_grid import Row, layout_grid, picture_row, save_image_grid
from rexnet.metrics.statistics import least_sure, most_wrong, probabilities_of
from rexnet.preprocessing import resolve_preprocessing

COLUMNS = 6
ROWS = 3  # of each kind, at most


def write_error_grid(path: Path, result: Result) -> None:
    """Writes a PNG: the most wrong images, then the least sure, as the network sees them, with both classes.

    Args:
        path: of the picture.
        result: what was measured.

    Raises:
        ConfigError: the file cannot be written.
    """
    predictions, count = result.predictions, ROWS * COLUMNS
    kinds = {"Most wrong": most_wrong(predictions, count), "Least sure": least_sure(predictions, count)}
    drawn = [row for title, positions in kinds.items() for row in _rows(title, positions, result)]
    wrong = int((predictions.logits.argmax(1) != predictions.labels).sum())
    title = (
        f"{wrong} of {len(predictions.labels)} images named wrongly; below each: its class, and what it was taken for"
    )
    save_image_grid(layout_grid(drawn, title), path)


def _rows(title: str, positions: np.ndarray, result: Result) -> list[Row]:
    images, captions = view_images(result, positions), captions_of(result, positions)
    return [
        picture_row(
            title if start == 0 else "",
            f"{start + 1} to {min(start + COLUMNS, len(images))}",
            images[start : start + COLUMNS],
            captions[start : start + COLUMNS],
        )
        for start in range(0, len(images), COLUMNS)
    ]


def captions_of(result: Result, positions: np.ndarray) -> list[str]:
    """Two lines for each image: its class, and what it was taken for, each with its probability."""
    predictions, captions = result.predictions.with_readable_classes(), []
    probabilities = probabilities_of(predictions.logits[positions], result.temperature or 1.0)
    for label, shares in zip(predictions.labels[positions].tolist(), probabilities, strict=True):
        named = int(shares.argmax())
        second = "(right)" if named == label else f"{shares[named]:.0%} {predictions.class_names[named]}"
        captions.append(f"{shares[label]:.0%} {predictions.class_names[label]}\n{second}")
    return captions


def view_images(result: Result, positions: np.ndarray) -> np.ndarray:
    """The images at `positions` of the predictions as the network sees them, uint8 (n, H, W, 3)."""
    places = {name: place for place, name in enumerate(result.index.paths)}
    preprocessing = resolve_preprocessing(result.config, result.index.class_names)
    dataset = ImageDataset(result.index, build_eval_transform(preprocessing))
    chosen = [places[result.predictions.names[position]] for position in positions.tolist()]
    return np.stack([dataset.view(place, 0) for place in chosen]) if chosen else np.empty((0, 1, 1, 3), np.uint8)
