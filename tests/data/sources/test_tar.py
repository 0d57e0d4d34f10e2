import io
import os
import pickle
import tarfile
import zipfile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from rexnet.data.sources.tar import TarSource, open_tar
from rexnet.errors import DataError


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def inner(*names: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in names:
            add(tar, name, name.encode())
    return file.getvalue()


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """A tar of two tars and an image; each image's content is its own name."""
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, "n2.tar", inner("n2_1.JPEG", "n2_2.JPEG"))
        add(tar, "n1.tar", inner("n1_7.JPEG"))
        add(tar, "top.jpg", b"top.jpg")
    return path


def read_all(path: Path) -> dict[str, bytes]:
    source = open_tar(path)
    return dict(zip(source.paths, source.read_many(range(len(source))), strict=True))


def place(path: Path) -> Path:
    return path.with_name(f".{path.name}.index.npz")


def test_images_in_tars_within_a_tar_are_read_by_position(nested: Path) -> None:
    expected = {"n2/n2_1.JPEG": b"n2_1.JPEG", "n2/n2_2.JPEG": b"n2_2.JPEG", "n1/n1_7.JPEG": b"n1_7.JPEG"}
    assert read_all(nested) == expected | {"top.jpg": b"top.jpg"}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_strange_names_are_read_in_every_form_of_tar(form: int, tmp_path: Path) -> None:
    names = ["a/" + "deep/" * 25 + "x.jpg", "a/Blüte.png", "a/\udcff.jpg"]
    with tarfile.open(tmp_path / "x.tar", "w", format=form) as tar:
        for name in names:
            add(tar, name, os.fsencode(name))
    assert read_all(tmp_path / "x.tar") == {name: os.fsencode(name) for name in names}


def test_the_index_is_made_once_and_again_when_the_tar_changes(
    nested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_all(nested)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".x.tar.index.npz", "x.tar"]
    with monkeypatch.context() as patch:
        patch.setattr("rexnet.data.sources.tar.scan", lambda *_: pytest.fail("the tar was read again"))
        assert read_all(nested) == first
    with tarfile.open(nested, "w") as tar:
        add(tar, "new.jpg", b"new")
    assert read_all(nested) == {"new.jpg": b"new"}


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 rubbish"])
def test_a_damaged_index_is_made_anew(damage: bytes, nested: Path) -> None:
    first = read_all(nested)
    place(nested).write_bytes(damage)
    assert read_all(nested) == first
    whole = place(nested).read_bytes()
    place(nested).write_bytes(whole[: len(whole) // 2])
    assert read_all(nested) == first


def test_beside_a_tar_that_may_not_be_written_the_cache_folder_keeps_the_index(
    nested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place(nested).mkdir()  # nothing can be renamed to a folder, not even by root
    first = read_all(nested)
    (kept,) = (tmp_path / "cache" / "rexnet").iterdir()
    assert kept.name.endswith(".x.tar.index.npz")
    with monkeypatch.context() as patch:
        patch.setattr("rexnet.data.sources.tar.scan", lambda *_: pytest.fail("the tar was read again"))
        assert read_all(nested) == first
    kept.unlink()
    kept.mkdir()
    assert read_all(nested) == first
    assert "its index could not be saved" in caplog.text


def test_a_tar_cut_anywhere_is_refused_when_it_is_indexed(nested: Path, tmp_path: Path) -> None:
    content = nested.read_bytes()
    end = len(content.rstrip(b"\0")) + 511 & ~511  # what follows are zeros, of which one block is needed
    cut = tmp_path / "cut.tar"
    for length in (*range(1, end + 1, 257), *range(512, end + 1, 512)):
        cut.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"cut\.tar: is (truncated or damaged at byte|not a valid tar)"):
            open_tar(cut)
        assert not place(cut).exists()


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ("a.jpg", "b.jpg", "c.jpg"):
            add(tar, name, b"x" * 512)
    content = bytearray(path.read_bytes())
    content[1024 + 10] ^= 1  # the name of b.jpg, which the header's checksum covers
    path.write_bytes(content)
    with pytest.raises(DataError, match="truncated or damaged at byte 1,024"):
        open_tar(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_in_place_of_an_image_is_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        add(tar, "a.jpg", b"x")
        member = tarfile.TarInfo("b.jpg")
        member.type, member.linkname = kind, "a.jpg"
        tar.addfile(member)
    with pytest.raises(DataError, match=r"b\.jpg is a link; pack the images themselves"):
        open_tar(tmp_path / "x.tar")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_tar_is_refused_with_the_reason(mode: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", mode) as tar:  # type: ignore[call-overload]
        add(tar, "a.jpg", b"x")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.jpg", b"x")
    for name in ("x.tar", "x.zip"):
        with pytest.raises(DataError, match="is compressed, so images cannot be read by position; decompress it"):
            open_tar(tmp_path / name)


def test_a_tar_that_changed_while_it_is_in_use_is_noticed(nested: Path) -> None:
    source = open_tar(nested)
    packed = pickle.dumps(source)
    os.truncate(nested, 600)
    with pytest.raises(DataError, match=r"x\.tar: ends at byte [\d,]+, inside an image"):
        source.read(len(source) - 1)
    with pytest.raises(DataError, match="has changed since it was indexed"):
        pickle.loads(packed)
    nested.unlink()
    with pytest.raises(DataError, match="No such file"):
        pickle.loads(packed)


def read_here(source: TarSource, results: Any) -> None:
    results.put(source.read_many([0, 1, 2, 3] * 50))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_several_processes_read_one_archive_at_once(method: str, nested: Path) -> None:
    context = get_context(method)
    source = open_tar(nested)
    results = context.Queue()
    children = [context.Process(target=read_here, args=(source, results)) for _ in range(3)]
    for child in children:
        child.start()
    found = [results.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    assert found == [[b"n1_7.JPEG", b"n2_1.JPEG", b"n2_2.JPEG", b"top.jpg"] * 50] * 3
