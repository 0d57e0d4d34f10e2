import base64
import io

import numpy as np
from PIL import Image

from rexnet.figures.data_uri import embed_matrix, embed_picture


def decode(uri: str, kind: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == f"data:image/{kind};base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def test_a_picture_is_reduced_to_the_width() -> None:
    pixels = np.full((50, 100, 3), 200, np.uint8)
    assert decode(embed_picture(pixels, 40), "jpeg").size == (40, 20)
    assert decode(embed_picture(pixels, 400), "jpeg").size == (100, 50)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    assert decode(embed_picture(stream.getvalue(), 40), "jpeg").size == (40, 20)


def test_a_pixel_of_a_large_matrix_shows_the_maximum_of_its_cells() -> None:
    uri, step = embed_matrix(np.eye(10))
    assert (step, decode(uri, "png").size) == (1, (10, 10))
    shares = np.zeros((1000, 1000))
    shares[999, 0] = 1
    uri, step = embed_matrix(shares)
    picture = np.asarray(decode(uri, "png")).astype(int).sum(-1)
    assert (step, picture.shape) == (3, (334, 334))
    assert np.argwhere(picture > picture[0, 0]).tolist() == [[333, 0]]
