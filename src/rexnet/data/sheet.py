"""A picture of what happens to training images, for people to judge with their eyes."""

import random
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from rexnet.config.schema import Config
from rexnet.data.dataset import ImageDataset
from rexnet.data.datasets import load_index
from rexnet.data.device import cutmix, erase, mixup, normalize
from rexnet.data.index import Index
from rexnet.data.keys import mix
from rexnet.data.transforms import build_eval_transform, build_train_transform
from rexnet.files import written_whole

TILE = 128  # pixels
GAP = 8
MARGIN = 20
LINE = 15  # height of a line of text under a tile
LEGEND = 112  # width of the names of the rows
SHOWN_DRAWS, LEAST_SHARE = 30, 0.25  # a mixture is drawn anew until one can see it
PAPER, INK, FAINT = (255, 255, 255), (33, 37, 41), (134, 142, 150)

Row = tuple[str, str, list[Image.Image], list[str]]
"""Name, remark, pictures and captions."""


def write_sheet(config: Config, path: Path, columns: int, views: int) -> None:
    """Draws the sheet of a configuration and writes it as a PNG.

    Raises:
        DataError: the data set is missing or an image is broken.
        ConfigError: the file cannot be written.
    """
    save_sheet(draw_sheet(config, columns, views), path)


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Writes a PNG.

    Raises:
        ConfigError: the file cannot be written.
    """
    with written_whole(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def draw_sheet(config: Config, columns: int, views: int) -> Image.Image:
    """Originals, `views` random views of each, the view for evaluation, and batches after erasing and mixing."""
    index = load_index(config.data, "train")
    chosen = choose_images(index, columns)
    names = [index.class_names[int(index.labels[position])] for position in chosen]
    train = ImageDataset(index, build_train_transform(config.data, config.augmentation), config.seed)
    fixed = ImageDataset(index, build_eval_transform(config.data.image_size, config.eval_transform), config.seed)
    originals = [train.decoded(position) for position in chosen]
    rows = [picture_row("Original", "as decoded", originals, names)]
    drawn = []
    for view in range(views):
        drawn.append(np.stack([train.view(position, mix(config.seed, view, position)) for position in chosen]))
        rows.append(picture_row("Training" if view == 0 else "", f"view {view + 1}", drawn[-1], []))
    rows += _batch_rows(config, drawn[0], names)
    measured = [fixed.view(position, 0) for position in chosen]
    rows.append(picture_row("Evaluation", f"{config.data.image_size} px", measured, []))
    return lay_out(rows, f"{config.name}, {config.data.image_size} px")


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


def picture_row(name: str, remark: str, images: Sequence[np.ndarray] | np.ndarray, captions: Sequence[str] = ()) -> Row:
    """A row of a sheet: images uint8 (H, W, 3), and a caption of one or more lines for each, or none."""
    return name, remark, [Image.fromarray(image) for image in images], list(captions)


def lay_out(rows: Sequence[Row], title: str) -> Image.Image:
    """The rows below each other on white paper."""
    columns = max(len(pictures) for _, _, pictures, _ in rows)
    heights = [TILE + GAP + LINE * max((text.count("\n") + 1 for text in captions), default=0) for *_, captions in rows]
    top = MARGIN + 30
    size = (2 * MARGIN + LEGEND + columns * (TILE + GAP) - GAP, top + sum(heights) + MARGIN - GAP)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN - 4), title, INK, _font(16))
    for (name, remark, pictures, captions), height in zip(rows, heights, strict=True):
        pen.text((MARGIN, top), name, INK, _font(13))
        pen.text((MARGIN, top + (20 if name else 2)), remark, FAINT, _font(11))
        for column, picture in enumerate(pictures):
            left = MARGIN + LEGEND + column * (TILE + GAP)
            tile = ImageOps.contain(picture, (TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
            if captions:
                _write_caption(pen, captions[column], left, top + TILE + 1)
        top += height
    return sheet


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that matplotlib brings, which has many more scripts than Pillow's own; that one without matplotlib."""
    found = find_spec("matplotlib")  # without importing it
    path = Path(found.origin or "").parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf" if found else Path()
    return ImageFont.truetype(path, size) if path.is_file() else ImageFont.load_default(size)


def _write_caption(pen: ImageDraw.ImageDraw, text: str, left: int, top: int) -> None:
    """Lines in the middle under a tile, cut where they are too long."""
    font = _font(11)
    for number, line in enumerate(text.split("\n")):
        while pen.textlength(line, font) > TILE:
            line = line.rstrip("…")[:-1] + "…"
        pen.text((left + (TILE - pen.textlength(line, font)) / 2, top + number * LINE), line, FAINT, font)
