import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from rexnet.data.sources.decode import crop_to_box, decode, decode_image
from rexnet.errors import DataError

RED = (200, 10, 10)
TURNED = {  # a 3 x 2 image of a..f as stored, and as it is to be seen, by EXIF orientation (EXIF 2.32, 4.6.4)
    1: ["abc", "def"],
    2: ["cba", "fed"],
    3: ["fed", "cba"],
    4: ["def", "abc"],
    5: ["ad", "be", "cf"],
    6: ["da", "eb", "fc"],
    7: ["fc", "eb", "da"],
    8: ["cf", "be", "ad"],
}


@pytest.fixture
def jpeg(tmp_path: Path) -> Path:
    path = tmp_path / "red.jpg"
    Image.new("RGB", (60, 40), RED).save(path, quality=95)
    return path


def saved(path: Path, image: Image.Image, **options: object) -> np.ndarray:
    image.save(path, **options)
    return decode_image(str(path))


def test_channels_are_red_green_blue(jpeg: Path) -> None:
    image = decode_image(str(jpeg))
    assert (image.shape, image.dtype) == ((40, 60, 3), np.uint8)
    assert image[..., 0].mean() > 190
    assert image[..., 1:].max() < 20


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "jpg"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientation_turns_the_image_upright(suffix: str, mode: str, orientation: int, tmp_path: Path) -> None:
    if (suffix, mode) == ("jpg", "RGBA"):
        pytest.skip("a JPEG has no transparency")
    stored = np.array([[0, 40, 80], [120, 160, 200]], np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    image = saved(tmp_path / f"x.{suffix}", Image.fromarray(stored).convert(mode), exif=exif, **options)
    seen = [[chr(ord("a") + round(value / 40)) for value in row] for row in image[8::16, 8::16, 0].tolist()]
    assert ["".join(row) for row in seen] == TURNED[orientation]


@pytest.mark.parametrize(
    ("mode", "suffix", "expected"),
    [
        ("L", "png", (128, 128, 128)),
        ("1", "png", (255, 255, 255)),
        ("P", "png", RED),
        ("P", "gif", RED),
        ("CMYK", "jpg", RED),
        ("L", "jpg", (128, 128, 128)),
        ("RGB", "bmp", RED),
        ("RGB", "webp", RED),
        ("RGB", "tiff", RED),
        ("CMYK", "tiff", RED),
        ("RGB", "ppm", RED),
        ("RGB", "avif", RED),
    ],
)
def test_every_pixel_format_becomes_rgb_of_eight_bits(
    mode: str, suffix: str, expected: tuple[int, ...], tmp_path: Path
) -> None:
    grey = mode in ("L", "1")
    image = Image.new("L", (16, 12), 128) if grey else Image.new("RGB", (16, 12), RED)
    image = image.quantize(4) if mode == "P" else image.convert(mode, dither=0)
    pixels = saved(tmp_path / f"x.{suffix}", image)
    assert (pixels.shape, pixels.dtype) == ((12, 16, 3), np.uint8)
    assert np.abs(pixels.astype(int) - expected).max() <= (4 if suffix in ("jpg", "webp", "avif") else 0)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_clipped(channels: int, suffix: str, tmp_path: Path) -> None:
    pixels = np.full((4, 5, channels), 100 * 257, np.uint16)
    pixels[..., 3:] = 65535
    cv2.imwrite(str(tmp_path / f"x.{suffix}"), pixels)
    assert decode_image(str(tmp_path / f"x.{suffix}")).tolist() == [[[100, 100, 100]] * 5] * 4


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_transparency_is_laid_over_white_so_that_hidden_colours_stay_hidden(suffix: str, tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 2))
    for column, alpha in enumerate((0, 51, 255)):
        for row in range(2):
            image.putpixel((column, row), (200, 0, 100, alpha))
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    pixels = saved(tmp_path / f"x.{suffix}", image, **options)
    assert pixels[0].tolist() == [[255, 255, 255], [244, 204, 224], [200, 0, 100]]  # 51 / 255 is a fifth


def test_grey_with_alpha_and_palettes_with_a_transparent_colour_are_laid_over_white(tmp_path: Path) -> None:
    assert saved(tmp_path / "la.png", Image.new("LA", (2, 2), (0, 0))).tolist() == [[[255] * 3] * 2] * 2
    palette = Image.new("P", (2, 2))
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.putpixel((1, 1), 1)
    for suffix in ("png", "gif"):
        pixels = saved(tmp_path / f"p.{suffix}", palette, transparency=0)
        assert pixels[0, 0].tolist() == [255, 255, 255], suffix
        assert pixels[1, 1].tolist() == [0, 200, 0], suffix


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_gives_its_first_frame(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    options = {"lossless": True} if suffix == "webp" else {}
    pixels = saved(tmp_path / f"x.{suffix}", frames[0], save_all=True, append_images=frames[1:], **options)
    assert pixels.tolist() == [[[200, 0, 0]] * 8] * 6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, I am text", "is not an image that can be decoded"),
        (b"\xff\xd8\xff\xe0 header only", "is a truncated or damaged JPEG of 16 bytes"),
        (b"\x89PNG\r\n\x1a\n", "is not an image"),
        (b"\0\0\0\x18ftypheic" + bytes(12), r"is not an image .*; convert .heic to JPEG, .* pillow-heif"),
    ],
)
def test_what_is_no_image_is_named(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"x\.jpg: {message}"):
        decode(content, "x.jpg")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_refused_not_half_grey(progressive: bool, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.jpg", progressive=progressive)
    content = (tmp_path / "x.jpg").read_bytes()
    decode(content + b"what a camera appends" * 1000, "x.jpg")
    for length in (*range(2, 700, 7), len(content) // 2, len(content) - 2):
        with pytest.raises(DataError, match="truncated or damaged JPEG"):
            decode(content[:length], "x.jpg")


def test_the_end_of_an_embedded_preview_does_not_hide_a_truncated_jpeg(jpeg: Path) -> None:
    content = jpeg.read_bytes()
    preview = b"\xff\xe1" + (len(content) + 2).to_bytes(2) + content
    whole = content[:2] + preview + content[2:]
    assert decode(whole, "x.jpg").shape == (40, 60, 3)
    with pytest.raises(DataError, match="truncated"):
        decode(whole[:-2], "x.jpg")


def test_a_png_with_a_wrong_checksum_or_a_missing_end_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    content = bytearray((tmp_path / "x.png").read_bytes())
    with pytest.raises(DataError, match="is not an image that can be decoded"):
        decode(bytes(content[: len(content) // 2]), "x.png")
    content[len(content) // 2] ^= 1
    with pytest.raises(DataError, match="is not an image that can be decoded"):
        decode(bytes(content), "x.png")


@pytest.mark.parametrize(("suffix", "side"), [("png", 9000), ("png", 15000), ("jpg", 9000), ("gif", 9000)])
def test_more_pixels_than_64_million_are_refused_before_decoding(suffix: str, side: int, tmp_path: Path) -> None:
    path = tmp_path / f"bomb.{suffix}"
    Image.new("L", (side, 8)).save(path)
    content = bytearray(path.read_bytes())  # its header claims side x side; decoding it would fail for want of data
    place = {"png": 20, "jpg": content.find(b"\xff\xc0") + 5, "gif": 8}[suffix]
    content[place : place + (4 if suffix == "png" else 2)] = side.to_bytes(
        4 if suffix == "png" else 2, "little" if suffix == "gif" else "big"
    )
    if suffix == "png":  # its header has a checksum
        import zlib

        content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4)
    with pytest.raises(
        DataError, match=rf"has {side:,} x {side:,} pixels; 64 million is the most|more than 64 million"
    ):
        decode(bytes(content), path.name)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "dangling", "loop"])
def test_what_is_no_regular_file_is_named_without_waiting(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "dangling":
            path.symlink_to("nowhere.jpg")
        case "loop":
            path.symlink_to("x.jpg")
    with pytest.raises(DataError, match=r"x\.jpg: (is not a regular file|cannot be read: (No such|Too many levels))"):
        decode_image(str(path))


@pytest.mark.parametrize("name", [b"\xff\xfe.jpg", "Blüte 花.JPG".encode(), b"two\nlines.jpg"])
def test_names_in_any_encoding_are_read_and_shown_on_one_line(name: bytes, jpeg: Path, tmp_path: Path) -> None:
    strange = os.fsencode(tmp_path) + b"/" + name
    os.link(os.fsencode(jpeg), strange)
    assert decode_image(os.fsdecode(strange)).shape == (40, 60, 3)
    with pytest.raises(DataError) as caught:
        decode(b"", os.fsdecode(strange))
    assert str(caught.value).encode().splitlines() == [str(caught.value).encode()]


def test_a_box_is_cut_out_and_may_reach_over_the_edge() -> None:
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    part = crop_to_box(image, np.array([1, 2, 9, 9]), "x")
    assert part.tolist() == image[2:4, 1:5].tolist()
    assert part.flags.c_contiguous
    with pytest.raises(DataError, match=r"x: its bounding box \[5, 0, 9, 4\] is outside the 5 x 4 image"):
        crop_to_box(image, np.array([5, 0, 9, 4]), "x")


FUZZ = """
import io, sys
import numpy as np
from PIL import Image
from rexnet.data.sources.decode import decode
from rexnet.errors import DataError

draw = np.random.default_rng(0)
pixels = Image.fromarray(draw.integers(0, 256, (24, 32, 4), dtype=np.uint8))
decoded = refused = 0
for suffix in ("jpeg", "png", "webp", "gif", "tiff", "bmp"):
    for mode in ("RGB", "RGBA") if suffix in ("png", "webp", "tiff") else ("RGB",):
        file = io.BytesIO()
        pixels.convert(mode).save(file, suffix)
        for number in range(250):
            content = bytearray(file.getvalue())
            content[draw.integers(len(content))] ^= 1 << draw.integers(8)
            if number % 5 == 0:
                del content[draw.integers(len(content)) :]
            try:
                image = decode(bytes(content), "x")
            except DataError:
                refused += 1
            else:
                assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size
                decoded += 1
print(decoded + refused, min(decoded, refused) > 100)
"""


def test_no_damaged_file_crashes_or_holds_the_decoder() -> None:
    done = subprocess.run([sys.executable, "-c", FUZZ], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["2250", "True"]), done.stderr[-2000:]
