import pickle
from itertools import zip_longest

import numpy as np
import pytest
import torch

from rexnet.data.keys import mix
from rexnet.data.sampling import AnnouncingSampler, EvalBatchSampler, TrainBatchSampler


def positions(sampler: TrainBatchSampler | EvalBatchSampler) -> list[list[int]]:
    return [[key.position for key in batch] for batch in sampler]


def test_keys_differ_where_any_part_differs_and_are_known_numbers() -> None:
    keys = {mix(seed, epoch, index) for seed in range(10) for epoch in range(10) for index in range(100)}
    assert len(keys) == 10_000
    assert mix(1, 2) != mix(2, 1)
    assert (mix(0), mix(1, 2, 3)) == (7960286522194355700, 5246500226706903259)


def test_an_epoch_has_every_image_once_and_another_order_than_the_next() -> None:
    sampler = TrainBatchSampler(num_samples=20, batch_size=4, seed=0)
    first = positions(sampler)
    sampler.set_epoch(1)
    second = positions(sampler)
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == list(range(20))
    assert first != second
    sampler.set_epoch(0)
    assert positions(sampler) == first


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_very_batches_of_one_process(world_size: int) -> None:
    alone = positions(TrainBatchSampler(50, batch_size=8, seed=3))
    shares = [
        positions(TrainBatchSampler(50, 8, seed=3, rank=rank, world_size=world_size)) for rank in range(world_size)
    ]
    together = [sorted(sum(parts, [])) for parts in zip(*shares, strict=True)]
    assert together == [sorted(batch) for batch in alone]


def test_accumulation_splits_a_batch_and_changes_nothing_else() -> None:
    whole = positions(TrainBatchSampler(50, batch_size=8, seed=3))
    parts = positions(TrainBatchSampler(50, batch_size=8, seed=3, accumulate=4))
    assert [len(part) for part in parts] == [2] * 24
    assert [sorted(sum(parts[i : i + 4], [])) for i in range(0, 24, 4)] == [sorted(batch) for batch in whole]


def test_the_last_batch_is_dropped_or_padded_from_the_start() -> None:
    assert len(TrainBatchSampler(10, batch_size=4, seed=0)) == 2
    padded = positions(TrainBatchSampler(10, batch_size=4, seed=0, last_batch="pad"))
    assert [len(batch) for batch in padded] == [4, 4, 4]
    assert set(sum(padded, [])) == set(range(10))
    assert padded[2][2:] == padded[0][:2]


@pytest.mark.parametrize("repeats", [1, 2])
def test_an_image_that_pads_a_batch_comes_as_another_view(repeats: int) -> None:
    sampler = TrainBatchSampler(3, 8, seed=0, last_batch="pad", repeats=repeats)
    batch = sampler.batch_at(0, 0)
    assert len(batch) == len(set(batch)) == 8
    assert [key.view for key in batch] == {1: [0, 0, 0, 1, 1, 1, 2, 2], 2: [0, 1, 0, 2, 3, 1, 4, 5]}[repeats]


def test_a_resumed_epoch_goes_on_at_the_next_batch_however_often_it_is_asked_for() -> None:
    sampler = TrainBatchSampler(40, batch_size=4, seed=0)
    sampler.set_epoch(2)
    whole = positions(sampler)
    sampler.start_at(epoch=2, batch=7)
    assert positions(sampler) == whole[7:]
    assert positions(sampler) == whole[7:]  # a loader with processes asks twice at once
    sampler.set_epoch(3)
    assert len(positions(sampler)) == 10
    assert len(sampler) == 10


def test_fetching_ahead_does_not_see_a_later_epoch() -> None:
    sampler = TrainBatchSampler(8, batch_size=4, seed=0)
    ahead = iter(sampler)
    sampler.set_epoch(5)
    assert {key.epoch for batch in ahead for key in batch} == {0}


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("num_samples", [1, 2, 5, 7, 16])
def test_evaluation_sees_each_image_once_in_the_same_batches_on_any_number_of_processes(
    num_samples: int, world_size: int
) -> None:
    shares = [
        EvalBatchSampler(num_samples, batch_size=3, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    dealt = [batch for turn in zip_longest(*map(positions, shares), fillvalue=[]) for batch in turn if batch]
    assert dealt == [list(range(num_samples))[start : start + 3] for start in range(0, num_samples, 3)]
    assert all(len(share) == len(positions(share)) >= 1 for share in shares)


def test_the_order_does_not_touch_torchs_own_generator() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    positions(TrainBatchSampler(20, batch_size=4, seed=0))
    assert torch.equal(torch.get_rng_state(), state)


def test_repeated_augmentation_gives_each_image_of_a_part_so_many_views() -> None:
    sampler = TrainBatchSampler(60, batch_size=12, seed=0, repeats=3)
    epochs = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        keys = [key for batch in sampler for key in batch]
        assert len(keys) == 60
        assert len({key.position for key in keys}) == 20
        assert sorted(key.view for key in keys) == [0] * 20 + [1] * 20 + [2] * 20
        epochs.append({key.position for key in keys})
    assert epochs[0] != epochs[1]


def test_views_of_an_image_share_a_batch_and_not_a_process() -> None:
    ranks = [
        [key for batch in TrainBatchSampler(24, 6, seed=0, rank=rank, world_size=3, repeats=3) for key in batch]
        for rank in range(3)
    ]
    for keys in zip(*ranks, strict=True):
        assert len({key.position for key in keys}) == 1
        assert {key.view for key in keys} == {0, 1, 2}


@pytest.mark.parametrize("sizes", [(50, 5, 20), (1, 1, 97), (7, 7, 7)])
def test_balanced_sampling_shows_all_classes_equally_often_and_their_images_evenly(sizes: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    sampler = TrainBatchSampler(len(labels), batch_size=1, seed=0, balance=labels)
    keys = [key for batch in sampler for key in batch]
    assert len(keys) == len(set(keys)) == len(labels)  # no view comes twice
    shown = np.bincount([labels[key.position] for key in keys])
    assert shown.max() - shown.min() <= 1
    times = np.bincount([key.position for key in keys], minlength=len(labels))
    for label, size in enumerate(sizes):
        of_class = times[labels == label]
        assert of_class.sum() == shown[label]
        assert of_class.max() - of_class.min() <= 1, size


def test_balanced_epochs_differ_mix_their_classes_and_use_all_images_in_time() -> None:
    labels = np.repeat(np.arange(4), (40, 20, 10, 10))
    sampler = TrainBatchSampler(80, batch_size=8, seed=0, balance=labels)
    orders = []
    for epoch in range(12):
        sampler.set_epoch(epoch)
        orders.append([position for batch in positions(sampler) for position in batch])
    assert len({tuple(order) for order in orders}) == 12
    assert set().union(*orders) == set(range(80))
    classes = labels[np.array(orders)]
    assert 0.15 < np.mean(classes[:, 1:] == classes[:, :-1]) < 0.35  # neighbours as in a shuffled order


@pytest.mark.parametrize("readers", [1, 2, 3, 7])
def test_each_batch_announces_the_next_one_of_the_same_process(readers: int) -> None:
    sampler = TrainBatchSampler(num_samples=20, batch_size=4, seed=0)
    batches = list(AnnouncingSampler(sampler, readers))
    assert [[key.position for key in batch] for batch in batches] == positions(sampler)
    assert all(batch == list(sampler)[number] for number, batch in enumerate(batches))
    nothing: list[int] = []
    following = [*positions(sampler)[readers:], *[nothing] * readers][: len(batches)]
    assert [list(batch.upcoming) for batch in batches] == following
    assert all(pickle.loads(pickle.dumps(batch)).upcoming == batch.upcoming for batch in batches)
