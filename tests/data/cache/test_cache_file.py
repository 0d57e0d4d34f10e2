import multiprocessing
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from rexnet.data.cache.cache_file import ImageCache, open_cache, shrink, write_cache


def image(position: int) -> np.ndarray:
    """Returns an image whose size and bytes depend on the position."""
    generator = np.random.default_rng(position)
    return generator.integers(0, 256, (20 + position % 7, 30 + position % 5, 3), dtype=np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A cache file of 40 images."""
    images = [image(position) for position in range(40)]
    batches = [images[start : start + 7] for start in range(0, 40, 7)]
    with open(tmp_path / "a.images", "wb") as file:
        pixels = ((([one.shape for one in some]), np.concatenate([one.ravel() for one in some])) for some in batches)
        write_cache(file, pixels, 40)  # type: ignore[arg-type]
    return tmp_path / "a.images"


def test_images_come_out_as_they_were_written_and_cannot_be_changed(path: Path) -> None:
    cache = open_cache(path, 40)
    assert cache is not None
    assert len(cache) == 40
    for position in (39, 0, 3):
        np.testing.assert_array_equal(cache[position], image(position))
        assert not cache[position].flags.writeable


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "longer", "unfinished", "other count"])
def test_a_file_that_is_not_a_complete_cache_is_not_opened(damage: str, path: Path) -> None:
    match damage:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "cut":
            os.truncate(path, path.stat().st_size - 1)
        case "longer":
            os.truncate(path, path.stat().st_size + 1)
        case "unfinished":
            content = path.read_bytes()
            path.write_bytes(bytes(100) + content[100:])
    assert open_cache(path, 41 if damage == "other count" else 40) is None


def answer(cache: ImageCache, position: int, queue: "multiprocessing.SimpleQueue[bytes]") -> None:
    queue.put(cache[position].tobytes())


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_cache_reaches_other_processes(method: str, path: Path) -> None:
    cache = open_cache(path, 40)
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    process = context.Process(target=answer, args=(cache, 3, queue))  # type: ignore[attr-defined]
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
