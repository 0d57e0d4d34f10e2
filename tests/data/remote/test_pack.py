import gc
from pathlib import Path

import pytest

pytest.importorskip("obstore")

from rexnet.config.data_schema import SourceConfig
from rexnet.config.remote_path import parse_url
from rexnet.data.datasets import load_index
from rexnet.data.remote.pack import pack
from rexnet.errors import ConfigError


def packed(image_root: Path, folder: Path) -> list[Path]:
    config = SourceConfig(dataset="folder", root=image_root)
    return pack({"train": load_index(config, "train"), "val": load_index(config, "val")}, folder, shard_bytes=20_000)


def test_shards_hold_every_image_with_its_class(
    image_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(packed(image_root, tmp_path / "shards")) > 4
    shards = load_index(SourceConfig(dataset="webdataset", root=parse_url(f"file://{tmp_path}/shards")), "train")
    local = load_index(SourceConfig(dataset="folder", root=image_root), "train")
    found, wanted = (
        sorted(zip(index.source.read_many(range(24)), index.labels.tolist(), strict=True)) for index in (shards, local)
    )
    assert found == wanted
    assert shards.class_names == local.class_names
    assert shards.labels.tolist() != sorted(shards.labels.tolist())
    with pytest.raises(ConfigError, match="is not empty"):
        packed(image_root, tmp_path / "shards")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_shards(image_root: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    shards = [str(path) for path in packed(image_root, tmp_path / "shards") if path.name.startswith("train")]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    gc.collect()  # it leaves files open, which would fail the next test
    assert sorted(int(sample["cls"]) for sample in samples) == [0] * 8 + [1] * 8 + [2] * 8
    assert all(sample["png"].startswith(b"\x89PNG") for sample in samples)
