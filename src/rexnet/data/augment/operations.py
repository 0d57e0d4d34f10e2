"""The pixel operations of RandAugment on uint8 arrays (height, width, 3).

Each takes the value that PIL's function takes (an angle, a factor, a number of bits) and gives PIL's result: colors
within one gray level, geometry up to the interpolation. The fastest way was measured for each: OpenCV's saturating
arithmetic is several times as fast as a lookup table, which only operations on histograms use.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

Image = np.ndarray  # uint8 (height, width, 3)
LEVELS = np.arange(256)
TRUNCATE = -0.498  # PIL drops the fraction, OpenCV rounds; with -0.5, float errors would cost whole levels


def apply_operation(name: str, image: Image, value: float, interpolation: int, fill: Sequence[int]) -> Image:
    """Applies an operation of `OPERATIONS`, or one of `WARPS` with OpenCV's interpolation and a color (R, G, B)."""
    if name not in WARPS:
        return OPERATIONS[name](image, value)
    height, width = image.shape[:2]
    return warp(image, WARPS[name](value, width, height), interpolation, fill)


def warp(image: Image, matrix: np.ndarray, interpolation: int, fill: Sequence[int]) -> Image:
    """Samples `image` at `matrix` (2, 3) times the position of each pixel, in OpenCV's coordinates.

    OpenCV has fast paths for four channels (bilinear, 370 -> 185 us at 224 px) and for floats (bicubic, 1070 -> 710
    us) with the bytes of the slow ones.
    """
    size, flags = (image.shape[1], image.shape[0]), interpolation | cv2.WARP_INVERSE_MAP
    border = cv2.BORDER_CONSTANT
    if interpolation == cv2.INTER_LINEAR:
        padded = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
        warped = cv2.warpAffine(padded, matrix, size, flags=flags, borderMode=border, borderValue=(*fill, 0))
        return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB)
    floats = image.astype(np.float32)
    warped = cv2.warpAffine(floats, matrix, size, flags=flags, borderMode=border, borderValue=tuple(fill))
    # Rounds and clips to 0..255; OpenCV's type hints lack the addition of a number.
    return cv2.add(warped, 0.0, dtype=cv2.CV_8U)  # type: ignore[call-overload,no-any-return]


def auto_contrast(image: Image, _: float) -> Image:
    """Stretches each channel to 0..255."""
    return _map_channels(image, _stretching_table)


def _stretching_table(channel: np.ndarray) -> np.ndarray:
    low, high, *_rest = cv2.minMaxLoc(channel)
    if high <= low:
        return LEVELS
    scale = 255.0 / (high - low)
    return (LEVELS * scale - low * scale).astype(int).clip(0, 255)


def equalize(image: Image, _: float) -> Image:
    """Equalizes the histogram of each channel, with the rounding of PIL's ImageOps.equalize."""
    return _map_channels(image, _equalizing_table)


def _equalizing_table(channel: np.ndarray) -> np.ndarray:
    histogram = cv2.calcHist([channel], [0], None, [256], [0, 256]).ravel().astype(int)
    used = histogram[histogram > 0]
    step = int(used.sum() - used[-1]) // 255
    if len(used) <= 1 or step == 0:
        return LEVELS
    below = np.cumsum(histogram) - histogram
    table: np.ndarray = ((step // 2 + below) // step).clip(0, 255)
    return table


def invert(image: Image, _: float) -> Image:
    """Inverts all values."""
    return cv2.bitwise_not(image)


def posterize(image: Image, bits: float) -> Image:
    """Keeps the highest `bits` of 8."""
    return image & np.uint8(~(2 ** (8 - int(bits)) - 1) & 0xFF)


def solarize(image: Image, threshold: float) -> Image:
    """Inverts values of at least `threshold`."""
    # OpenCV compares by "greater than", on integers.
    _, inverted = cv2.threshold(image, np.ceil(threshold) - 1, 255, cv2.THRESH_BINARY)
    return cv2.bitwise_xor(image, inverted)


def solarize_add(image: Image, added: float) -> Image:
    """Adds `added` to values below 128."""
    _, darker = cv2.threshold(image, 127, int(added), cv2.THRESH_BINARY_INV)
    return cv2.add(image, darker)


def saturate(image: Image, factor: float) -> Image:
    """Moves colors away from their gray (factor above 1) or towards it."""
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, factor, gray, 1.0 - factor, TRUNCATE)


def contrast(image: Image, factor: float) -> Image:
    """Moves values away from the mean gray of the image (factor above 1) or towards it."""
    mean = int(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return cv2.addWeighted(image, factor, image, 0.0, mean * (1.0 - factor) + TRUNCATE)


def brighten(image: Image, factor: float) -> Image:
    """Scales all values."""
    return cv2.addWeighted(image, factor, image, 0.0, TRUNCATE)


def sharpen(image: Image, factor: float) -> Image:
    """Moves values away from a smoothed copy (factor above 1) or towards it, except at the border.

    PIL smooths with ones around a five, over 13: 4/13 of the pixel and 9/13 of the mean of its 3 x 3 neighborhood.
    """
    mean = cv2.blur(image, (3, 3))
    result = cv2.addWeighted(image, factor + (1.0 - factor) * 4 / 13, mean, (1.0 - factor) * 9 / 13, TRUNCATE)
    result[[0, -1]] = image[[0, -1]]
    result[:, [0, -1]] = image[:, [0, -1]]
    return result


COLORS = (auto_contrast, equalize, invert, posterize, solarize, solarize_add, saturate, contrast, brighten, sharpen)
OPERATIONS: dict[str, Callable[[Image, float], Image]] = {function.__name__: function for function in COLORS}


def _rotation(degrees: float, width: int, height: int) -> np.ndarray:
    """Rotates counter-clockwise about the center."""
    return cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1.0)


WARPS: dict[str, Callable[[float, int, int], np.ndarray]] = {
    "rotate": _rotation,
    # Half a pixel: PIL samples at pixel centers.
    "shear_x": lambda shear, width, height: np.array([[1, shear, shear / 2], [0, 1, 0]]),
    "shear_y": lambda shear, width, height: np.array([[1, 0, 0], [shear, 1, shear / 2]]),
    "translate_x_relative": lambda fraction, width, height: np.array([[1, 0, fraction * width], [0, 1, 0]]),
    "translate_y_relative": lambda fraction, width, height: np.array([[1, 0, 0], [0, 1, fraction * height]]),
}
"""Geometric operations: from value, width and height to the matrix (2, 3) from the result's pixels to the image's."""


def _map_channels(image: Image, find_table: Callable[[np.ndarray], np.ndarray]) -> Image:
    """Maps each channel by its own table (256,)."""
    return cv2.merge([cv2.LUT(channel, find_table(channel).astype(np.uint8)) for channel in cv2.split(image)])
