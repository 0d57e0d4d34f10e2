import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rexnet.config import Config, load_config
from rexnet.data.cache.cached_datasets import CachedImages, CachedViews, cache_path
from rexnet.data.datamodule import ImageData
from rexnet.data.dataset import ImageDataset
from rexnet.data.datasets.class_folders import index_folders
from rexnet.data.datasets.index import Index
from rexnet.data.sampling import SampleKey


def configured(small_run: list[str], *overrides: str) -> Config:
    return load_config("finetune/folder.yaml", [*small_run, "data.cache=disk", *overrides])


def cached(config: Config) -> tuple[CachedImages, CachedViews]:
    """Returns both data sets with filled caches."""
    data = ImageData(config)
    data.cache.fill(data.loader_settings)
    data.cache.open()
    train, val = data.datasets
    assert isinstance(train, CachedImages)
    assert isinstance(val, CachedViews)
    return train, val


def test_cached_images_give_the_same_bytes_as_decoded_ones(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val = cached(configured(small_run))  # short side 48, images of 40 x 48: nothing is reduced
    plain = ImageDataset(train.index, train.transform, train.seed)
    measured = ImageDataset(val.index, val.transform, val.seed)
    expected = [[one[SampleKey(1, position)].image for position in range(len(one))] for one in (plain, measured)]
    monkeypatch.setattr(ImageDataset, "opened", lambda *_: pytest.fail("decoded again"))
    for dataset, images in zip((train, val), expected, strict=True):
        for position, image in enumerate(images):
            np.testing.assert_array_equal(dataset[SampleKey(1, position)].image, image)


def test_kept_images_are_reduced_and_evaluation_is_not_touched(small_run: list[str]) -> None:
    train, val = cached(configured(small_run, "data.image_size=24", "data.cache_scale=1"))
    assert train.opened(0).shape == (24, 29, 3)
    measured = ImageDataset(val.index, val.transform, val.seed)
    np.testing.assert_array_equal(val[SampleKey(0, 3)].image, measured[SampleKey(0, 3)].image)
    assert val.cache is not None
    assert val.cache.path.stat().st_size == 32 + 15 * (24 + 24 * 24 * 3)


def path_for(config: Config, index: Index, content: str = "a") -> Path:
    dataset = CachedImages(index, lambda image, key: image, 0, 48)  # type: ignore[arg-type]
    dataset.content = content
    return cache_path(dataset, config.data, Path("caches"))


def test_another_data_set_or_size_or_crop_gets_another_cache(
    small_run: list[str], image_root: Path, tmp_path: Path
) -> None:
    config = configured(small_run)
    root = Path(shutil.copytree(image_root, tmp_path / "copy"))
    first = path_for(config, index_folders(root, "train"))
    assert first == path_for(config, index_folders(root, "train"))
    assert first != path_for(config, index_folders(root, "train"), "b")
    assert first != path_for(config, index_folders(root, "val"))
    os.utime(root / "train" / "bee" / "003.png", ns=(1, 1))
    assert first != path_for(config, index_folders(root, "train"))


@pytest.mark.parametrize(
    ("changes", "files"),
    [
        (("image_size=32", "image_size=48", "cache_scale=2"), 3),
        (("batch_size=4", "num_workers=1", "persistent_workers=false", "start_method=spawn", "worker_timeout=9"), 1),
    ],
    ids=["pixels", "mechanics"],
)
def test_settings_that_change_pixels_and_no_others_get_another_cache(
    changes: tuple[str, ...], files: int, small_run: list[str]
) -> None:
    stores = [ImageData(configured(small_run, f"data.{change}")).cache for change in changes]
    assert len({store.path_of(store.datasets[0]) for store in stores}) == files


@pytest.mark.parametrize(
    "change", ["data.image_size=48", "eval_transform.crop_pct=1", "eval_transform.interpolation=bilinear"]
)
def test_another_evaluation_transform_gets_another_cache(change: str, small_run: list[str]) -> None:
    stores = [ImageData(configured(small_run, *overrides)).cache for overrides in ((), (change,))]
    assert len({store.path_of(store.datasets[1]) for store in stores}) == 2


def test_other_boxes_get_another_cache_and_members_of_an_archive_are_not_looked_for(
    small_run: list[str], image_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(small_run)
    index = index_folders(image_root, "train")
    boxes = np.tile(np.int32([0, 0, 4, 4]), (len(index), 1))
    assert len({path_for(config, replace(index, boxes=some)) for some in (None, boxes, boxes + 1)}) == 3
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(image_root, ".")
    packed = index_folders(tmp_path / "a.tar", "train")
    with monkeypatch.context() as patch:
        patch.setattr("os.stat", lambda path, **_: pytest.fail(f"{path} was looked for"))
        before = path_for(config, packed)
    os.utime(tmp_path / "a.tar", ns=(1, 1))
    assert path_for(config, index_folders(tmp_path / "a.tar", "train")) != before
