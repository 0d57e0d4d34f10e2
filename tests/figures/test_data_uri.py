import base64
import io

import numpy as np
from PIL import Image

from rexnet.figures.data_uri import embed_picture


def decode(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def test_a_picture_is_reduced_to_the_width() -> None:
    pixels = np.full((50, 100, 3), 200, np.uint8)
    assert decode(embed_picture(pixels, 40)).size == (40, 20)
    assert decode(embed_picture(pixels, 400)).size == (100, 50)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    assert decode(embed_picture(stream.getvalue(), 40)).size == (40, 20)
