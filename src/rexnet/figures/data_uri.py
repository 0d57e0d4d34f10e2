"""Embeds pictures in a web page as data URIs, small enough to send the page by mail."""

import base64
import io

import numpy as np
from PIL import Image

QUALITY = 82  # of JPEG


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
    stream = io.BytesIO()
    image.save(stream, "jpeg", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
