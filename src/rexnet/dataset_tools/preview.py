"""An image grid of augmented training images, to judge an augmentation by eye."""

import logging
import random
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rexnet.config.data_schema import AugmentationConfig
from rexnet.config.schema import Config
from rexnet.data.augment.batch import cutmix, erase, mixup, normalize
from rexnet.data.augment.transforms import build_eval_transform, build_train_transform
from rexnet.data.dataset import ImageDataset
from rexnet.data.datasets import load_index
from rexnet.data.datasets.index import Index
from rexnet.data.datasets.remarks import remark_left_out
from rexnet.data.keys import mix
from rexnet.figures.image_grid import Row, layout_grid, picture_row
from rexnet.preprocessing import Preprocessing, resolve_preprocessing

log = logging.getLogger(__name__)

MAX_DRAWS, MIN_RATIO = 30, 0.25  # mixtures are drawn until both images are visible


def draw_preview(config: Config, columns: int, views: int) -> Image.Image:
    """Draws originals, `views` random views of each, batches after erasing and mixing, and the evaluation view."""
    index = load_index(config.data, "train")
    for remark in remark_left_out(index):
        log.warning(remark)
    preprocessing = resolve_preprocessing(config, index.class_names)
    chosen = choose_images(index, columns)
    names = [index.class_names[int(index.labels[position])] for position in chosen]
    sizes = config.training_sizes
    train = ImageDataset(index, build_train_transform(config.data, config.augmentation, sizes), config.seed)
    rows = [picture_row("Original", "as decoded", [np.asarray(train.opened(each)) for each in chosen], names)]
    drawn = []
    for view in range(views):
        epoch = round(view / max(1, views - 1) * (len(sizes) - 1))  # from the first to the last size
        drawn.append(np.stack([train.view(each, mix(config.seed, view, each), epoch) for each in chosen]))
        rows.append(picture_row("Training" if view == 0 else "", f"view {view + 1}, {sizes[epoch]} px", drawn[-1], []))
    rng = random.Random(mix(config.seed, len(names)))
    rows += _batch_rows(config.augmentation, preprocessing, drawn[0], names, rng)
    evaluation = ImageDataset(index, build_eval_transform(preprocessing))
    evaluated = [evaluation.view(position, 0) for position in chosen]
    rows.append(picture_row("Evaluation", f"{config.data.image_size} px", evaluated, []))
    return layout_grid(rows, f"{config.name}, {config.data.image_size} px")


def choose_images(index: Index, count: int) -> list[int]:
    """Returns positions of `count` images, of different classes if there are enough."""
    shuffled = np.random.default_rng(0).permutation(len(index))
    _, first = np.unique(index.labels[shuffled], return_index=True)
    others = np.setdiff1d(np.arange(len(index)), first)
    return [int(position) for position in shuffled[np.r_[np.sort(first), others]][:count]]


def _batch_rows(
    config: AugmentationConfig, view: Preprocessing, pixels: np.ndarray, names: Sequence[str], rng: random.Random
) -> list[Row]:
    """Returns a row for each batch augmentation that is on, applied to `pixels` (N, H, W, 3)."""
    labels = torch.arange(len(names))

    def images() -> Tensor:
        return normalize(torch.from_numpy(pixels), view.mean, view.std)

    def row(name: str, remark: str, batch: Tensor, captions: list[str]) -> Row:
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (view.mean, view.std))
        bytes_ = (batch * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8)
        return picture_row(name, remark, bytes_.permute(0, 2, 3, 1).numpy(), captions)

    rows = []
    if config.erase_prob > 0:
        batch = images()
        erase(batch, config.erase_prob, config.erase_mode, rng, config.erase_count)
        rows.append(row("Erasing", f"{config.erase_prob:.0%} of images", batch, []))
    for name, function, alpha in (("Mixup", mixup, config.mixup), ("CutMix", cutmix, config.cutmix)):
        if alpha > 0:
            for _ in range(MAX_DRAWS):
                batch, targets = function(images(), labels, alpha, len(names), rng)
                if MIN_RATIO < float(targets[0, 0]) < 1 - MIN_RATIO:
                    break
            rows.append(row(name, f"alpha {alpha:g}", batch, [_caption(target, names) for target in targets]))
    return rows


def _caption(target: Tensor, names: Sequence[str]) -> str:
    """Returns a line for each class of a mixed image, the larger fraction first."""
    fractions: dict[str, float] = {}
    for name, fraction in zip(names, target.tolist(), strict=True):
        if fraction > 0:
            fractions[name] = fractions.get(name, 0.0) + fraction
    return "\n".join(f"{fractions[name]:.0%} {name}" for name in sorted(fractions, key=lambda name: -fractions[name]))
