import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("obstore")

import obstore
from file_server import FileServer, serve_files  # noqa: F401 - a fixture
from obstore.store import LocalStore, MemoryStore

from rexnet.config.data_schema import DatasetName, FetchConfig, SourceConfig
from rexnet.config.remote_path import RemotePath, parse_url
from rexnet.data.datasets import load_index
from rexnet.data.datasets.by_name import splits_of
from rexnet.data.remote.catalog import WHOLE, Catalog, open_catalog, save_catalog
from rexnet.data.remote.catalog_builder import Builder
from rexnet.data.sources.tar import open_tar
from rexnet.errors import DataError

S3 = RemotePath("s3://bucket/data")


def build(store: Any, root: RemotePath = S3, dataset: DatasetName = "folder") -> Catalog:
    return Builder(root, FetchConfig(), store).build(dataset)


def filled(**objects: bytes) -> MemoryStore:
    store = MemoryStore()
    for name, content in objects.items():
        obstore.put(store, name, content)
    return store


def shard(*members: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def test_class_folders_are_listed_in_the_order_of_the_local_disk(image_root: Path) -> None:
    catalog = build(LocalStore(image_root))
    local = load_index(SourceConfig(dataset="folder", root=image_root), "train")
    assert [name for name in catalog.names if name.startswith("train/")] == [f"train/{path}" for path in local.paths]
    assert catalog.spans[:, 0].tolist() == [WHOLE] * 39
    assert catalog.spans[0, 1] == (image_root / "train/ant/000.png").stat().st_size
    assert all(catalog.tags)


def test_hidden_files_and_others_than_images_are_left_out() -> None:
    store = filled(
        **{"train/a/1.jpg": b"1", "train/a/.x.jpg": b"1", "train/a/notes.txt": b"", "train/a-b/2.jpg": b"22"}
    )
    assert list(build(store).names) == ["train/a/1.jpg", "train/a-b/2.jpg"]


def test_a_catalog_is_saved_and_mapped(tmp_path: Path) -> None:
    save_catalog(tmp_path, build(filled(**{"train/a/1.jpg": b"1", "train/b/é.jpg": b"22"})))
    opened = open_catalog(tmp_path)
    assert (list(opened.names), list(opened.keys)) == (["train/a/1.jpg", "train/b/é.jpg"], [])
    assert opened.spans.tolist() == [[WHOLE, 1], [WHOLE, 2]]
    assert isinstance(opened.spans, np.memmap)


def test_an_index_next_to_a_tar_replaces_reading_its_headers(served: FileServer, image_root: Path) -> None:
    path = served.root / "images.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(image_root, ".")
    config = SourceConfig(dataset="folder", root=served.url("images.tar"))
    walked = load_index(config, "train")
    assert len(served.gets()) > 1
    open_tar(path)  # writes the index
    catalog = build(LocalStore(served.root), served.url("images.tar"))
    local = load_index(SourceConfig(dataset="folder", root=path), "train")
    assert [*walked.paths] == [*local.paths] == list(catalog.names)[:24]
    assert walked.source.read_many([5, 23]) == local.source.read_many([5, 23])
    assert walked.labels.tolist() == local.labels.tolist()
    with open(path, "ab") as file:  # the index is for another size
        file.write(bytes(512))
    assert len(build(LocalStore(served.root), served.url("images.tar")).names) == 39


def test_shards_of_webdataset_give_images_labels_and_splits(served: FileServer) -> None:
    first = shard(("0.cls", b"1"), ("0.jpg", b"zero"), ("1.jpg", b"one"), ("1.cls", b"0\n"))
    second = shard(("2.jpg", b"two"), ("2.cls", b"1"))
    for name, content in {"x-train-0.tar": first, "x-train-1.tar": second, "x-validation-0.tar": second}.items():
        (served.root / name).write_bytes(content)
    root = parse_url(f"file://{served.root}")
    config = SourceConfig(dataset="webdataset", root=root)
    train, val = load_index(config, "train"), load_index(config, "val")
    assert train.source.read_many([0, 1, 2]) == [b"zero", b"one", b"two"]
    assert train.labels.tolist() == [1, 0, 1]
    assert train.class_names == ("0", "1")
    assert train.name(2) == f"{root}/x-train-1.tar/2.jpg"
    assert (len(val), splits_of(config)) == (1, ("train", "val"))
    splits = {"train": {"filenames": ["x-train-1.tar"]}, "validation": {"filenames": ["x-validation-0.tar"]}}
    (served.root / "_info.json").write_text(json.dumps({"splits": splits, "class_names": ["ant", "bee"]}))
    over_http = load_index(SourceConfig(dataset="webdataset", root=served.url("")), "train")
    assert (over_http.source.read_many([0]), over_http.class_names) == ([b"two"], ("ant", "bee"))


def test_the_last_word_that_names_a_split_counts(served: FileServer) -> None:
    content = shard(("0.jpg", b"zero"), ("0.cls", b"0"))
    for name in ("retraining/interval-train_0.tar", "train/x-dev-0.tar", "train/latest/Test0.tar"):
        (served.root / name).parent.mkdir(parents=True, exist_ok=True)
        (served.root / name).write_bytes(content)
    root = parse_url(f"file://{served.root}")
    config = SourceConfig(dataset="webdataset", root=root)
    assert splits_of(config) == ("train", "val", "test")
    names = [load_index(config, split).name(0) for split in ("train", "val", "test")]
    assert names == [
        f"{root}/{n}/0.jpg" for n in ("retraining/interval-train_0.tar", "train/x-dev-0.tar", "train/latest/Test0.tar")
    ]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("0.jpg", b"0")], "has an image without class"),
        ([("0.jpg", b"0"), ("0.cls", b"cat")], "has an image without class"),
        ([("0.txt", b"0")], "or no image, in its train shards"),
    ],
)
def test_shards_without_classes_are_refused(served: FileServer, members: Any, message: str) -> None:
    (served.root / "x-train.tar").write_bytes(shard(*members))
    with pytest.raises(DataError, match=message):
        load_index(SourceConfig(dataset="webdataset", root=parse_url(f"file://{served.root}")), "train")


def test_a_table_of_keys_is_looked_up_with_and_without_a_listing(served: FileServer) -> None:
    for name in ("a.jpg", "b.jpg", "sub/c.jpg"):
        (served.root / name).parent.mkdir(exist_ok=True)
        (served.root / name).write_bytes(name.encode())
    rows = ["path,label,split", "sub/c.jpg,x,train", "a.jpg,y,train", "b.jpg,x,val", ""]
    (served.root / "images.csv").write_text("\n".join(rows))
    for root in (served.url("images.csv"), parse_url(f"file://{served.root}/images.csv")):
        train = load_index(SourceConfig(dataset="csv", root=root), "train")
        assert train.source.read_many([0, 1]) == [b"sub/c.jpg", b"a.jpg"]
        assert (train.labels.tolist(), train.class_names) == ([0, 1], ("x", "y"))
        assert train.name(0) == f"{root.parent}/sub/c.jpg"
    (served.root / "train.csv").write_text("path,label\nb.jpg,x\nsub/c.jpg,y\n")
    folder = SourceConfig(dataset="csv", root=parse_url(f"file://{served.root}"))
    assert load_index(folder, "train").source.read_many([0]) == [b"b.jpg"]


@pytest.mark.parametrize("local", [True, False])
def test_a_missing_image_of_a_table_is_named(served: FileServer, local: bool) -> None:
    (served.root / "images.csv").write_text("path,label,split\na.jpg,x,train\n")
    root = parse_url(f"file://{served.root}/images.csv") if local else served.url("images.csv")
    with pytest.raises(DataError, match=r"a.jpg: (is listed in a table but )?does not exist"):
        load_index(SourceConfig(dataset="csv", root=root), "train")


def test_what_cannot_be_listed_or_found_is_one_sentence(served: FileServer) -> None:
    with pytest.raises(DataError, match=rf"{served.url('')}: has no listing; .*rexnet data pack"):
        load_index(SourceConfig(dataset="folder", root=served.url("")), "train")
    with pytest.raises(DataError, match=r"nothing.tar: does not exist"):
        load_index(SourceConfig(dataset="folder", root=served.url("nothing.tar")), "train")
    (served.root / "x.tar").write_bytes(b"\x1f\x8b not a tar")
    with pytest.raises(DataError, match=r"x.tar: is compressed"):
        load_index(SourceConfig(dataset="folder", root=served.url("x.tar")), "train")
    with pytest.raises(DataError, match=r"images.csv: does not exist"):
        load_index(SourceConfig(dataset="csv", root=served.url("images.csv")), "train")
