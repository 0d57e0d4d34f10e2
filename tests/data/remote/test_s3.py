"""The semantics of S3, with moto's server on this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("obstore")
pytest.importorskip("moto.server", reason="moto[server] is not installed")

import obstore
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

from rexnet.config.data_schema import SourceConfig
from rexnet.config.remote_path import RemotePath
from rexnet.data.datasets import load_index
from rexnet.errors import DataError


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_root: Path) -> Iterator[Any]:
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {"AWS_ENDPOINT": f"http://{host}:{port}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for name, value in (environment | keys).items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(Bucket="images")
    store = S3Store.from_url("s3://images/data")
    for path in sorted(image_root.rglob("*.png")):
        obstore.put(store, path.relative_to(image_root).as_posix(), path.read_bytes())
    yield store
    server.stop()


def test_class_folders_in_s3_are_those_of_the_local_disk(bucket: Any, image_root: Path) -> None:
    root = RemotePath("s3://images/data")
    remote = load_index(SourceConfig(dataset="folder", root=root), "train")
    local = load_index(SourceConfig(dataset="folder", root=image_root), "train")
    assert remote.source.read_many(range(24)) == local.source.read_many(range(24))
    assert remote.class_names == local.class_names
    obstore.put(bucket, "train/ant/000.png", b"changed")
    with pytest.raises(DataError, match=r"s3://images/data/train/ant/000.png: has changed since it was indexed"):
        remote.read(0)
    obstore.delete(bucket, "train/ant/001.png")
    with pytest.raises(DataError, match=r"s3://images/data/train/ant/001.png: does not exist"):
        remote.read(1)


def test_a_missing_bucket_is_one_sentence(bucket: Any) -> None:
    with pytest.raises(DataError, match=r"s3://nothing/data: does not exist"):
        load_index(SourceConfig(dataset="folder", root=RemotePath("s3://nothing/data")), "train")
