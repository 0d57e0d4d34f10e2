import copy
import functools
import multiprocessing
import random
from pathlib import Path
from typing import Any

import albumentations as A  # noqa: N812
import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import RandomResizedCrop as TorchvisionCrop

from rexnet.config import Config, load_config
from rexnet.data.augment.batch import erase
from rexnet.data.augment.randaugment import RandAugment
from rexnet.data.augment.transforms import (
    ColorJitter,
    RandomResizedCrop,
    Transform,
    build_eval_transform,
    build_train_transform,
    draw_crop,
)
from rexnet.data.dataset import Batch, ImageDataset, Sample, stack
from rexnet.data.datasets.class_folders import index_folders
from rexnet.data.datasets.index import Index
from rexnet.data.keys import mix
from rexnet.data.sampling import SampleKey, TrainBatchSampler
from rexnet.preprocessing import Preprocessing


def recipe(*overrides: str) -> Config:
    return load_config("imagenet", overrides)


def preprocessing(image_size: int, crop_pct: float, interpolation: Any = "bicubic") -> Preprocessing:
    return Preprocessing(image_size, crop_pct, interpolation, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), ())


def train_transform(*overrides: str) -> Transform:
    config = recipe("data.image_size=32", *overrides)
    return build_train_transform(config.data, config.augmentation, config.training_sizes)


def step(transform: Transform, kind: type) -> Any:
    return next(step for step in transform.steps if isinstance(step, kind))


@pytest.fixture
def photo() -> np.ndarray:
    gradient = np.linspace(0, 255, 64 * 80 * 3).reshape(64, 80, 3)
    return (gradient * 0.7 + np.random.default_rng(0).integers(0, 70, gradient.shape)).astype(np.uint8)


def test_crop_scale_ratio_and_size_reach_the_crop() -> None:
    transform = train_transform(
        "augmentation.crop_scale=[0.3,0.6]", "augmentation.crop_ratio=[0.9,1.1]", "augmentation.interpolation=bicubic"
    )
    crop = step(transform, RandomResizedCrop)
    assert (crop.size, crop.scale, crop.ratio) == (32, (0.3, 0.6), (0.9, 1.1))
    assert set(transform.sizes) == {32}
    assert crop.filters == (cv2.INTER_CUBIC,)


def test_random_interpolation_is_a_choice_of_two_filters() -> None:
    assert step(train_transform(), RandomResizedCrop).filters == (cv2.INTER_LINEAR, cv2.INTER_CUBIC)


@pytest.mark.parametrize(("height", "width"), [(375, 500), (90, 400), (400, 90), (3, 3)])
def test_crops_are_drawn_as_torchvision_draws_them(height: int, width: int) -> None:
    scale, ratio, draw = (0.08, 1.0), (3 / 4, 4 / 3), random.Random(0)
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = np.array([TorchvisionCrop.get_params(image, list(scale), list(ratio)) for _ in range(2000)], float)
    ours = np.array([draw_crop(height, width, scale, ratio, draw) for _ in range(2000)], float)
    for column in range(4):  # top, left, height, width
        assert largest_gap(ours[:, column], theirs[:, column]) < 0.06
    for combined in (lambda box: box[:, 2] * box[:, 3], lambda box: box[:, 3] / box[:, 2]):
        assert largest_gap(combined(ours), combined(theirs)) < 0.06
    assert (ours[:, 0] + ours[:, 2]).max() <= height
    assert (ours[:, 1] + ours[:, 3]).max() <= width
    assert ours[:, 2:].min() >= 1


def largest_gap(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest distance of the two cumulative distributions (Kolmogorov and Smirnov); 0.061 has p = 0.001 here."""
    places = np.concatenate([ours, theirs])
    return float(
        np.abs(
            np.searchsorted(np.sort(ours), places, "right") - np.searchsorted(np.sort(theirs), places, "right")
        ).max()
        / len(ours)
    )


def test_where_no_crop_fits_the_middle_is_taken_as_torchvision_does() -> None:
    for height, width in ((10, 100), (100, 10)):
        expected = TorchvisionCrop.get_params(torch.empty(3, height, width), [1.0, 1.0], [0.75, 4 / 3])
        assert draw_crop(height, width, (1.0, 1.0), (0.75, 4 / 3), random.Random(0)) == tuple(expected)


def test_flip_and_colour_jitter_reach_their_transforms_and_zero_removes_them() -> None:
    transform = train_transform("augmentation.flip=0.25", "augmentation.color_jitter=0.4")
    assert step(transform, A.HorizontalFlip).p == 0.25
    assert step(transform, ColorJitter).spread == 0.4
    bare = train_transform("augmentation.flip=0", "augmentation.randaugment=null")
    assert [type(step) for step in bare.steps] == [RandomResizedCrop]


def test_colour_jitter_draws_three_factors_in_each_order() -> None:
    jitter, draw = ColorJitter(0.4), random.Random(0)
    jitter.py_random = draw
    drawn = [jitter.get_params_dependent_on_data({}, {})["factors"] for _ in range(1200)]
    orders = [tuple(name for name, _ in factors) for factors in drawn]
    assert len(set(orders)) == 6
    assert min(orders.count(order) for order in set(orders)) > 150
    factors = np.array([sorted(each) for each in drawn])[..., 1].astype(float)
    assert factors.min() >= 0.6
    assert factors.max() <= 1.4
    np.testing.assert_allclose(factors.mean(0), 1.0, atol=0.03)
    assert np.abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.1


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
    assert not policy.increasing
    assert step(train_transform("augmentation.randaugment.increasing=true"), RandAugment).increasing


def test_the_transforms_also_work_in_a_pipeline_of_albumentations(photo: np.ndarray) -> None:
    pipeline = A.Compose(list(train_transform("augmentation.color_jitter=0.3").steps), seed=0)
    assert pipeline(image=photo)["image"].shape == (32, 32, 3)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(333, 500), (500, 375), (224, 224), (97, 211), (601, 600)])
def test_evaluation_sees_the_very_bytes_that_timms_evaluation_sees(interpolation: str, shape: tuple[int, int]) -> None:
    from timm.data import create_transform

    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    theirs = create_transform((3, 224, 224), interpolation=interpolation, crop_pct=0.875, normalize=False)
    ours = build_eval_transform(preprocessing(224, 0.875, interpolation))
    expected = theirs(PIL.Image.fromarray(picture)).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(ours(picture, key=1), expected)


@pytest.mark.parametrize("shape", [(20, 700), (700, 20), (1, 400), (300, 8000), (64, 1025)])
def test_of_a_long_and_thin_image_the_crop_alone_is_resized_to_the_same_pixels(shape: tuple[int, int]) -> None:
    from timm.data import create_transform

    blobs = np.random.default_rng(0).integers(60, 190, (max(1, shape[0] // 8), max(1, shape[1] // 8), 3), np.uint8)
    picture = cv2.resize(blobs, shape[::-1], interpolation=cv2.INTER_LINEAR)
    theirs = create_transform((3, 224, 224), interpolation="bicubic", crop_pct=0.875, normalize=False)
    expected = theirs(PIL.Image.fromarray(picture)).permute(1, 2, 0).numpy().astype(int)
    difference = np.abs(build_eval_transform(preprocessing(224, 0.875))(picture, key=1) - expected)
    assert difference.max() <= 2  # Pillow may round between its two passes in another order


def test_an_image_of_the_right_size_is_only_cropped(photo: np.ndarray) -> None:
    whole = build_eval_transform(preprocessing(64, 1.0))
    np.testing.assert_array_equal(whole(photo, key=1), photo[:, 8:72])


def test_equal_keys_give_equal_images_and_others_do_not(photo: np.ndarray) -> None:
    transform = train_transform()
    assert np.array_equal(transform(photo, key=5), transform(photo, key=5))
    different = {transform(photo, key=key).tobytes() for key in range(64)}
    assert len(different) == 64


def test_decisions_of_one_image_are_independent_of_each_other() -> None:
    """With one seed for all, albumentations' gates open together: correlation 1."""
    transform = train_transform("augmentation.color_jitter=0.4", "augmentation.crop_scale=[1,1]")
    decisions: dict[str, list[float]] = {name: [] for name in ("flip", "filter", "brighten", "operations", "erase")}
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (64, 1, 3))
    for position in range(4000):
        key = mix(0, 0, position)
        seen = recorded(transform, ramp, key)
        decisions["flip"].append("HorizontalFlip" in seen)
        decisions["filter"].append(seen["RandomResizedCrop"]["interpolation"] == cv2.INTER_CUBIC)
        decisions["brighten"].append(dict(seen["ColorJitter"]["factors"])["brighten"])
        decisions["operations"].append(len(seen["RandAugment"]["plan"]))
        noise = torch.full((1, 3, 8, 8), 9.0)
        erase(noise, 0.5, "const", random.Random(stack([Sample(ramp, 0, key)]).seed))
        decisions["erase"].append(bool((noise == 0).any()))
    correlations = np.corrcoef(np.array(list(decisions.values()), float)) - np.eye(len(decisions))
    assert np.abs(correlations).max() < 0.06
    assert np.mean(decisions["flip"]) == pytest.approx(0.5, abs=0.03)
    assert np.mean(decisions["filter"]) == pytest.approx(0.5, abs=0.03)
    assert np.mean(decisions["erase"]) == pytest.approx(0.5, abs=0.04)


def note(seen: dict[str, Any], name: str, img: np.ndarray, **params: Any) -> np.ndarray:
    seen[name] = params
    return img


def recorded(transform: Transform, image: np.ndarray, key: int) -> dict[str, Any]:
    """What each step of a transform was told to do, by its name; steps that were left out are missing."""
    seen: dict[str, Any] = {}
    copies = []
    for step in transform.steps:
        twin = copy.copy(step)
        twin.apply = functools.partial(note, seen, type(step).__name__)
        copies.append(twin)
    Transform(copies, [224])(image, key)
    return seen


def loaded(
    index: Index,
    transform: Transform,
    workers: int,
    epoch: int = 0,
    start: str | None = None,
    rank: int = 0,
    world: int = 1,
) -> list[Batch]:
    sampler = TrainBatchSampler(len(index), batch_size=6, seed=0, rank=rank, world_size=world)
    sampler.set_epoch(epoch)
    dataset = ImageDataset(index, transform, seed=0)
    return list(
        DataLoader(dataset, batch_sampler=sampler, collate_fn=stack, num_workers=workers, multiprocessing_context=start)
    )


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")
@pytest.mark.parametrize(("workers", "start"), [(2, "fork"), (4, "fork"), (1, "forkserver")])
def test_loader_processes_change_nothing(workers: int, start: str, image_root: Path) -> None:
    multiprocessing.set_forkserver_preload(["rexnet.data.cache.cached_datasets"])  # imports once, for all such tests
    index, transform = index_folders(image_root, "train"), train_transform("augmentation.color_jitter=0.4")
    for mine, theirs in zip(loaded(index, transform, 0), loaded(index, transform, workers, start=start), strict=True):
        assert np.array_equal(mine.images, theirs.images)
        assert np.array_equal(mine.labels, theirs.labels)
        assert mine.seed == theirs.seed


def test_two_processes_make_the_very_images_of_one(image_root: Path) -> None:
    index, transform = index_folders(image_root, "train"), train_transform()
    alone = loaded(index, transform, 0)
    shares = [loaded(index, transform, 0, rank=rank, world=2) for rank in (0, 1)]
    for whole, first, second in zip(alone, *shares, strict=True):
        assert np.array_equal(whole.images[0::2], first.images)
        assert np.array_equal(whole.images[1::2], second.images)
        assert len({whole.seed, first.seed, second.seed}) == 3


def test_every_epoch_has_new_images_and_new_seeds_for_the_device(image_root: Path) -> None:
    index, transform = index_folders(image_root, "train"), train_transform()
    batches = [batch for epoch in range(3) for batch in loaded(index, transform, 2, epoch)]
    assert len({image.numpy().tobytes() for batch in batches for image in batch.images}) == 3 * len(index)
    assert len({batch.seed for batch in batches}) == len(batches)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")
@pytest.mark.parametrize("workers", [0, 4])
def test_64_copies_of_one_image_give_64_different_results(workers: int, image_root: Path) -> None:
    index = index_folders(image_root, "train")
    copies = index.select([0] * 66)
    batches = loaded(copies, train_transform("data.image_size=64"), workers)
    images = [image.numpy().tobytes() for batch in batches for image in batch.images][:64]
    assert len(set(images)) == 64


def test_an_image_of_another_size_is_the_same_crop_with_the_same_augmentation(image_root: Path) -> None:
    growing = train_transform("augmentation.image_size={start: 32, end: 96, epochs: 4}")
    index, image = index_folders(image_root, "train"), np.zeros((80, 90, 3), np.uint8)
    assert (
        recorded(growing, image, key=5)["RandomResizedCrop"]["box"]
        == recorded(train_transform(), image, key=5)["RandomResizedCrop"]["box"]
    )
    for epoch, size in enumerate((32, 32, 64, 64, 96, 96)):
        key, constant = SampleKey(epoch, 7, 1), train_transform(f"augmentation.image_size={size}")
        one, other = (ImageDataset(index, transform, seed=3)[key] for transform in (growing, constant))
        assert one.image.shape == (size, size, 3)
        assert np.array_equal(one.image, other.image)
        assert one.key == other.key
    assert ImageDataset(index, growing).sample_bytes == 3 * 96 * 96


def test_views_of_an_image_in_one_epoch_are_augmented_differently(image_root: Path) -> None:
    dataset = ImageDataset(index_folders(image_root, "train"), train_transform(), seed=0)
    views = [dataset[SampleKey(3, 7, view)] for view in range(20)]
    assert len({view.image.tobytes() for view in views}) == 20
    assert len({view.key for view in views}) == 20
    assert dataset[SampleKey(3, 7)].key == mix(0, 3, 7)
