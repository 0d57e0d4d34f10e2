"""Embeds pictures in a web page as data URIs, small enough to send the page by mail."""

import base64
import io

import matplotlib as mpl
import numpy as np
from PIL import Image

QUALITY = 82  # of JPEG
MAX_SIDE = 360  # pixels of a matrix


def embed_picture(picture: bytes | np.ndarray, width: int) -> str:
    """Returns a picture as the data URI of a JPEG.

    Args:
        picture: the bytes of a PNG, or pixels uint8 (height, width, 3).
        width: maximum width; a smaller picture keeps its size.
    """
    image = Image.open(io.BytesIO(picture)) if isinstance(picture, bytes) else Image.fromarray(picture)
    image = image.convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    return _uri(image, "jpeg", quality=QUALITY, optimize=True)


def embed_matrix(shares: np.ndarray) -> tuple[str, int]:
    """Returns a square matrix of 0..1 as the data URI of a PNG, and the number of cells along the side of a pixel.

    A pixel shows the maximum of its cells.
    """
    step = -(-len(shares) // MAX_SIDE)
    if step > 1:
        room = -(-len(shares) // step) * step
        padded = np.zeros((room, room))
        padded[: len(shares), : len(shares)] = shares
        shares = padded.reshape(room // step, step, room // step, step).max(axis=(1, 3))
    colors = mpl.colormaps["magma"](np.sqrt(shares))[..., :3]  # the root makes rare mistakes visible
    return _uri(Image.fromarray((255 * colors).astype(np.uint8)), "png", optimize=True), step


def _uri(image: Image.Image, kind: str, **options: bool | int) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
