"""Pixels inside a page: pictures as data URIs, small enough for a file that one sends by mail."""

import base64
import io

import matplotlib as mpl
import numpy as np
from PIL import Image

QUALITY = 82  # of JPEG
MOST_CELLS = 360  # of a side of a matrix's picture


def embed_picture(picture: bytes | np.ndarray, width: int) -> str:
    """A data URI of a picture, at most `width` pixels wide, as JPEG.

    Args:
        picture: the bytes of a PNG, or pixels uint8 (height, width, 3).
        width: of the result; a smaller picture keeps its size.
    """
    image = Image.open(io.BytesIO(picture)) if isinstance(picture, bytes) else Image.fromarray(picture)
    image = image.convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    return _uri(image, "jpeg", quality=QUALITY, optimize=True)


def embed_matrix(shares: np.ndarray) -> tuple[str, int]:
    """A picture of a matrix of 0..1, one pixel a cell, as a data URI; and how many cells a side a pixel stands for.

    Where there are more cells than a screen shows, a pixel has the largest value of those that it stands for.
    """
    step = -(-len(shares) // MOST_CELLS)
    if step > 1:
        room = -(-len(shares) // step) * step
        padded = np.zeros((room, room))
        padded[: len(shares), : len(shares)] = shares
        shares = padded.reshape(room // step, step, room // step, step).max(axis=(1, 3))
    colours = mpl.colormaps["magma"](np.sqrt(shares))[..., :3]  # the root, so that rare mistakes can be seen
    return _uri(Image.fromarray((255 * colours).astype(np.uint8)), "png", optimize=True), step


def _uri(image: Image.Image, kind: str, **options: bool | int) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
