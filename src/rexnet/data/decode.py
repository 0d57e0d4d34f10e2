"""The one decoder: training, evaluation and prediction read an image file in the same way."""

import os
import stat

import cv2
import numpy as np

from rexnet.errors import DataError

cv2.setNumThreads(0)  # loader processes are the parallelism; OpenCV's own threads would fight over the cores

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
JPEG_TAIL = 4096  # some cameras append data after the end marker


def decode_image(path: str) -> np.ndarray:
    """The pixels of an image file as RGB uint8 (height, width, 3), turned upright by its EXIF orientation.

    Raises:
        DataError: the file is missing, not a regular file, truncated, or not an image.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would wait for ever
            raise DataError(f"{path}: is not a regular file")
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not content:
        raise DataError(f"{path}: is empty")
    # OpenCV fills what a truncated JPEG lacks with grey and says so on stderr only.
    if content.startswith(JPEG_START) and JPEG_END not in content[-JPEG_TAIL:]:
        raise DataError(f"{path}: is a truncated JPEG of {len(content):,} bytes")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise DataError(f"{path}: cannot be decoded: {error.err}") from None
    if image is None:
        raise DataError(f"{path}: is not an image that OpenCV can decode ({len(content):,} bytes)")
    return image
