"""Holds the decoder to Pillow: every format and mode that Pillow writes, and JPEGs of which a part is decoded."""

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from rexnet.data.sources.decode import Jpeg, decode, open_image
from rexnet.errors import DataError

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I;16", "I;16B")
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "AVIF": [{}, {"subsampling": "4:4:4", "range": "limited"}],
    "BLP": [{}],
    "BMP": [{}],
    "DDS": [{}, {"pixel_format": "DXT1"}, {"pixel_format": "DXT5"}],
    "DIB": [{}],
    "GIF": [{}, {"transparency": 3}, {"interlace": False}],
    "ICO": [{}, {"bitmap_format": "bmp"}],
    "JPEG": [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True}, {"keep_rgb": True}],
    "JPEG2000": [{}, {"irreversible": True}, {"no_jp2": True}],
    "MPO": [{}],
    "MSP": [{}],
    "PCX": [{}],
    "PNG": [{}, {"bits": 1}, {"bits": 2}, {"bits": 4}, {"transparency": 3}],
    "PPM": [{}],
    "QOI": [{}],
    "SGI": [{}, {"bpc": 2}],
    "TGA": [{}, {"compression": "tga_rle"}, {"orientation": 1}],
    "TIFF": [{"compression": name} for name in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "lzma", "zstd", "jpeg")],
    "WEBP": [{}, {"lossless": True}, {"lossless": True, "exact": True}],
    "XBM": [{}],
}
ORIENTATIONS = (1, 3, 6, 7)


def picture(mode: str) -> Image.Image:
    """Soft blobs of all colors and opacities, 48 x 32, in any mode."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 4), dtype=np.uint8)
    blobs = Image.fromarray(noise).resize((48, 32), Image.Resampling.BICUBIC)
    if mode.startswith("I;16"):
        values = np.asarray(blobs.convert("L")).astype(">u2" if mode == "I;16B" else "<u2") * 257
        return Image.frombytes(mode, blobs.size, values.tobytes())
    if mode == "P":
        return blobs.convert("RGB").quantize(16)
    if mode in ("RGBX", "LAB", "HSV"):
        return Image.frombytes(mode, blobs.size, (blobs if mode == "RGBX" else blobs.convert("RGB")).tobytes())
    return blobs.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else blobs.convert(mode)


def written(form: str, mode: str) -> dict[str, bytes]:
    """The picture in a format and mode, in all variants and orientations that Pillow can write."""
    files = {}
    for options in VARIANTS[form]:
        for orientation in ORIENTATIONS:
            exif = Image.Exif()
            exif[ExifTags.Base.Orientation] = orientation
            file = io.BytesIO()
            try:
                picture(mode).save(file, form, exif=exif, **options)
            except (OSError, ValueError, RuntimeError, TypeError, KeyError):
                continue
            files[f"{options}, orientation {orientation}"] = file.getvalue()
    return files


def seen(content: bytes) -> np.ndarray:
    """The pixels by Pillow alone: upright, over white; 16 bits scaled, which Pillow would clip."""
    image = Image.open(io.BytesIO(content))
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return np.stack([(np.asarray(image) >> 8).astype(np.uint8)] * 3, axis=-1)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("form", VARIANTS)
def test_every_file_that_pillow_writes_is_seen_as_pillow_sees_it(form: str) -> None:
    compared = 0
    for mode in MODES:
        for name, content in written(form, mode).items():
            np.testing.assert_array_equal(decode(content, "x"), seen(content), err_msg=f"{form} {mode} {name}")
            compared += 1
    assert compared >= 4


def test_avif_is_turned_as_its_container_says() -> None:
    """AVIF stores the orientation as irot and imir, which OpenCV ignores."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    wide = Image.new("RGB", (80, 40), "red")
    wide.paste("blue", (40, 0, 80, 40))
    file = io.BytesIO()
    wide.save(file, "AVIF", quality=100, exif=exif)
    pixels = decode(file.getvalue(), "x.avif")
    assert pixels.shape == (80, 40, 3)
    assert pixels[10, 20, 0] > 240
    assert pixels[70, 20, 2] > 240


def test_twelve_bits_are_scaled_to_eight() -> None:
    """A TIFF of 2 x 1 pixels with 12 bits: 0xABC and 0x123."""
    entries = [(256, 3, 2), (257, 3, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (279, 4, 3)]
    table = b"".join(
        tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        for tag, kind, value in entries
    )
    content = b"II*\0" + (12).to_bytes(4, "little") + b"\xab\xc1\x23\0" + len(entries).to_bytes(2, "little")
    assert decode(content + table + bytes(4), "x.tif").tolist() == [[[0xAB] * 3, [0x12] * 3]]


def test_orientation_in_xmp_turns_a_jpeg_as_in_pillow() -> None:
    file = io.BytesIO()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.new("RGB", (30, 20)).save(file, "JPEG", xmp=xmp)
    assert decode(file.getvalue(), "x").shape == (30, 20, 3)


def test_damaged_exif_leaves_an_image_as_it_is_stored() -> None:
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03")
    assert decode(file.getvalue(), "x").shape == (20, 30, 3)


def jpeg(**options: Any) -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((203, 149), Image.Resampling.BICUBIC).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subsampling": "4:4:4"},
        {"subsampling": "4:2:2"},
        {"optimize": True, "quality": 5},
        {"restart_marker_blocks": 3},
        {"progressive": True},
    ],
    ids=str,
)
def test_a_part_of_a_jpeg_has_the_pixels_of_the_whole(options: dict[str, Any], capfd: pytest.CaptureFixture) -> None:
    content = jpeg(**options)
    for file in (content, content + b"what a camera appends", content + content):
        opened, whole = open_image(file, "x"), decode(file, "x")
        assert isinstance(opened, Jpeg)
        assert opened.shape == (149, 203, 3)
        for bottom in range(1, 150):
            part = opened[max(0, bottom - 40) : bottom, 7:190]
            np.testing.assert_array_equal(part, whole[max(0, bottom - 40) : bottom, 7:190])
    assert capfd.readouterr() == ("", "")  # libjpeg has nothing to warn of


def test_a_part_of_a_jpeg_leaves_out_the_rows_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    heights = []
    decoder = cv2.imdecode

    def note(*arguments: Any) -> np.ndarray:
        image: np.ndarray = decoder(*arguments)
        heights.append(len(image))
        return image

    monkeypatch.setattr(cv2, "imdecode", note)
    opened = open_image(jpeg(), "x")
    opened[10:50, 0:20]
    opened[10:149, 0:20]
    open_image(jpeg(progressive=True), "x")[10:50, 0:20]
    assert heights == [58, 149, 149]


def test_a_part_of_a_turned_jpeg_is_a_part_of_the_upright_image() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    content = jpeg(exif=exif)
    opened, whole = open_image(content, "x"), decode(content, "x")
    assert opened.shape == whole.shape == (203, 149, 3)
    np.testing.assert_array_equal(opened[5:60, 3:70], whole[5:60, 3:70])


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_range_are_refused(mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (4, 4)).save(file, "TIFF")
    with pytest.raises(DataError, match=f"x: has pixels of Pillow's mode {mode}; convert it to 8 or 16 bits RGB"):
        decode(file.getvalue(), "x")


THIN = """
import io, resource, time
import numpy as np
from PIL import Image
from rexnet.config import load_config
from rexnet.data.augment.transforms import build_eval_transform, build_train_transform
from rexnet.data.sources.decode import open_image
from rexnet.preprocessing import Preprocessing

config = load_config("imagenet", [])
train = build_train_transform(config.data, config.augmentation, config.training_sizes)
whole = build_eval_transform(Preprocessing(224, 0.875, "bicubic", (0.5,) * 3, (0.5,) * 3, ()))
def show(width, height, form):
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, form)
    shapes = {transform(open_image(file.getvalue(), "x"), key=1).shape for transform in (train, whole)}
    assert shapes == {(224, 224, 3)}, shapes
show(300, 200, "PNG")
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
for form in ("PNG", "JPEG", "TIFF", "BMP", "GIF"):
    for width, height in ((60000, 1), (1, 60000), (30000, 2), (60000, 100), (100, 60000)):
        show(width, height, form)
used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(round(time.process_time() - start, 2), "seconds", round(used), "MiB")
assert time.process_time() - start < 20 and used < 150
"""


def test_long_and_thin_images_take_less_than_a_second_and_150_mib() -> None:
    done = subprocess.run([sys.executable, "-c", THIN], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
