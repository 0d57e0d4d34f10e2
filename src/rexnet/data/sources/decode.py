"""The decoder of all images: training, evaluation, prediction and `rexnet data check` decode in the same way.

The result is RGB uint8 (height, width, 3), as Pillow decodes it: rotated by the EXIF orientation, with transparency
composited over white; an animation gives its first frame. Only 16 bits differ, which are scaled to 8 and not clipped.
Anything that cannot be decoded without guessing is a `DataError`; damage that leaves a well-formed file, such as a
flipped bit, shows only in the checksums of `rexnet data check`.
"""

import io
import os
import warnings
from typing import Any

import cv2
import numpy as np
import PIL.Image

from rexnet.data.sources.image_files import ADVICE, printable, read_file
from rexnet.errors import DataError

cv2.setNumThreads(0)  # loader processes are parallel already
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # our errors name the image

MAX_PIXELS = 64 << 20
"""Larger images are refused before decoding: 200 MB of pixels, while a file of 300 kB can claim gigabytes."""
# Pillow draws other formats with another program, or they hold data instead of colors.
FORMATS = "JPEG PNG WEBP GIF BMP TIFF AVIF JPEG2000 PPM DIB ICO DDS SGI PCX QOI MSP XBM BLP TGA".split()  # noqa: SIM905
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # ITU-T T.81, table B.1
SEQUENTIAL = (0xC0, 0xC1)  # frame headers of the usual coding from top to bottom
SCAN_HEADER, RESTART_INTERVAL, APPLICATION = 0xDA, 0xDD, 0xE1
ORIENTATION = 0x0112
ORIENTATION_MARKS = (b"\x01\x12", b"\x12\x01", b"Orientation")  # in EXIF of either byte order, and in XMP
PNG_METADATA = (b"eXIf", b"exif", b"adobe.xmp")
CONTEXT = 8  # rows; the two below a part can change its pixels, by the interpolation of colors


class Jpeg:
    """A JPEG that is decoded when its pixels are read: `jpeg[top:bottom, left:right]` or `np.asarray(jpeg)`.

    Of a part, only the rows above its bottom are decoded: the entropy code has to be read from the top, and takes three
    quarters of the time. Random crops of ImageNet are decoded in 12 % less time, with the same pixels.
    """

    def __init__(self, content: bytes, name: str) -> None:
        """Reads the headers before the first scan, and requires the end marker after it.

        OpenCV fills the missing part of a truncated JPEG with gray and only prints a warning. The end marker cannot
        occur inside a scan, but it can in an embedded preview before it, and cameras append data after it.
        """
        self.content, self.name, self.orientation = content, name, 1
        frame, restarts, at = 0, False, 2
        while at + 9 <= len(content) and content[at] == 0xFF and (marker := content[at + 1]) != SCAN_HEADER:
            if marker == 0xFF or 0xD0 <= marker <= 0xD7 or marker == 0x01:  # padding, and markers without a length
                at += 1 if marker == 0xFF else 2
                continue
            end = at + 2 + int.from_bytes(content[at + 2 : at + 4])
            restarts |= marker == RESTART_INTERVAL
            if marker in FRAME_HEADERS:
                frame = at
            elif marker == APPLICATION and any(mark in content[at:end] for mark in ORIENTATION_MARKS):
                with warnings.catch_warnings(action="ignore"):
                    self.orientation = _orientation(PIL.Image.open(io.BytesIO(content), formats=FORMATS))
            at = end
        if not frame or content.rfind(JPEG_END, at) < 0:
            raise DataError(f"{printable(name)}: is a truncated or damaged JPEG of {len(content):,} bytes")
        self.height, self.width = (int.from_bytes(content[frame + side : frame + side + 2]) for side in (5, 7))
        _require_size(self.width, self.height, name)
        self.components, self.frame, self.scan = content[frame + 9], frame, at
        self.shape = (self.width, self.height, 3) if self.orientation > 4 else (self.height, self.width, 3)
        one_scan = content[frame + 1] in SEQUENTIAL and content[at + 4] == self.components and not restarts
        self.stoppable = one_scan and self.orientation == 1

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
        image = self._decode_above(part[0].stop + CONTEXT)
        return (np.asarray(self) if image is None else image)[part]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        image = _imdecode(self.content)
        if image is None or image.shape[:2] != (self.height, self.width):
            raise _not_an_image(self.content, self.name)
        return _rotate(image, self.orientation)

    def _decode_above(self, stop: int) -> np.ndarray | None:
        """Decodes the file with another height in its header, and without the end marker that libjpeg would look for.

        Returns None if the rows above `stop` do not come first in the file, or another image follows in it, whose
        markers libjpeg would take for damage.
        """
        if not self.stoppable or stop >= self.height:
            return None
        scan = np.frombuffer(self.content, np.uint8, offset=self.scan)
        ends = np.flatnonzero((scan[:-1] == JPEG_END[0]) & (scan[1:] == JPEG_END[1]))
        content = bytearray(self.content)
        content[self.frame + 5 : self.frame + 7] = stop.to_bytes(2)
        content[self.scan + int(ends[0]) :] = bytes(64)
        return _imdecode(content) if len(ends) == 1 else None


def decode_image(path: str) -> np.ndarray:
    """Reads and decodes an image file; see `decode`."""
    return decode(read_file(path), path)


def decode(content: bytes, name: str) -> np.ndarray:
    """Decodes an image, which messages call `name`, to RGB uint8 (height, width, 3)."""
    return np.asarray(open_image(content, name))


def open_image(content: bytes, name: str) -> np.ndarray | Jpeg:
    """Returns a `Jpeg`, of which a part can be decoded, or the decoded image; see `decode`."""
    if not content:
        raise DataError(f"{printable(name)}: is empty")
    if content.startswith(JPEG_START) and (jpeg := Jpeg(content, name)).components in (1, 3):
        return jpeg
    try:
        with warnings.catch_warnings(action="ignore"):  # about sizes below our limit, and metadata
            image = PIL.Image.open(io.BytesIO(content), formats=FORMATS)
            _require_size(*image.size, name)
            pixels = _imdecode(content) if _is_plain_png(image, content) else None
            return rgb_pixels(image, name) if pixels is None else pixels
    except PIL.Image.DecompressionBombError:
        raise DataError(f"{printable(name)}: has more than {MAX_PIXELS >> 20} million pixels") from None
    except Exception as error:  # Pillow raises a dozen types for damaged files
        raise error if isinstance(error, DataError) else _not_an_image(content, name) from None


def read_size(path: str) -> tuple[int, int]:
    """Returns height and width of an image file, upright, from its header."""
    try:
        with warnings.catch_warnings(action="ignore"), PIL.Image.open(os.fsencode(path), formats=FORMATS) as image:
            width, height = image.size
            return (width, height) if _orientation(image) > 4 else (height, width)
    except Exception as error:  # Pillow raises a dozen types for damaged files
        raise DataError(f"{printable(path)}: is not an image that can be decoded: {error}") from None


def _is_plain_png(image: PIL.Image.Image, content: bytes) -> bool:
    """True for opaque PNGs of 8 bits, gray or RGB, without orientation: OpenCV decodes them in 0.7 of the time."""
    plain = image.format == "PNG" and content[24] == 8 and image.mode in ("L", "RGB")
    return plain and not image.has_transparency_data and not any(mark in content for mark in PNG_METADATA)


def rgb_pixels(image: PIL.Image.Image, name: str) -> np.ndarray:
    """Returns the pixels of a Pillow image upright, over white: RGB uint8 (height, width, 3).

    Raises:
        DataError: its values have no range, such as floating-point numbers.
    """
    image.load()
    orientation, form = _orientation(image), image.format
    if image.mode.startswith("I;16") or (image.mode == "I" and form == "PPM"):
        bits = image.tag_v2[258][0] if form == "TIFF" else 16  # type: ignore[attr-defined]
        values = np.asarray(image)
        gray = (values >> (bits - 8)).astype(np.uint8)
        gray[values == image.info.get("transparency", -1)] = 255
        return _rotate(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), orientation)
    if image.mode in ("I", "F"):
        raise DataError(f"{printable(name)}: has pixels of Pillow's mode {image.mode}; convert it to 8 or 16 bits RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = PIL.Image.new("RGB", image.size, "white")
        white.paste(image, (0, 0), image)
        image = white
    return _rotate(np.asarray(image.convert("RGB")), orientation)


def crop_to_box(image: np.ndarray, box: np.ndarray, name: str) -> np.ndarray:
    """Crops `image` to `box`: left, top, right, bottom in pixels, which may extend beyond the image."""
    left, top, right, bottom = (max(0, int(edge)) for edge in box)
    part = image[top:bottom, left:right]
    if not part.size:
        height, width = image.shape[:2]
        raise DataError(f"{printable(name)}: its bounding box {box.tolist()} is outside the {width} x {height} image")
    return np.ascontiguousarray(part)


def _require_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        fault = f"has {width:,} x {height:,} pixels; {MAX_PIXELS >> 20} million is the most"
        raise DataError(f"{printable(name)}: {fault}")


def _imdecode(content: bytes | bytearray) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None


def _not_an_image(content: bytes, name: str) -> DataError:
    advice = f"; {ADVICE['.heic']}" if content[4:11] == b"ftyphei" else ""  # whatever its suffix says
    return DataError(f"{printable(name)}: is not an image that can be decoded ({len(content):,} bytes){advice}")


def _orientation(image: PIL.Image.Image) -> int:
    """Returns the orientation by EXIF, XMP or AVIF, 1 to 8; 1 if they are damaged."""
    try:
        orientation: int = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _rotate(image: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an EXIF orientation of 1 to 8."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
