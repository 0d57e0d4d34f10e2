"""Image grids: rows of captioned images on a white background, written as PNG."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rexnet.system.atomic_files import atomic_write

TILE = 128  # pixels
GAP = 8
MARGIN = 20
LINE = 15  # height of a caption line
LEGEND = 112  # width of the row names
PAPER, INK, FAINT = (255, 255, 255), (33, 37, 41), (134, 142, 150)

Row = tuple[str, str, list[Image.Image], list[str]]
"""Name, remark, images and captions."""


def save_image_grid(grid: Image.Image, path: Path) -> None:
    """Writes a PNG file atomically.

    Raises:
        ConfigError: the file cannot be written.
    """
    with atomic_write(path) as temporary:
        grid.save(temporary, format="PNG", optimize=True)


def picture_row(name: str, remark: str, images: Sequence[np.ndarray] | np.ndarray, captions: Sequence[str] = ()) -> Row:
    """Returns a row of images uint8 (H, W, 3), each with a caption of one or more lines if there are captions."""
    return name, remark, [Image.fromarray(image) for image in images], list(captions)


def layout_grid(rows: Sequence[Row], title: str) -> Image.Image:
    """Returns an image of the rows below a title."""
    columns = max(len(pictures) for _, _, pictures, _ in rows)
    heights = [TILE + GAP + LINE * max((text.count("\n") + 1 for text in captions), default=0) for *_, captions in rows]
    top = MARGIN + 30
    size = (2 * MARGIN + LEGEND + columns * (TILE + GAP) - GAP, top + sum(heights) + MARGIN - GAP)
    grid = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(grid)
    pen.text((MARGIN, MARGIN - 4), title, INK, _font(16))
    for (name, remark, pictures, captions), height in zip(rows, heights, strict=True):
        pen.text((MARGIN, top), name, INK, _font(13))
        pen.text((MARGIN, top + (20 if name else 2)), remark, FAINT, _font(11))
        for column, picture in enumerate(pictures):
            left = MARGIN + LEGEND + column * (TILE + GAP)
            wide, high = (max(1, round(side * TILE / max(picture.size))) for side in picture.size)
            tile = picture.resize((wide, high), Image.Resampling.LANCZOS)
            grid.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
            if captions:
                _write_caption(pen, captions[column], left, top + TILE + 1)
        top += height
    return grid


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Returns the font of matplotlib, which covers more scripts than Pillow's; without matplotlib, Pillow's."""
    found = find_spec("matplotlib")  # without importing it
    path = Path(found.origin or "").parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf" if found else Path()
    return ImageFont.truetype(path, size) if path.is_file() else ImageFont.load_default(size)


def _write_caption(pen: ImageDraw.ImageDraw, text: str, left: int, top: int) -> None:
    """Writes centered lines below a tile and shortens those that are too long."""
    font = _font(11)
    for number, line in enumerate(text.split("\n")):
        while pen.textlength(line, font) > TILE:
            line = line.rstrip("…")[:-1] + "…"
        pen.text((left + (TILE - pen.textlength(line, font)) / 2, top + number * LINE), line, FAINT, font)
