import random

import cv2
import numpy as np
import pytest
from PIL import Image
from timm.data.auto_augment import rand_augment_transform

from rexnet.data.augment.randaugment import INCREASING, PLAIN, RandAugment

DRAWS = 8000
TIMM_NAMES = {
    "AutoContrast": "auto_contrast",
    "Equalize": "equalize",
    "Invert": "invert",
    "Rotate": "rotate",
    "Posterize": "posterize",
    "Solarize": "solarize",
    "SolarizeAdd": "solarize_add",
    "Color": "saturate",
    "Contrast": "contrast",
    "Brightness": "brighten",
    "Sharpness": "sharpen",
    "ShearX": "shear_x",
    "ShearY": "shear_y",
    "TranslateXRel": "translate_x_relative",
    "TranslateYRel": "translate_y_relative",
}


def draw_of_timm(recipe: str) -> tuple[list[int], dict[str, list[float]]]:
    """Operations applied to each of many images, and all values of each operation, as timm draws them."""
    policy = rand_augment_transform(recipe, {"img_mean": (0, 0, 0)})
    values: dict[str, list[float]] = {}
    for operation in policy.ops:
        kept = values.setdefault(TIMM_NAMES[operation.name.removesuffix("Increasing")], [])

        def record(image: Image.Image, *value: float, kept: list[float] = kept, **_: object) -> Image.Image:
            kept.append(value[0] if value else 0.0)
            return image

        operation.aug_fn = record
    random.seed(0)
    np.random.seed(0)
    counts = []
    for _ in range(DRAWS):
        before = sum(map(len, values.values()))
        policy(Image.new("RGB", (1, 1)))
        counts.append(sum(map(len, values.values())) - before)
    return counts, values


@pytest.mark.parametrize("increasing", [False, True])
def test_operations_and_values_are_drawn_as_often_as_in_timm(increasing: bool) -> None:
    counts, theirs = draw_of_timm(f"rand-m9-mstd0.5-inc{increasing:d}")
    policy, draw = RandAugment(9, 0.5, 2, (0, 0, 0), increasing=increasing), random.Random(1)
    plans = [policy.draw_plan(draw) for _ in range(DRAWS)]
    sizes = np.bincount([len(plan) for plan in plans]) / DRAWS
    np.testing.assert_allclose(sizes, np.bincount(counts) / DRAWS, atol=0.02)
    np.testing.assert_allclose(sizes, [0.25, 0.5, 0.25], atol=0.02)
    assert theirs.keys() == PLAIN.keys() == INCREASING.keys()
    for name, expected in theirs.items():
        values = [value for plan in plans for operation, value, _ in plan if operation == name]
        assert len(values) == pytest.approx(DRAWS / 15, rel=0.2)
        assert len(expected) == pytest.approx(DRAWS / 15, rel=0.2)
        spread = float(np.std(expected))
        assert np.mean(values) == pytest.approx(np.mean(expected), abs=0.2 * spread + 1e-9)
        if len(set(expected)) > 3:  # few bits of posterize; its quantiles are below
            assert np.std(values) == pytest.approx(spread, rel=0.15)
        quantiles = [np.quantile(sample, [0.1, 0.9]) for sample in (values, expected)]
        np.testing.assert_allclose(*quantiles, atol=0.25 * spread + 1e-9)


def test_half_of_the_values_are_negative_and_half_of_the_filters_bicubic() -> None:
    policy, draw = RandAugment(9, 0.5, 2, (0, 0, 0)), random.Random(0)
    steps = [step for _ in range(DRAWS) for step in policy.draw_plan(draw)]
    rotations = [value for name, value, _ in steps if name == "rotate"]
    assert np.mean(np.array(rotations) > 0) == pytest.approx(0.5, abs=0.08)
    assert np.mean([interpolation == cv2.INTER_CUBIC for *_, interpolation in steps]) == pytest.approx(0.5, abs=0.03)


def test_a_spread_of_zero_gives_the_magnitude_itself_and_num_ops_its_number() -> None:
    policy, draw = RandAugment(5, 0.0, 6, (0, 0, 0)), random.Random(0)
    plans = [policy.draw_plan(draw) for _ in range(400)]
    assert {abs(value) for plan in plans for name, value, _ in plan if name == "rotate"} == {15.0}
    assert np.mean([len(plan) for plan in plans]) == pytest.approx(3.0, abs=0.2)
