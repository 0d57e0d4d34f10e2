import multiprocessing
import os
import signal
import stat
import time

import numpy as np
import pytest
import torch

from rexnet.config import Config, load_config
from rexnet.data.cache.cached_datasets import CachedImages
from rexnet.data.datamodule import ImageData, fill_caches
from rexnet.data.dataset import ImageDataset
from rexnet.data.loaders import build_eval_loader
from rexnet.errors import DataError
from rexnet.training.classification import train


def configured(small_run: list[str], *overrides: str) -> Config:
    return load_config("finetune/folder.yaml", [*small_run, "data.cache=disk", *overrides])


def test_a_run_with_a_cache_ends_with_the_same_weights(small_run: list[str]) -> None:
    ends = {}
    for kind in ("null", "disk"):
        config = load_config("finetune/folder.yaml", [*small_run, f"data.cache={kind}"])
        ends[kind] = torch.load(train(config).best_checkpoint, weights_only=True)["state_dict"]
        if kind == "disk":
            kept = sorted((config.trainer.runs_dir / "image-cache").iterdir())
            assert len(kept) == 2
            assert stat.S_IMODE(kept[0].stat().st_mode) == 0o600
    assert all(torch.equal(ends["null"][name], value) for name, value in ends["disk"].items())


@pytest.mark.parametrize("workers", [0, 1])
def test_filling_needs_no_decoding_later(workers: int, small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(small_run, f"data.num_workers={workers}")
    sizes = dict(fill_caches(config))
    assert [path.parent.name for path in sizes] == ["image-cache"] * 2
    assert list(sizes.values()) == [32 + 24 * (24 + 40 * 48 * 3), 32 + 15 * (24 + 32 * 32 * 3)]
    monkeypatch.setattr(ImageDataset, "opened", lambda *_: pytest.fail("decoded again"))
    assert dict(fill_caches(config)) == sizes
    data = ImageData(config)
    data.cache.open()
    assert data.train_dataset.view(3, key=1).shape == data.val_dataset.view(3, key=1).shape == (32, 32, 3)


def test_a_damaged_cache_is_filled_again(small_run: list[str]) -> None:
    config = configured(small_run)
    (path, size), _ = fill_caches(config)
    os.truncate(path, size // 2)
    assert dict(fill_caches(config))[path] == size


def fill_slowly(config: Config) -> None:
    data = ImageData(config)
    for dataset in data.cache.datasets:
        make = dataset.make
        dataset.make = lambda position, make=make: time.sleep(0.02) or make(position)  # type: ignore[method-assign]
    data.cache.fill(data.loader_settings)


def test_a_killed_filling_leaves_nothing_to_use_and_the_next_one_starts_again(small_run: list[str]) -> None:
    config = configured(small_run)
    folder = config.trainer.runs_dir / "image-cache"
    process = multiprocessing.get_context("fork").Process(target=fill_slowly, args=(config,))
    process.start()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not list(folder.glob(".*")):
        pass
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    data = ImageData(config)
    assert len(data.cache.missing()) == 2
    assert all(path.is_file() for path, _ in fill_caches(config))
    assert data.cache.missing() == []


def test_too_little_space_is_reported_before_anything_is_decoded(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rexnet.data.cache.filling.RESERVE", 1 << 60)
    data = ImageData(configured(small_run))
    with pytest.raises(DataError, match=r"data\.cache: needs \d+\.\d kB in .*image-cache, .*data\.cache_folder"):
        data.cache.fill(data.loader_settings)


def test_a_process_that_dies_while_a_cache_is_filled_is_named_with_its_image(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ImageData(configured(small_run, "data.start_method=fork", "data.worker_timeout=2", "data.num_workers=1"))
    plain, parent = CachedImages.make, os.getpid()

    def die(dataset: CachedImages, position: int) -> np.ndarray:
        if position == 2 and os.getpid() != parent:
            os._exit(0)
        return plain(dataset, position)

    monkeypatch.setattr(CachedImages, "make", die)
    with pytest.raises(DataError, match=r"loader process \d+ \(last at /.*/train/ant/002\.png\) exited without"):
        data.prepare_data()
    assert not list(data.config.trainer.runs_dir.rglob("*.images"))


def test_several_nodes_read_a_cache_on_disk_but_do_not_fill_it(small_run: list[str]) -> None:
    several = configured(small_run, "trainer.num_nodes=2")
    with pytest.raises(DataError, match=r"image-cache/rexnet-.*images is missing, and a run on 2 nodes does not fill"):
        ImageData(several)
    fill_caches(several)
    assert len(ImageData(several).train_index) == 24


def test_loader_processes_that_are_not_forked_map_the_cache(small_run: list[str]) -> None:
    settings = ["data.num_workers=1", "data.start_method=forkserver"]
    data = ImageData(configured(small_run, *settings))
    data.cache.fill(data.loader_settings._replace(workers=0))
    data.cache.open()
    loader = build_eval_loader(data.val_dataset, 8, data.loader_settings)
    images = np.concatenate([batch.images.numpy() for batch in loader])
    np.testing.assert_array_equal(images, [data.val_dataset.view(position, 0) for position in range(15)])
