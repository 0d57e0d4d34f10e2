import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from rexnet.data.decode import decode_image
from rexnet.errors import DataError


@pytest.fixture
def jpeg(tmp_path: Path) -> Path:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[..., 0] = 200  # red
    Image.fromarray(pixels).save(tmp_path / "red.jpg", quality=95)
    return tmp_path / "red.jpg"


def test_channels_are_red_green_blue(jpeg: Path) -> None:
    image = decode_image(str(jpeg))
    assert (image.shape, image.dtype) == ((40, 60, 3), np.uint8)
    assert image[..., 0].mean() > 190
    assert image[..., 1:].max() < 10


def test_exif_orientation_turns_the_image_upright(jpeg: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    Image.open(jpeg).save(jpeg, exif=exif)
    assert decode_image(str(jpeg)).shape == (60, 40, 3)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "I;16"])
def test_every_pixel_format_becomes_three_bytes(mode: str, tmp_path: Path) -> None:
    base = Image.fromarray(np.full((10, 12), 128, np.uint8))
    image = Image.fromarray(np.full((10, 12), 128 * 257, np.uint16)) if mode == "I;16" else base.convert(mode)
    image.save(tmp_path / "x.png")
    assert decode_image(str(tmp_path / "x.png")).shape == (10, 12, 3)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), np.full((4, 4), 100 * 256, np.uint16))
    assert decode_image(str(tmp_path / "x.png")).tolist()[0][0] == [100, 100, 100]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, I am text", "is not an image that OpenCV can decode"),
        (b"\xff\xd8\xff\xe0 header only", "is a truncated JPEG of 16 bytes"),
    ],
)
def test_what_is_no_image_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.jpg: {message}"):
        decode_image(str(tmp_path / "x.jpg"))


def test_a_truncated_jpeg_is_refused_not_half_grey(jpeg: Path) -> None:
    jpeg.write_bytes(jpeg.read_bytes()[: jpeg.stat().st_size // 2])
    with pytest.raises(DataError, match="truncated JPEG"):
        decode_image(str(jpeg))


def test_a_missing_file_and_a_pipe_are_named_without_waiting(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        decode_image(str(tmp_path / "none.jpg"))
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match="is not a regular file"):
        decode_image(str(tmp_path / "pipe.jpg"))


def test_names_in_any_encoding_are_read(jpeg: Path, tmp_path: Path) -> None:
    strange = os.fsencode(tmp_path) + b"/\xff\xfe.jpg"
    os.link(os.fsencode(jpeg), strange)
    assert decode_image(os.fsdecode(strange)).shape == (40, 60, 3)
