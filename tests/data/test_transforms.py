import random
from pathlib import Path
from typing import Any

import albumentations as A  # noqa: N812
import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader

from rexnet.config import Config, load_config
from rexnet.data.dataset import Batch, ImageDataset, stack
from rexnet.data.datasets.folder import index_folders
from rexnet.data.index import Index
from rexnet.data.randaugment import ALL_OPERATIONS, RandAugment, apply_operation
from rexnet.data.sampling import TrainBatchSampler
from rexnet.data.transforms import Transform, build_eval_transform, build_train_transform


def recipe(*overrides: str) -> Config:
    return load_config("imagenet", overrides)


def train_transform(*overrides: str) -> Transform:
    config = recipe("data.image_size=32", *overrides)
    return build_train_transform(config.data, config.augmentation)


def step(transform: Transform, kind: type) -> Any:
    return next(step for step in transform.pipeline.transforms if isinstance(step, kind))


@pytest.fixture
def photo() -> np.ndarray:
    gradient = np.linspace(0, 255, 64 * 80 * 3).reshape(64, 80, 3)
    return (gradient * 0.7 + np.random.default_rng(0).integers(0, 70, gradient.shape)).astype(np.uint8)


def test_crop_scale_ratio_and_size_reach_the_crop() -> None:
    transform = train_transform(
        "augmentation.crop_scale=[0.3,0.6]", "augmentation.crop_ratio=[0.9,1.1]", "augmentation.interpolation=bicubic"
    )
    crop = step(transform, A.RandomResizedCrop)
    assert (crop.size, crop.scale, crop.ratio) == ((32, 32), (0.3, 0.6), (0.9, 1.1))
    assert crop.interpolation == cv2.INTER_CUBIC


def test_random_interpolation_is_a_choice_of_two_crops() -> None:
    choice = step(train_transform(), A.OneOf)
    assert [crop.interpolation for crop in choice.transforms] == [cv2.INTER_LINEAR, cv2.INTER_CUBIC]


def test_flip_and_colour_jitter_reach_their_transforms_and_zero_removes_them() -> None:
    transform = train_transform("augmentation.flip=0.25", "augmentation.color_jitter=0.4")
    assert step(transform, A.HorizontalFlip).p == 0.25
    jitter = step(transform, A.ColorJitter)
    assert (jitter.brightness, jitter.contrast, jitter.saturation) == ((0.6, 1.4),) * 3
    bare = train_transform("augmentation.flip=0", "augmentation.randaugment=null")
    assert [type(step) for step in bare.pipeline.transforms] == [A.OneOf]


def test_randaugment_gets_magnitude_spread_number_and_fill() -> None:
    policy = step(
        train_transform(
            "augmentation.randaugment.magnitude=7",
            "augmentation.randaugment.magnitude_std=1.5",
            "augmentation.randaugment.num_ops=3",
        ),
        RandAugment,
    )
    assert (policy.magnitude, policy.magnitude_std, policy.num_ops) == (7, 1.5, 3)
    assert policy.fill == (124, 116, 104)


def test_evaluation_resizes_the_short_side_then_crops_the_centre(photo: np.ndarray) -> None:
    config = recipe("eval_transform.interpolation=bilinear")
    resize, crop = build_eval_transform(224, config.eval_transform).pipeline.transforms
    assert resize.max_size == [256] or resize.max_size == 256
    assert resize.interpolation == cv2.INTER_LINEAR
    assert (crop.height, crop.width) == (224, 224)
    whole = build_eval_transform(64, config.eval_transform.model_copy(update={"crop_pct": 1.0}))
    np.testing.assert_array_equal(whole(photo, key=1), photo[:, 8:72])


def test_equal_keys_give_equal_images_and_others_do_not(photo: np.ndarray) -> None:
    transform = train_transform()
    assert np.array_equal(transform(photo, key=5), transform(photo, key=5))
    different = {transform(photo, key=key).tobytes() for key in range(64)}
    assert len(different) == 64


def test_decisions_of_one_key_are_independent_of_each_other(photo: np.ndarray) -> None:
    """With one seed for all, albumentations' gates open together: correlation 1."""
    transform = train_transform(
        "augmentation.randaugment=null", "augmentation.crop_scale=[1,1]", "augmentation.crop_ratio=[1,1]"
    )
    square = photo[:64, :64]
    crops = step(transform, A.OneOf).transforms
    plain = {(flip, number): crops[number](image=square)["image"] for flip in (False, True) for number in (0, 1)}
    flips, filters = [], []
    for key in range(400):
        result = transform(square, key)
        candidates = {
            (flip, number): np.abs((image[:, ::-1] if flip else image).astype(int) - result).sum()
            for (flip, number), image in plain.items()
        }
        flip, number = min(candidates, key=lambda name: candidates[name])
        flips.append(flip)
        filters.append(number)
    assert abs(np.corrcoef(flips, filters)[0, 1]) < 0.15
    assert 0.4 < np.mean(flips) < 0.6
    assert 0.4 < np.mean(filters) < 0.6


def loaded(index: Index, transform: Transform, workers: int, epoch: int) -> list[Batch]:
    sampler = TrainBatchSampler(len(index), batch_size=6, seed=0)
    sampler.set_epoch(epoch)
    dataset = ImageDataset(index, transform, seed=0)
    return list(DataLoader(dataset, batch_sampler=sampler, collate_fn=stack, num_workers=workers))


def test_workers_change_nothing_and_epochs_everything(image_root: Path) -> None:
    index, transform = index_folders(image_root, "train"), train_transform()
    alone = loaded(index, transform, workers=0, epoch=0)
    for workers in (1, 2):
        for mine, theirs in zip(alone, loaded(index, transform, workers, epoch=0), strict=True):
            assert np.array_equal(mine.images, theirs.images)
            assert np.array_equal(mine.labels, theirs.labels)
            assert mine.seed == theirs.seed
    later = loaded(index, transform, workers=2, epoch=1)
    images = {image.numpy().tobytes() for batch in (*alone, *later) for image in batch.images}
    assert len(images) == 2 * len(index)
    assert len({batch.seed for batch in (*alone, *later)}) == 8


def test_copies_of_one_image_are_all_augmented_differently(image_root: Path) -> None:
    index = index_folders(image_root, "train")
    copies = index.select([0] * 64)
    batches = loaded(copies, train_transform(), workers=2, epoch=0)
    assert len({image.numpy().tobytes() for batch in batches for image in batch.images}) == 60  # 10 whole batches of 6


@pytest.mark.parametrize("name", ALL_OPERATIONS)
@pytest.mark.parametrize("level", [0.0, 4.5, 9.0, 10.0])
def test_every_operation_keeps_size_and_type(name: str, level: float, photo: np.ndarray) -> None:
    before = photo.copy()
    result = apply_operation(name, photo, level, random.Random(0), fill=(124, 116, 104))
    assert (result.shape, result.dtype) == (photo.shape, np.uint8)
    np.testing.assert_array_equal(photo, before)


def test_fifteen_operations_are_drawn_equally_often_and_applied_half_the_time() -> None:
    policy = RandAugment(9, 0.5, 2, (0, 0, 0))
    policy.set_random_state(np.random.default_rng(0), random.Random(0))
    plans = [policy.get_params()["plan"] for _ in range(6000)]
    names = [name for plan in plans for name, _ in plan]
    levels = [level for plan in plans for _, level in plan]
    assert len(names) == pytest.approx(6000, rel=0.03)
    counts = {name: names.count(name) for name in ALL_OPERATIONS}
    assert len(counts) == 15
    assert min(counts.values()) > 320
    assert max(counts.values()) < 480
    assert np.mean(levels) == pytest.approx(9.0, abs=0.03)
    assert np.std(levels) == pytest.approx(0.5, abs=0.03)


# Written values: what PIL and timm give for the pixels 0, 50, 100, 200 in each channel.
PIXELS = np.repeat(np.array([[0, 50, 100, 200]], np.uint8)[..., None], 3, axis=2)
EXPECTED = {
    ("invert", 9.0): [255, 205, 155, 55],
    ("posterize", 9.0): [0, 32, 96, 192],
    ("posterize", 10.0): [0, 48, 96, 192],
    ("solarize", 5.0): [0, 50, 100, 55],
    ("solarize_add", 10.0): [110, 160, 210, 200],
    ("brighten", 9.0): [0, 86, 172, 255],
    ("contrast", 9.0): [0, 22, 108, 255],
    ("auto_contrast", 9.0): [0, 63, 127, 254],
    ("saturate", 9.0): [0, 50, 100, 200],
}


@pytest.mark.parametrize(("name", "level"), EXPECTED, ids=lambda value: str(value))
def test_colour_operations_give_written_values(name: str, level: float) -> None:
    result = apply_operation(name, PIXELS, level, random.Random(0), fill=(0, 0, 0))
    np.testing.assert_array_equal(result[0, :, 0], EXPECTED[name, level])


def test_warps_move_by_the_written_distance_and_fill_what_they_uncover() -> None:
    image = np.full((20, 20, 3), 200, np.uint8)
    filled_columns = set()
    for seed in range(8):
        moved = apply_operation("translate_x", image, 10.0, random.Random(seed), fill=(1, 2, 3))
        filled_columns.add(tuple(np.flatnonzero((moved == (1, 2, 3)).all(axis=(0, 2)))))
    assert filled_columns == {tuple(range(9)), tuple(range(11, 20))}  # 0.45 of 20 pixels, to either side
