"""The decoder of all images: training, evaluation, prediction and `rexnet data check` decode in the same way.

The result is RGB uint8 (height, width, 3). Images are rotated by their EXIF orientation, 16 bits are scaled to 8,
transparency is composited over white, and an animation gives its first frame. Anything that cannot be decoded without
guessing is a `DataError`; damage that leaves a well-formed file, such as a flipped bit, shows only in the checksums of
`rexnet data check`.
"""

import io
import warnings
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from rexnet.data.sources.image_files import printable, read_file
from rexnet.errors import DataError

cv2.setNumThreads(0)  # loader processes are parallel already
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # our errors name the image

MAX_PIXELS = 64 << 20
"""Larger images are refused before decoding: 200 MB of pixels, while a file of 300 kB can claim gigabytes."""
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # ITU-T T.81, table B.1
SCAN_HEADER = 0xDA
ORIENTATION = 0x0112


class _Header(NamedTuple):
    width: int
    height: int
    transparent: bool = False
    orientation: int = 1
    is_tiff: bool = False


def decode_image(path: str) -> np.ndarray:
    """Reads and decodes an image file; see `decode`."""
    return decode(read_file(path), path)


def decode(content: bytes, name: str) -> np.ndarray:
    """Decodes an image, which messages call `name`, to RGB uint8 (height, width, 3)."""
    if not content:
        raise DataError(f"{printable(name)}: is empty")
    header = _jpeg_header(content, name) if content.startswith(JPEG_START) else _header(content, name)
    if header.width * header.height > MAX_PIXELS:
        size = f"{header.width:,} x {header.height:,}"
        raise DataError(f"{printable(name)}: has {size} pixels; {MAX_PIXELS >> 20} million is the most")
    if not header.transparent:
        return _imdecode(content, name, cv2.IMREAD_COLOR_RGB)
    image = _over_white(_imdecode(content, name, cv2.IMREAD_UNCHANGED), header.is_tiff)
    # OpenCV always rotates TIFF images, and others only when it drops the transparency.
    return image if header.is_tiff else _rotate(image, header.orientation)


def crop_to_box(image: np.ndarray, box: np.ndarray, name: str) -> np.ndarray:
    """Crops `image` to `box`: left, top, right, bottom in pixels, which may extend beyond the image."""
    left, top, right, bottom = (max(0, int(edge)) for edge in box)
    part = image[top:bottom, left:right]
    if not part.size:
        height, width = image.shape[:2]
        raise DataError(f"{printable(name)}: its bounding box {box.tolist()} is outside the {width} x {height} image")
    return np.ascontiguousarray(part)


def _jpeg_header(content: bytes, name: str) -> _Header:
    """Reads width and height from the frame header, and requires the end marker after the first scan.

    OpenCV fills the missing part of a truncated JPEG with gray and only prints a warning. The end marker cannot occur
    inside a scan, but it can in an embedded preview before it, and cameras append data after it.
    """
    width = height = 0
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == SCAN_HEADER:
            if content.rfind(JPEG_END, at) < 0:
                break
            return _Header(width, height)
        if marker == 0xFF or 0xD0 <= marker <= 0xD7 or marker == 0x01:  # padding, and markers without a length
            at += 1 if marker == 0xFF else 2
            continue
        if marker in FRAME_HEADERS:
            height, width = int.from_bytes(content[at + 5 : at + 7]), int.from_bytes(content[at + 7 : at + 9])
        at += 2 + int.from_bytes(content[at + 2 : at + 4])
    raise DataError(f"{printable(name)}: is a truncated or damaged JPEG of {len(content):,} bytes")


def _header(content: bytes, name: str) -> _Header:
    """Reads the header of any other format, without decoding."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warning about large images; the limit here is lower
            image = Image.open(io.BytesIO(content))
            transparent = image.has_transparency_data
            orientation = image.getexif().get(ORIENTATION, 1) if transparent else 1
    except Image.DecompressionBombError:
        raise DataError(f"{printable(name)}: has more than {MAX_PIXELS >> 20} million pixels") from None
    except Exception:  # Pillow raises a dozen types for damaged headers
        raise _not_an_image(content, name) from None
    return _Header(*image.size, transparent, orientation, image.format == "TIFF")


def _imdecode(content: bytes, name: str, flags: int) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"{printable(name)}: cannot be decoded: {error.err}") from None
    if image is None:
        raise _not_an_image(content, name)
    return image


def _not_an_image(content: bytes, name: str) -> DataError:
    return DataError(f"{printable(name)}: is not an image that OpenCV can decode ({len(content):,} bytes)")


def _over_white(image: np.ndarray, is_tiff: bool) -> np.ndarray:
    """Composites BGRA (or fewer channels) of 8 or 16 bits over white; returns RGB uint8."""
    premultiplied = is_tiff and image.dtype == np.uint8  # by libtiff
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if image.shape[2] != 4:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    rgba = cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)
    alpha = rgba[..., 3:].astype(np.uint16)
    colors = rgba[..., :3] if premultiplied else (rgba[..., :3] * alpha + 127) // 255
    return (colors + (255 - alpha)).clip(0, 255).astype(np.uint8)


def _rotate(image: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an EXIF orientation of 1 to 8."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
