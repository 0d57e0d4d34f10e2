import os

import pytest

from rexnet.config import load_config
from rexnet.dataset_tools.loader_speed import measure_speeds, recommend_workers, worker_numbers
from rexnet.errors import DataError


@pytest.mark.parametrize("cache", ["null", "ram"])
def test_every_number_of_loader_processes_gets_its_speed(cache: str, small_run: list[str]) -> None:
    config = load_config("finetune/folder.yaml", [*small_run, f"data.cache={cache}"])
    speeds = dict(measure_speeds(config, [0, 1], seconds=0.05))
    assert list(speeds) == [0, 1]
    assert all(50 < speed < 1e6 for speed in speeds.values())


def test_fewer_images_than_a_batch_are_refused(small_run: list[str]) -> None:
    config = load_config("finetune/folder.yaml", [*small_run, "data.batch_size=64"])
    with pytest.raises(DataError, match="has 24 images, fewer than one batch of 64; lower"):
        list(measure_speeds(config, [0], seconds=0.05))


def test_a_process_that_dies_while_speed_is_measured_is_named_with_its_image(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["data.start_method=fork", "data.worker_timeout=2"]
    config = load_config("finetune/folder.yaml", [*small_run, *options])
    monkeypatch.setattr("rexnet.data.dataset.ImageDataset.view", lambda *_: os._exit(0))
    with pytest.raises(DataError, match=r"loader process \d+ \(last at /.*/train/.*\.png\) exited without a message"):
        list(measure_speeds(config, [1], seconds=0.05))


def test_the_fewest_processes_close_to_the_fastest_are_recommended_and_never_none() -> None:
    assert recommend_workers({0: 100, 1: 90, 2: 190, 4: 196, 8: 200}) == 2
    assert recommend_workers({0: 500, 1: 100, 2: 300}) == 2
    assert recommend_workers({0: 500}) == 0


def test_powers_of_two_up_to_the_cores_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((1, [0, 1]), (2, [0, 1, 2]), (6, [0, 1, 2, 4, 6]), (96, [0, 1, 2, 4, 8, 16, 32])):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert worker_numbers() == expected
