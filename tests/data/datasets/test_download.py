import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from rexnet.config.data_schema import SourceConfig
from rexnet.data.datasets import download, load_index
from rexnet.data.datasets.download import Remote, download_dataset, unpack
from rexnet.errors import DataError

unpacks = pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="Python before 3.11.4 unpacks nothing safely")


def publish(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, md5: str | None = None) -> Path:
    """Offers two classes of birds under a made-up address."""
    folder, address = served
    texts = {
        "images.txt": "1 001.Crow/1.jpg\n2 002.Jay/2.jpg\n",
        "classes.txt": "1 001.Crow\n2 002.Jay\n",
        "image_class_labels.txt": "1 1\n2 2\n",
        "train_test_split.txt": "1 1\n2 0\n",
        "images/001.Crow/1.jpg": "x",
        "images/002.Jay/2.jpg": "y",
    }
    archive = folder / "birds.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in texts.items():
            member = tarfile.TarInfo(f"CUB_200_2011/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    found = hashlib.md5(archive.read_bytes()).hexdigest()
    remote = Remote(f"{address}/birds.tgz", md5 or found, "CUB_200_2011")
    monkeypatch.setitem(download.SOURCES, "cub200", (remote,))
    return archive


@unpacks
def test_a_data_set_is_fetched_once_and_nothing_else_is_left(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = publish(served, monkeypatch)
    config = SourceConfig(dataset="cub200", root=tmp_path / "data" / "birds", download=True)
    assert list(load_index(config, "train").paths) == ["001.Crow/1.jpg"]
    assert sorted(path.name for path in config.root.iterdir()) == [".download.lock", "CUB_200_2011"]
    archive.unlink()  # from now on the address is dead
    assert list(load_index(config, "test").paths) == ["002.Jay/2.jpg"]
    download_dataset("cub200", config.root / "CUB_200_2011")


@unpacks
def test_a_wrong_checksum_is_said_and_the_file_is_removed(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(served, monkeypatch, md5="0" * 32)
    with pytest.raises(DataError, match=r"cannot be downloaded: has another MD5 than 0{32}; get birds\.tgz"):
        download_dataset("cub200", tmp_path / "birds")
    assert [path.name for path in (tmp_path / "birds").iterdir()] == [".download.lock"]


@unpacks
def test_a_dead_address_is_said(served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(served, monkeypatch).unlink()
    message = r"/birds\.tgz: cannot be downloaded: HTTPError: .*404.*; get birds\.tgz elsewhere"
    with pytest.raises(DataError, match=message):
        download_dataset("cub200", tmp_path)
    monkeypatch.setitem(download.SOURCES, "cub200", (Remote("http://127.0.0.1:9/birds.tgz", "0" * 32, "x"),))
    with pytest.raises(DataError, match=r"cannot be downloaded: URLError: .*refused"):
        download_dataset("cub200", tmp_path)


@unpacks
def test_an_archive_that_was_put_there_by_hand_is_used(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    publish(served, monkeypatch).rename(tmp_path / "data" / "birds.tgz")
    download_dataset("cub200", tmp_path / "data")
    assert (tmp_path / "data" / "CUB_200_2011" / "images.txt").is_file()


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("imagenet", "needs a registration at https://image-net.org"),
        ("cars", "the address of Stanford Cars is gone"),
        ("folder", "your own folders have no address"),
        ("csv", "your own tables have no address"),
    ],
)
def test_what_has_no_public_address_says_so(dataset: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"data\.download: .*{message}"):
        download_dataset(dataset, tmp_path)


def test_a_python_that_cannot_unpack_safely_says_so_before_it_fetches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    message = r"^data\.download: Python 3\.11\.4 or newer unpacks .*; unpack https://data\.caltech.* into .*/new$"
    with pytest.raises(DataError, match=message):
        download_dataset("cub200", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_every_source_is_checked_by_a_sum() -> None:
    remotes = [remote for remotes in download.SOURCES.values() for remote in remotes]
    assert len(remotes) == 8
    assert all(len(remote.md5) == 32 and remote.url.startswith("http") for remote in remotes)
    # The studies read CIFAR, and only as its archive unpacks.
    assert download.SOURCES.keys() - {"cifar10", "cifar100"} == download.OTHER_LAYOUTS.keys()


def hostile(path: Path, kind: str) -> None:
    member = tarfile.TarInfo("good/x.txt")
    match kind:
        case "absolute":
            member.name = str(path.parent / "escaped")
        case "parent":
            member.name = "../../escaped"
        case "link":
            member.type, member.linkname = tarfile.SYMTYPE, "../../escaped"
        case "hard link":
            member.type, member.linkname = tarfile.LNKTYPE, "../../escaped"
        case "pipe":
            member.type = tarfile.FIFOTYPE
        case "too large":
            member.size = 1 << 40
    path.write_bytes(member.tobuf() + bytes(2 * tarfile.BLOCKSIZE))  # without the content that `size` claims


@unpacks
@pytest.mark.parametrize("kind", ["absolute", "parent", "link", "hard link", "pipe", "too large"])
def test_an_archive_can_write_nothing_but_its_own_folder(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    hostile(tmp_path / "x.tar", kind)
    with pytest.raises(DataError, match=r"x\.tar: (cannot be unpacked|does not contain good)"):
        unpack(tmp_path / "x.tar", root, "good")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["root", "x.tar"]
