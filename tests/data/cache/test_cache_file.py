import logging
import multiprocessing
import os
import signal
import stat
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from rexnet.data.cache.cache_file import MOST_BYTES, ImageCache, shrink
from rexnet.errors import DataError


def image(position: int) -> np.ndarray:
    """Another size and other bytes for each position."""
    generator = np.random.default_rng(position)
    return generator.integers(0, 256, (20 + position % 7, 30 + position % 5, 3), dtype=np.uint8)


def never() -> np.ndarray:
    raise AssertionError("this image should be in the cache")


def test_an_image_is_made_once_and_read_from_then_on(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "a.images", count=40, capacity=200_000)
    for position in (3, 0, 39):
        np.testing.assert_array_equal(cache.take(position, lambda position=position: image(position)), image(position))
    for position in (39, 3, 0):
        kept = cache.take(position, never)
        np.testing.assert_array_equal(kept, image(position))
        assert not kept.flags.writeable
    assert cache.filled == 3


def test_another_process_opens_the_same_images(tmp_path: Path) -> None:
    first = ImageCache(tmp_path / "a.images", count=5, capacity=50_000)
    first.put(2, image(2))
    second = ImageCache(tmp_path / "a.images", count=5, capacity=999_999)
    np.testing.assert_array_equal(second.take(2, never), image(2))
    second.put(4, image(4))
    np.testing.assert_array_equal(first.take(4, never), image(4))
    assert stat.S_IMODE((tmp_path / "a.images").stat().st_mode) == 0o600


def test_space_is_taken_only_by_what_is_there(tmp_path: Path) -> None:
    ImageCache(tmp_path / "a.images", count=1000, capacity=1 << 30)
    assert (tmp_path / "a.images").stat().st_blocks * 512 < 100_000


def test_a_full_cache_says_so_once_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = ImageCache(tmp_path / "a.images", count=20, capacity=6_000)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            for position in range(20):
                np.testing.assert_array_equal(cache.take(position, lambda p=position: image(p)), image(position))
    assert 2 <= cache.filled <= 3
    assert len(caplog.messages) == 1
    assert "is full" in caplog.messages[0]


def test_what_lies_beyond_the_reach_of_a_word_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_BYTES == 2**40
    monkeypatch.setattr("rexnet.data.cache.cache_file.MOST_BYTES", 6_000)
    cache = ImageCache(tmp_path / "a.images", count=20, capacity=1_000_000)
    fill(cache, list(range(20)))
    assert 2 <= cache.filled <= 3


def test_a_name_that_vanishes_while_it_is_opened_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, look = tmp_path / "a.images", Path.stat
    vanished: list[Path] = []

    def vanish(self: Path, **options: bool) -> os.stat_result:
        if self == path and path not in vanished:
            vanished.append(self)
            os.unlink(path)
        return look(self, **options)

    monkeypatch.setattr(Path, "stat", vanish)
    ImageCache(path, count=1, capacity=1000)
    assert vanished == [path]
    assert os.path.getsize(path) > 1000


def test_an_error_while_writing_is_a_full_cache_and_leaves_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ImageCache(tmp_path / "a.images", count=3, capacity=100_000)
    written = os.pwrite

    def refuse(file: int, content: bytes, offset: int) -> int:
        if len(content) > 8:
            raise OSError(28, "No space left on device")
        return written(file, content, offset)

    monkeypatch.setattr("os.pwrite", refuse)
    np.testing.assert_array_equal(cache.take(1, lambda: image(1)), image(1))
    assert cache.filled == 0


@pytest.mark.parametrize("damage", ["cut", "foreign", "other boot", "other count", "empty head"])
def test_a_file_that_does_not_fit_is_begun_anew_without_harming_its_users(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "a.images"
    old = ImageCache(path, count=5, capacity=50_000)
    old.put(2, image(2))
    with open(path, "r+b") as file:
        match damage:
            case "foreign":
                file.write(b"something else entirely")
            case "other boot":
                file.seek(40)
                file.write(b"x" * 36)
            case "empty head":
                file.write(bytes(80))
            case "cut":
                file.seek(32)
                file.write((10**9).to_bytes(8, "little"))
    new = ImageCache(path, count=6 if damage == "other count" else 5, capacity=50_000)
    assert new.filled == 0
    np.testing.assert_array_equal(old.take(2, never), image(2))


def test_a_finished_cache_outlives_the_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.images"
    cache = ImageCache(path, count=2, capacity=50_000)
    cache.put(0, image(0))
    cache.put(1, image(1))
    cache.finish()
    monkeypatch.setattr("rexnet.data.cache.cache_file._boot", lambda: b"a later one")
    np.testing.assert_array_equal(ImageCache(path, 2, 50_000).take(1, never), image(1))


def fill(cache: ImageCache, positions: list[int]) -> None:
    for position in positions:
        cache.take(position, lambda p=position: image(p))


def test_processes_that_fill_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "a.images", count=300, capacity=8_000_000)
    context = multiprocessing.get_context("fork")
    orders = [np.random.default_rng(seed).permutation(300).tolist() for seed in range(4)]
    processes = [context.Process(target=fill, args=(cache, order)) for order in orders]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert cache.filled == 300
    for position in range(300):
        np.testing.assert_array_equal(cache.take(position, never), image(position))


def fill_for_ever(path: Path) -> None:
    for turn in range(10**9):
        cache = ImageCache(path, count=2000, capacity=60_000_000)
        if cache.filled == 2000:
            path.unlink()
        fill(cache, np.random.default_rng(turn).permutation(2000).tolist())


def test_processes_killed_while_filling_leave_only_whole_images(tmp_path: Path) -> None:
    path = tmp_path / "a.images"
    context = multiprocessing.get_context("fork")
    seen = 0
    for delay in (0.02, 0.05, 0.08, 0.11):
        processes = [context.Process(target=fill_for_ever, args=(path,)) for _ in range(2)]
        for process in processes:
            process.start()
        deadline = time.monotonic() + delay
        while time.monotonic() < deadline:
            pass
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        cache = ImageCache(path, count=2000, capacity=60_000_000)
        for position in np.flatnonzero(cache._words):
            np.testing.assert_array_equal(cache.take(int(position), never), image(int(position)))
            seen += 1
    assert seen > 100


def answer(cache: ImageCache, position: int, queue: "multiprocessing.SimpleQueue[bytes]") -> None:
    queue.put(cache.take(position, never).tobytes())


def test_a_cache_without_a_name_reaches_processes_that_are_not_forked(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "a.images", count=5, capacity=50_000)
    cache.unlink()
    assert list(tmp_path.iterdir()) == []
    cache.put(3, image(3))
    context = multiprocessing.get_context("forkserver")
    queue = context.SimpleQueue()
    process = context.Process(target=answer, args=(cache, 3, queue))
    process.start()
    assert queue.get() == image(3).tobytes()
    process.join()


def test_images_are_reduced_to_the_short_side_and_never_enlarged() -> None:
    wide = cv2.resize(image(1), (400, 200))
    assert shrink(wide, 100).shape == (100, 200, 3)
    assert shrink(wide.transpose(1, 0, 2), 50).shape == (100, 50, 3)
    assert shrink(wide, 200) is wide
    assert shrink(wide, 500) is wide
    checks = np.indices((64, 64)).sum(0) % 2 * 200
    assert set(np.unique(shrink(np.repeat(checks[..., None], 3, 2).astype(np.uint8), 32))) == {100}


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"data\.cache: .*a\.images cannot be made: "):
        ImageCache(tmp_path / "file" / "a.images", 1, 1)
