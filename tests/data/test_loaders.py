from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rexnet.config import Config, load_config
from rexnet.data.augment.transforms import build_eval_transform
from rexnet.data.datamodule import ImageData
from rexnet.data.dataset import ImageDataset
from rexnet.data.datasets.class_folders import index_folders
from rexnet.data.loaders import (
    LoaderSettings,
    build_eval_loader,
    build_loader,
    build_train_sampler,
    eval_batch_size,
    resolve_loader,
    train_batch_size,
)
from rexnet.errors import ConfigError
from rexnet.preprocessing import Preprocessing

IN_PROCESS = LoaderSettings(0, 1, False, None, 60.0, False)


def configured(small_run: list[str], *overrides: str) -> Config:
    return load_config("finetune/folder.yaml", [*small_run, *overrides])


def eval_dataset(root: Path, split: str = "val") -> ImageDataset:
    view = Preprocessing(32, 0.875, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), ("ant", "bee", "cow"))
    return ImageDataset(index_folders(root, split), build_eval_transform(view))  # type: ignore[arg-type]


def test_a_batch_is_divided_by_processes_and_micro_batches() -> None:
    assert train_batch_size(8, world_size=2, micro_batches=1) == 4
    assert train_batch_size(8, world_size=2, micro_batches=2) == 2
    with pytest.raises(ConfigError, match=r"8 should be a multiple of 3 \(3 processes x trainer\.accumulate 1\)"):
        train_batch_size(8, world_size=3, micro_batches=1)
    with pytest.raises(ConfigError, match=r"at least 2 images each, such as 16$"):
        train_batch_size(8, world_size=8, micro_batches=1)


def test_the_batch_divides_for_every_number_of_nodes_that_may_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8", "PET_NNODES": "2:3"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    assert train_batch_size(48, world_size=8, micro_batches=1) == 6
    message = r"64 should be a multiple of 24 \(8 or 12 processes x .* 1\) with .*, such as 48 or 72$"
    with pytest.raises(ConfigError, match=message):
        train_batch_size(64, world_size=8, micro_batches=1)


def test_evaluation_computes_no_more_images_at_once_than_small_devices_hold() -> None:
    assert eval_batch_size(8) == 8
    assert eval_batch_size(4096) == 128


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_batches_are_the_same_for_any_number_of_processes(world_size: int, image_root: Path) -> None:
    dataset = eval_dataset(image_root)
    alone = list(build_eval_loader(dataset, 4, IN_PROCESS))
    assert [len(batch.labels) for batch in alone] == [4, 4, 4, 3]
    found = [list(build_eval_loader(dataset, 4, IN_PROCESS, rank, world_size)) for rank in range(world_size)]
    for number, batch in enumerate(alone):
        other = found[number % world_size][number // world_size]
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.labels, other.labels)
    assert sum(len(batch.labels) for batches in found for batch in batches) == 15


@pytest.mark.parametrize(("batch_size", "expected"), [(16, 16), (512, 128)])
@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_validation_in_training_has_the_batches_of_evaluation(
    world_size: int, accumulate: int, batch_size: int, expected: int, small_run: list[str]
) -> None:
    changes = [f"data.batch_size={batch_size}", f"trainer.accumulate={accumulate}", "data.last_batch=pad"]
    data = ImageData(configured(small_run, *changes), world_size)
    data.trainer = SimpleNamespace(global_rank=0)  # type: ignore[assignment]
    assert data.val_dataloader().batch_sampler.batch_size == expected  # type: ignore[union-attr]


def test_workers_are_those_asked_for_or_the_cores_of_each_device(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def workers(*overrides: str) -> int:
        config = configured(small_run, *overrides)
        return resolve_loader(config.data, config.trainer).workers

    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)))
    assert workers("data.num_workers=5") == 5
    assert workers("data.num_workers=null") == 12
    assert workers("data.num_workers=null", "trainer.devices=4") == 3


def test_sampling_and_repeats_reach_the_sampler(small_run: list[str]) -> None:
    index = ImageData(configured(small_run)).train_index
    plain = build_train_sampler(configured(small_run), index)
    assert (plain.repeats, plain.balance) == (1, None)
    changed = configured(small_run, "data.sampling=balanced", "augmentation.repeats=4", "data.last_batch=pad")
    sampler = build_train_sampler(changed, index, rank=1, world_size=2)
    assert sampler.repeats == 4
    assert sampler.balance is index.labels
    assert (sampler.rank, sampler.world_size, sampler.batch_size) == (1, 2, 8)


def test_shared_memory_is_checked_for_all_processes_of_this_machine(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr("rexnet.data.loaders.require_shared_memory", lambda *needs: asked.append(needs))
    config = configured(small_run, "data.num_workers=1", "trainer.devices=2", "trainer.accumulate=2")
    dataset = eval_dataset(config.data.root, "train")
    sampler = build_train_sampler(config, dataset.index, rank=0, world_size=2)
    build_loader(dataset, sampler, resolve_loader(config.data, config.trainer))
    assert asked == [(2, 2 * 3 * 32 * 32)]
