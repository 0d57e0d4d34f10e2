"""A picture of what happens to training images, for people to judge with their eyes."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rexnet.config.schema import Config
from rexnet.data.augment.batch import cutmix, erase, mixup, normalize
from rexnet.data.augment.transforms import build_eval_transform, build_train_transform
from rexnet.data.dataset import ImageDataset
from rexnet.data.datasets import load_index
from rexnet.data.datasets.index import Index
from rexnet.data.keys import mix
from rexnet.figures.image_grid import Row, layout_grid, picture_row, save_image_grid
from rexnet.preprocessing import resolve_preprocessing

SHOWN_DRAWS, LEAST_SHARE = 30, 0.25  # a mixture is drawn anew until one can see it


def write_preview(config: Config, path: Path, columns: int, views: int) -> None:
    """Draws the sheet of a configuration and writes it as a PNG.

    Raises:
        DataError: the data set is missing or an image is broken.
        ConfigError: the file cannot be written.
    """
    save_image_grid(draw_preview(config, columns, views), path)


def draw_preview(config: Config, columns: int, views: int) -> Image.Image:
    """Originals, `views` random views of each, the view for evaluation, and batches after erasing and mixing."""
    index = load_index(config.data, "train")
    chosen = choose_images(index, columns)
    names = [index.class_names[int(index.labels[position])] for position in chosen]
    train = ImageDataset(index, build_train_transform(config.data, config.augmentation), config.seed)
    fixed = ImageDataset(index, build_eval_transform(resolve_preprocessing(config, index.class_names)))
    originals = [train.decoded(position) for position in chosen]
    rows = [picture_row("Original", "as decoded", originals, names)]
    drawn = []
    for view in range(views):
        drawn.append(np.stack([train.view(position, mix(config.seed, view, position)) for position in chosen]))
        rows.append(picture_row("Training" if view == 0 else "", f"view {view + 1}", drawn[-1], []))
    rows += _batch_rows(config, drawn[0], names)
    measured = [fixed.view(position, 0) for position in chosen]
    rows.append(picture_row("Evaluation", f"{config.data.image_size} px", measured, []))
    return layout_grid(rows, f"{config.name}, {config.data.image_size} px")


def choose_images(index: Index, count: int) -> list[int]:
    """Positions of `count` images, of different classes as far as there are so many."""
    shuffled = np.random.default_rng(0).permutation(len(index))
    _, first = np.unique(index.labels[shuffled], return_index=True)
    others = np.setdiff1d(np.arange(len(index)), first)
    return [int(position) for position in shuffled[np.r_[np.sort(first), others]][:count]]


def _batch_rows(config: Config, pixels: np.ndarray, names: Sequence[str]) -> list[Row]:
    """What the device makes of the first views, (N, H, W, 3), by each means that the configuration has on."""
    augmentation, data = config.augmentation, config.data
    draw = random.Random(mix(config.seed, len(names)))
    labels = torch.arange(len(names))

    def images() -> Tensor:
        return normalize(torch.from_numpy(pixels), data.mean, data.std)

    def row(name: str, remark: str, batch: Tensor, captions: list[str]) -> Row:
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (data.mean, data.std))
        bytes_ = (batch * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8)
        return picture_row(name, remark, bytes_.permute(0, 2, 3, 1).numpy(), captions)

    rows = []
    if augmentation.erase_prob > 0:
        batch = images()
        erase(batch, augmentation.erase_prob, augmentation.erase_mode, draw, augmentation.erase_count)
        rows.append(row("Erasing", f"{augmentation.erase_prob:.0%} of images", batch, []))
    for name, function, alpha in (("Mixup", mixup, augmentation.mixup), ("CutMix", cutmix, augmentation.cutmix)):
        if alpha > 0:
            for _ in range(SHOWN_DRAWS):
                batch, targets = function(images(), labels, alpha, len(names), draw)
                if LEAST_SHARE < float(targets[0, 0]) < 1 - LEAST_SHARE:
                    break
            rows.append(row(name, f"alpha {alpha:g}", batch, [_shares(target, names) for target in targets]))
    return rows


def _shares(target: Tensor, names: Sequence[str]) -> str:
    """A line for each class of a mixed image, the larger share first; two images of one class are one line."""
    shares: dict[str, float] = {}
    for name, share in zip(names, target.tolist(), strict=True):
        if share > 0:
            shares[name] = shares.get(name, 0.0) + share
    return "\n".join(f"{share:.0%} {name}" for name, share in sorted(shares.items(), key=lambda item: -item[1]))
