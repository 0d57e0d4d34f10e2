import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from conftest import caches_in_memory

from rexnet.config import Config, load_config
from rexnet.data.cache.cache_file import ImageCache
from rexnet.data.cache.cached_datasets import (
    CachedImages,
    CachedViews,
    build_eval_dataset,
    build_train_dataset,
    fill_cache,
    fingerprint,
    require_space,
)
from rexnet.data.datamodule import ImageData, fill_caches
from rexnet.data.dataset import ImageDataset
from rexnet.data.datasets.class_folders import index_folders
from rexnet.data.sampling import SampleKey
from rexnet.errors import DataError
from rexnet.training.classification import train


def configured(small_run: list[str], *overrides: str) -> Config:
    return load_config("finetune/folder.yaml", [*small_run, "data.cache=disk", *overrides])


def cached(config: Config) -> tuple[CachedImages, CachedViews]:
    train = build_train_dataset(config, index_folders(config.data.root, "train"))
    val = build_eval_dataset(config, index_folders(config.data.root, "val"))
    assert isinstance(train, CachedImages)
    assert isinstance(val, CachedViews)
    return train, val


def test_cached_images_give_the_same_bytes_before_and_after_they_are_kept(small_run: list[str]) -> None:
    train, val = cached(configured(small_run))  # short side 48, images of 40 x 48: nothing is reduced
    plain = ImageDataset(train.index, train.transform, train.seed)
    measured = ImageDataset(val.index, val.transform, val.seed)
    for dataset, reference in ((train, plain), (val, measured)):
        for _ in range(2):
            for position in range(len(dataset)):
                key = SampleKey(1, position)
                np.testing.assert_array_equal(dataset[key].image, reference[key].image)
        assert dataset.cache.filled == len(dataset)


def test_kept_images_are_reduced_and_evaluation_is_not_touched(small_run: list[str]) -> None:
    train, val = cached(configured(small_run, "data.image_size=24", "data.cache_scale=1"))
    assert train.decoded(0).shape == (24, 29, 3)
    assert train.decoded(0).shape == (24, 29, 3)  # from the cache
    measured = ImageDataset(val.index, val.transform, val.seed)
    np.testing.assert_array_equal(val[SampleKey(0, 3)].image, measured[SampleKey(0, 3)].image)
    assert val.cache.used_bytes < 15 * (24 * 24 * 3 + 32) + 200


def test_a_run_with_a_cache_ends_with_the_same_weights_and_leaves_no_memory(small_run: list[str]) -> None:
    ends = {}
    for kind in ("null", "ram", "disk"):
        config = load_config("finetune/folder.yaml", [*small_run, f"data.cache={kind}"])
        metrics = train(config)
        ends[kind] = torch.load(metrics.best_checkpoint, weights_only=True)["state_dict"]
        if kind == "ram":
            assert caches_in_memory(config) == []
        if kind == "disk":
            kept = sorted((config.trainer.runs_dir / "image-cache").iterdir())
            assert len(kept) == 2
    for kind in ("ram", "disk"):
        assert all(torch.equal(ends["null"][name], value) for name, value in ends[kind].items())


def test_filling_beforehand_needs_no_decoding_later(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(small_run)
    sizes = dict(fill_caches(config))
    assert [path.parent.name for path in sizes] == ["image-cache"] * 2
    assert sorted(sizes.values()) == [pytest.approx(15 * 32 * 32 * 3, rel=0.05), pytest.approx(24 * 5760, rel=0.05)]
    train, val = cached(config)
    monkeypatch.setattr(ImageDataset, "decoded", lambda *_: pytest.fail("decoded again"))
    assert train.view(3, key=1).shape == val.view(3, key=1).shape == (32, 32, 3)


def test_a_cache_without_room_for_all_is_an_error_when_filled_beforehand(small_run: list[str]) -> None:
    config = configured(small_run)
    train, _ = cached(config)
    train.cache = ImageCache(train.cache.path.with_name("small"), len(train), capacity=10 * 5760)
    with pytest.raises(DataError, match="small: had no room for 14 of 24 images"):
        fill_cache(train, 0, config.data)


def test_another_data_set_or_size_or_crop_gets_another_cache(
    small_run: list[str], image_root: Path, tmp_path: Path
) -> None:
    config = configured(small_run)
    root = Path(shutil.copytree(image_root, tmp_path / "copy"))
    first = fingerprint(config, index_folders(root, "train"), "a")
    assert first == fingerprint(config, index_folders(root, "train"), "a")
    assert first != fingerprint(config, index_folders(root, "train"), "b")
    assert first != fingerprint(config, index_folders(root, "val"), "a")
    os.utime(root / "train" / "bee" / "003.png", ns=(1, 1))
    assert first != fingerprint(config, index_folders(root, "train"), "a")
    files = {cached(configured(small_run, f"data.{change}"))[0].cache.path for change in
             ("image_size=32", "image_size=48", "cache_scale=2", "batch_size=4", "num_workers=1",
              "persistent_workers=false", "start_method=spawn", "worker_timeout=9")}  # fmt: skip
    assert len(files) == 3  # batches and processes change no pixel


def test_other_boxes_get_another_cache_and_members_of_an_archive_are_not_looked_for(
    small_run: list[str], image_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(small_run)
    index = index_folders(image_root, "train")
    boxes = np.tile(np.int32([0, 0, 4, 4]), (len(index), 1))
    names = {fingerprint(config, replace(index, boxes=some), "a") for some in (None, boxes, boxes + 1)}
    assert len(names) == 3
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(image_root, ".")
    packed = index_folders(tmp_path / "a.tar", "train")
    monkeypatch.setattr("os.stat", lambda path, **_: pytest.fail(f"{path} was looked for"))
    before = fingerprint(config, packed, "a")
    monkeypatch.undo()
    os.utime(tmp_path / "a.tar", ns=(1, 1))
    assert fingerprint(config, index_folders(tmp_path / "a.tar", "train"), "a") != before


def test_no_room_is_said_before_the_run_begins(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rexnet.data.cache.cached_datasets.RESERVE", 1 << 60)
    for kind, hint in (("ram", "--shm-size"), ("disk", "data.cache_folder")):
        with pytest.raises(DataError, match=rf"data\.cache: needs \d+\.\d kB and a reserve of .* free; lower .*{hint}"):
            cached(configured(small_run, f"data.cache={kind}"))


def test_too_little_space_is_one_sentence(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "there", 1000, "")
    with pytest.raises(
        DataError,
        match=r"data\.cache: needs 1,000,000\.0 GB and a reserve of 67\.1 MB in .*, where .* are free; buy a disk",
    ):
        require_space(tmp_path, 10**15, "buy a disk")


def test_both_caches_and_the_batches_in_memory_must_have_room_together(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        "rexnet.data.cache.cached_datasets.require_space", lambda folder, wanted, _: asked.append(wanted) or 0
    )
    views, images = 15 * (32 * 32 * 3 + 16), 24 * 40 * 48 * 3
    fill_caches(configured(small_run))
    assert asked == [images + views, views]
    data = ImageData(configured(small_run, "data.cache=ram", "data.num_workers=1"))
    data.trainer = MagicMock(global_rank=0)
    monkeypatch.setattr(ImageData, "_position", lambda *_: (0, 0))
    data.train_dataloader()
    assert asked[2] == images + views + 2 * 8 * 32 * 32 * 3


def test_a_process_that_dies_while_a_cache_is_filled_is_named_with_its_image(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(small_run, "data.start_method=fork", "data.worker_timeout=2")
    train, _ = cached(config)
    monkeypatch.setattr(train, "fill", lambda position: os._exit(0) if position == 2 else None)
    with pytest.raises(DataError, match=r"loader process \d+ \(last at /.*/train/ant/002\.png\) ended without a word"):
        fill_cache(train, 1, config.data)


def test_several_nodes_read_a_cache_on_disk_but_do_not_fill_it(small_run: list[str]) -> None:
    several = configured(small_run, "trainer.num_nodes=2")
    with pytest.raises(DataError, match=r"image-cache/rexnet-.*images is not filled, and 2 nodes cannot fill it"):
        ImageData(several)
    train, val = cached(configured(small_run))
    for dataset in (train, val):
        for position in range(len(dataset)):  # as a run on one node fills it, without putting it into safety
            dataset.fill(position)
    with pytest.raises(DataError, match="is not filled"):
        ImageData(several)
    val.cache.path.unlink()
    fill_caches(several)
    assert len(ImageData(several).train_index) == 24
    ImageData(load_config("finetune/folder.yaml", [*small_run, "trainer.num_nodes=2", "data.cache=ram"]))
