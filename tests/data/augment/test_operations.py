from pathlib import Path

import cv2
import numpy as np
import pytest
import timm.data.auto_augment as timm_augment
from PIL import Image

from rexnet.data.augment.operations import OPERATIONS, WARPS, apply_operation
from rexnet.data.augment.randaugment import INCREASING, PLAIN, Scale

SHARED = Path(__file__).parents[4] / "shared" / "data" / "imagenet-sample"
FILL = (124, 116, 104)
FILTERS = {cv2.INTER_LINEAR: Image.Resampling.BILINEAR, cv2.INTER_CUBIC: Image.Resampling.BICUBIC}
TIMM_NAMES = {
    "auto_contrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
    "rotate": "Rotate",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "solarize_add": "SolarizeAdd",
    "saturate": "Color",
    "contrast": "Contrast",
    "brighten": "Brightness",
    "sharpen": "Sharpness",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x_relative": "TranslateXRel",
    "translate_y_relative": "TranslateYRel",
}


def made_up(seed: int) -> np.ndarray:
    """A picture of soft blobs with some grain, 120 x 160."""
    noise = np.random.default_rng(seed).integers(0, 256, (15, 20, 3)).astype(np.uint8)
    blobs = cv2.resize(noise, (160, 120), interpolation=cv2.INTER_CUBIC).astype(int)
    return (blobs + np.random.default_rng(seed).integers(-6, 7, blobs.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Photographs where the shared ones are present, and made-up pictures everywhere."""
    photographs = [cv2.imread(str(path))[..., ::-1] for path in sorted(SHARED.glob("*.JPEG"))[:6]]
    small = [cv2.resize(image, (224, 168), interpolation=cv2.INTER_AREA) for image in photographs]
    return [made_up(0), made_up(1), *small]


def require_equal(ours: np.ndarray, theirs: np.ndarray, name: str) -> None:
    """Colours within one grey level; geometry up to the interpolation, which differs most at edges."""
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    if name in WARPS:
        assert difference.mean() < 2.5
        assert (difference <= 8).mean() > 0.98
    else:
        assert difference.max() <= (1 if name in ("saturate", "sharpen", "brighten", "contrast") else 0)
        assert difference.mean() < 0.5


@pytest.mark.parametrize("magnitude", [3.0, 4.5, 9.0, 10.0])
@pytest.mark.parametrize("name", TIMM_NAMES)
def test_every_operation_gives_what_timm_gives(
    name: str, magnitude: float, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timm_augment, "_randomly_negate", lambda value: value)
    compare_with_timm(name, TIMM_NAMES[name], PLAIN[name], magnitude, pictures)


@pytest.mark.parametrize("negate", [False, True])
@pytest.mark.parametrize("name", [name for name in PLAIN if PLAIN[name] is not INCREASING[name]])
def test_every_increasing_operation_gives_what_timm_gives(
    name: str, negate: bool, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timm_augment, "_randomly_negate", lambda value: -value if negate else value)
    sign = -1.0 if negate else 1.0
    for magnitude in (0.0, 4.5, 7.0):  # beyond, Pillow refuses the 0 bits that timm asks for
        compare_with_timm(name, f"{TIMM_NAMES[name]}Increasing", INCREASING[name], magnitude, pictures, sign)


def compare_with_timm(
    name: str, timm_name: str, scale: Scale, magnitude: float, pictures: list[np.ndarray], sign: float = 1.0
) -> None:
    for interpolation, resample in FILTERS.items():
        hparams = {"img_mean": FILL, "interpolation": resample}
        theirs = timm_augment.AugmentOp(timm_name, prob=1.0, magnitude=magnitude, hparams=hparams)
        for picture in pictures:
            value = scale(magnitude / 10, sign)
            ours = apply_operation(name, picture, value, interpolation, FILL)
            require_equal(ours, np.asarray(theirs(Image.fromarray(picture))), name)


# Written values: what PIL and timm give for the pixels 0, 50, 100, 200 in each channel.
PIXELS = np.repeat(np.array([[0, 50, 100, 200]], np.uint8)[..., None], 3, axis=2)
EXPECTED = {
    ("invert", 0): [255, 205, 155, 55],
    ("posterize", 3): [0, 32, 96, 192],
    ("posterize", 4): [0, 48, 96, 192],
    ("posterize", 0): [0, 0, 0, 0],
    ("solarize", 128): [0, 50, 100, 55],
    ("solarize", 256): [0, 50, 100, 200],
    ("solarize", 0): [255, 205, 155, 55],
    ("solarize_add", 110): [110, 160, 210, 200],
    ("brighten", 1.72): [0, 86, 172, 255],
    ("contrast", 1.72): [0, 22, 108, 255],
    ("auto_contrast", 0): [0, 63, 127, 254],
    ("saturate", 1.72): [0, 50, 100, 200],
}


@pytest.mark.parametrize(("name", "value"), EXPECTED, ids=lambda value: str(value))
def test_colour_operations_give_written_values(name: str, value: float) -> None:
    result = apply_operation(name, PIXELS, value, cv2.INTER_LINEAR, fill=(0, 0, 0))
    np.testing.assert_array_equal(result[0, :, 0], EXPECTED[name, value])


@pytest.mark.parametrize("name", [*OPERATIONS, *WARPS])
def test_every_operation_keeps_size_and_type_and_leaves_its_input_alone(name: str) -> None:
    for picture in (made_up(2), np.full((1, 1, 3), 9, np.uint8), np.full((2, 30, 3), 200, np.uint8)):
        before = picture.copy()
        for value in (0.0, 0.3, 2.0):
            for interpolation in FILTERS:
                result = apply_operation(name, picture, value, interpolation, FILL)
                assert (result.shape, result.dtype) == (picture.shape, np.uint8)
        np.testing.assert_array_equal(picture, before)


def test_warps_move_by_the_written_distance_and_fill_what_they_uncover() -> None:
    image = np.full((20, 20, 3), 200, np.uint8)
    for interpolation in FILTERS:
        for share, filled in ((0.45, range(11, 20)), (-0.45, range(9))):
            moved = apply_operation("translate_x_relative", image, share, interpolation, fill=(1, 2, 3))
            assert list(np.flatnonzero((moved == (1, 2, 3)).all(axis=(0, 2)))) == list(filled)
            moved = apply_operation("translate_y_relative", image, share, interpolation, fill=(1, 2, 3))
            assert list(np.flatnonzero((moved == (1, 2, 3)).all(axis=(1, 2)))) == list(filled)
