import random

import numpy as np
import pytest
import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch.utils._python_dispatch import TorchDispatchMode

from rexnet.config import load_config
from rexnet.config.data_schema import AugmentationConfig
from rexnet.data.augment.batch import augment_batch, cutmix, erase, mixup, normalize


def recipe(*overrides: str) -> AugmentationConfig:
    return load_config("imagenet", ["augmentation.erase_prob=0", *overrides]).augmentation


def images(count: int = 8, size: int = 16) -> torch.Tensor:
    return torch.arange(count).float().view(-1, 1, 1, 1).expand(-1, 3, size, size).clone()


def test_bytes_become_normalised_floats_in_the_wanted_layout() -> None:
    pixels = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    pixels[..., 1] = 255
    result = normalize(pixels, mean=(0.5, 0.5, 0.0), std=(0.5, 0.25, 1.0))
    assert result.shape == (2, 3, 4, 4)
    np.testing.assert_allclose(result[0, :, 0, 0], [-1.0, 2.0, 0.0])
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert normalize(pixels, (0.5,) * 3, (0.5,) * 3, channels_last=False).is_contiguous()


def test_the_erasing_probability_is_the_share_of_erased_images() -> None:
    batch = torch.ones(2000, 3, 16, 16)
    erase(batch, 0.2, "const", random.Random(0))
    erased = (batch == 0).flatten(1).any(1)
    assert erased.float().mean().item() == pytest.approx(0.2, abs=0.03)
    area = (batch[erased] == 0).float().mean((1, 2, 3))
    assert area.min() >= 0.01
    assert area.max() <= 0.36
    assert area.unique().numel() > 20


def test_pixel_mode_fills_with_normal_noise_of_its_own_for_each_pixel() -> None:
    batch = torch.full((400, 3, 16, 16), 100.0)
    erase(batch, 1.0, "pixel", random.Random(0))
    noise = batch[batch != 100.0]
    assert noise.mean().item() == pytest.approx(0.0, abs=0.02)
    assert noise.std().item() == pytest.approx(1.0, abs=0.02)
    assert noise.unique().numel() > 0.99 * noise.numel()


def test_rectangles_are_a_function_of_the_seed_alone() -> None:
    """Top, bottom, left and right, drawn by version 0.1.0."""
    batch = torch.ones(8, 3, 64, 48)
    erase(batch, 0.5, "const", random.Random(0))
    expected = {1: (25, 43, 19, 36), 3: (8, 30, 2, 45), 4: (34, 52, 38, 47), 6: (10, 55, 30, 47)}
    for number, image in enumerate(batch):
        whole = torch.ones(3, 64, 48)
        if number in expected:
            top, bottom, left, right = expected[number]
            whole[:, top:bottom, left:right] = 0
        assert torch.equal(image, whole)


@pytest.mark.parametrize("mode", ["pixel", "const"])
def test_the_device_does_the_same_few_operations_for_any_number_of_images(mode: str) -> None:
    class Count(TorchDispatchMode):
        calls: int = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            self.calls += 1
            return function(*args, **(kwargs or {}))

    counts = []
    for images in (2, 100):
        with Count() as count:
            erase(torch.ones(images, 3, 16, 16), 1.0, mode, random.Random(0), max_count=2)
        counts.append(count.calls)
    assert counts[0] == counts[1] < 40


def test_erasing_is_reached_by_its_keys() -> None:
    config = recipe("augmentation.erase_prob=1", "augmentation.erase_mode=const")
    batch, _ = augment_batch(torch.ones(16, 3, 16, 16), torch.zeros(16, dtype=torch.long), config, 4, seed=1)
    assert ((batch == 0).flatten(1).any(1)).all()


def test_equal_seeds_give_equal_batches() -> None:
    config = recipe("augmentation.erase_prob=0.5", "augmentation.mixup=0.8", "augmentation.cutmix=1.0")
    labels = torch.arange(8)
    first, again, other = (
        augment_batch(torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)), labels, config, 8, seed)
        for seed in (3, 3, 4)
    )
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_mixup_blends_images_and_labels_with_one_share() -> None:
    labels = torch.arange(8)
    mixed, targets = mixup(images(), labels, alpha=0.8, classes=8, rng=random.Random(2))
    share = targets[0, 0].item()
    assert 0 < share < 1
    expected = share * labels + (1 - share) * labels.flip(0)
    torch.testing.assert_close(mixed[:, 0, 0, 0], expected.float())
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    assert targets[0, 7].item() == pytest.approx(1 - share)


def test_cutmix_pastes_a_rectangle_and_shares_labels_by_its_area() -> None:
    labels = torch.arange(8)
    mixed, targets = cutmix(images(), labels, alpha=1.0, classes=8, rng=random.Random(4))
    own = (mixed[0, 0] == 0).float().mean().item()
    assert 0 < own < 1
    assert set(mixed[0].unique().tolist()) == {0.0, 7.0}
    assert targets[0, 0].item() == pytest.approx(own)
    assert targets[0, 7].item() == pytest.approx(1 - own)


@pytest.mark.parametrize(("key", "blended"), [("mixup", True), ("cutmix", False)])
def test_each_kind_of_mixing_is_reached_by_its_own_alpha(key: str, blended: bool) -> None:
    config = recipe(f"augmentation.{key}=1.0")
    kinds = []
    for seed in range(10):
        batch, targets = augment_batch(images(), torch.arange(8), config, 8, seed)
        assert targets.shape == (8, 8)
        kinds.append(len(batch[0].unique()) == 1 and batch[0, 0, 0, 0].item() not in (0.0, 7.0))
    assert any(kinds) is blended


def test_alpha_shapes_the_share() -> None:
    def spread(alpha: float) -> float:
        draw = random.Random(0)
        return float(np.std([mixup(images(2), torch.arange(2), alpha, 2, draw)[1][0, 0].item() for _ in range(300)]))

    assert spread(50.0) < 0.06 < 0.3 < spread(0.2)


def test_mix_prob_is_the_share_of_mixed_batches_and_zero_alphas_mix_nothing() -> None:
    config = recipe("augmentation.mixup=1.0", "augmentation.mix_prob=0.3")
    mixed = [augment_batch(images(2), torch.arange(2), config, 2, seed)[1].ndim == 2 for seed in range(400)]
    assert np.mean(mixed) == pytest.approx(0.3, abs=0.07)
    labels = torch.arange(2)
    assert augment_batch(images(2), labels, recipe(), 2, seed=0)[1] is labels


def test_cutmix_share_is_the_share_of_cutmix_among_mixed_batches() -> None:
    config = recipe("augmentation.mixup=1", "augmentation.cutmix=1", "augmentation.cutmix_share=0.2")
    pasted = []
    for seed in range(600):
        batch, _ = augment_batch(images(2, 8), torch.arange(2), config, 2, seed)
        pasted.append(set(batch.unique().tolist()) <= {0.0, 1.0})
    assert np.mean(pasted) == pytest.approx(0.2, abs=0.05)


def test_mixing_ends_after_its_epochs() -> None:
    config = recipe("augmentation.mixup=1", "augmentation.mix_epochs=3")
    kinds = [augment_batch(images(2), torch.arange(2), config, 2, seed=0, epoch=epoch)[1].ndim for epoch in range(5)]
    assert kinds == [2, 2, 2, 1, 1]


def mixed_statistics(mix_one, runs: int = 1500) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Moments of what mixing does: share of the first label, of pasted batches, and of pixels that stayed."""
    rows = []
    for seed in range(runs):
        batch, targets = mix_one(seed)
        pasted = set(batch.unique().tolist()) <= {0.0, 1.0}
        share = float(targets[0, 0]) if targets.ndim == 2 else 1.0
        rows.append((share, share**2, pasted, float((batch[0] == 0).float().mean()), share * pasted))
        if pasted:  # the label's share is that of the pixels
            assert float((batch[0] == 0).float().mean()) == pytest.approx(share, abs=1e-6)
    return np.array(rows).mean(0)


def test_mixing_has_the_distribution_of_timms_mixup() -> None:
    config = recipe(
        "augmentation.mixup=0.8", "augmentation.cutmix=1", "augmentation.mix_prob=0.7", "augmentation.cutmix_share=0.6"
    )
    theirs = Mixup(0.8, 1.0, prob=0.7, switch_prob=0.6, mode="batch", label_smoothing=0.0, num_classes=2)
    np.random.seed(0)
    labels = torch.arange(2)
    expected = mixed_statistics(lambda _: theirs(images(2, 16), labels))
    measured = mixed_statistics(lambda seed: augment_batch(images(2, 16), labels, config, 2, seed))
    np.testing.assert_allclose(measured, expected, atol=0.045)


@pytest.mark.parametrize("most", [1, 3])
def test_erased_areas_have_the_distribution_of_timms_random_erasing(most: int) -> None:
    theirs = RandomErasing(0.5, mode="const", max_count=most, device="cpu")
    random.seed(0)
    batches = torch.ones(3000, 3, 20, 30), torch.ones(3000, 3, 20, 30)
    erase(batches[0], 0.5, "const", random.Random(0), most)
    theirs(batches[1])
    ours, expected = ((batch[:, 0] == 0).float() for batch in batches)
    for statistic in (
        lambda erased: erased.flatten(1).any(1).float().mean(),
        lambda erased: erased.mean(),
        lambda erased: erased.mean((1, 2)).std(),
        lambda erased: erased.any(1).float().sum(1).mean() / 30,  # how wide
        lambda erased: erased.any(2).float().sum(1).mean() / 20,  # how high
    ):
        assert float(statistic(ours)) == pytest.approx(float(statistic(expected)), abs=0.03)
    np.testing.assert_allclose(ours.mean(0), expected.mean(0), atol=0.05)  # where


def test_erase_count_is_reached_by_its_key() -> None:
    def pieces(count: int) -> float:
        config = recipe(
            "augmentation.erase_prob=1", "augmentation.erase_mode=const", f"augmentation.erase_count={count}"
        )
        batch, _ = augment_batch(torch.ones(300, 3, 64, 64), torch.zeros(300, dtype=torch.long), config, 2, seed=0)
        return np.mean([len(np.unique(np.flatnonzero(np.diff((image[0] == 0).any(0).int())))) for image in batch])

    assert pieces(1) <= 2.0
    assert pieces(4) > 2.5
