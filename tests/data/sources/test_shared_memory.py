import os
import pickle
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rexnet.data.datasets.index import Index, build_index
from rexnet.data.sources.shared_memory import Names, share


def describe(values: np.ndarray, names: Names, index: Index, results: Any) -> None:
    """In a child process: what arrived, and the memory file behind it."""
    results.put((values.tolist(), list(names), index.name(1), inode(values), values.flags.writeable))


def inode(values: Any) -> int | None:
    return None if values.descriptor is None else os.fstat(values.descriptor).st_ino


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_child_processes_map_the_memory_of_their_parent(method: str) -> None:
    context = get_context(method)
    results = context.Queue()
    values, names = share(np.arange(6).reshape(2, 3)), Names.pack(["a", "Blüte", os.fsdecode(b"\xff.jpg")])
    index = build_index(Path("/data"), ["x.jpg", "y.jpg"], [0, 1], ("x", "y"))
    child = context.Process(target=describe, args=(values, names, index, results))
    child.start()
    numbers, texts, name, file, writeable = results.get(timeout=60)
    child.join()
    assert numbers == [[0, 1, 2], [3, 4, 5]]
    assert texts == ["a", "Blüte", "\udcff.jpg"]
    assert (name, writeable) == ("/data/y.jpg", False)
    assert file == inode(values) is not None


def test_an_ordinary_pickle_is_a_copy_and_views_are_ordinary() -> None:
    values = share(np.arange(4))
    copy = pickle.loads(pickle.dumps(values))
    assert copy.tolist() == [0, 1, 2, 3]
    assert inode(values[1:]) is None
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1


def test_names_behave_like_a_list_of_strings() -> None:
    given = ["", "a/b.jpg", "\udcff", "花.png", "a/b.jpg"]
    names = Names.pack(iter(given))
    assert (list(names), len(names), names[-1], names[1:3]) == (given, 5, "a/b.jpg", ["a/b.jpg", "\udcff"])
    assert list(Names.pack([])) == []
    with pytest.raises(IndexError):
        names[5]


def test_an_index_of_a_million_images_takes_less_than_80_bytes_each() -> None:
    n = 20_000  # benchmarks/index_memory.py measures the whole
    spans = np.zeros((n, 2), np.int64)
    index = build_index(Path(), (f"n01440764/n01440764_{i:05d}.JPEG" for i in range(n)), np.zeros(n), ("a",))
    arrays = (index.paths.text, index.paths.ends, index.labels, share(spans))  # type: ignore[attr-defined]
    assert sum(array.nbytes for array in arrays) < 80 * n
    assert all(inode(array) for array in arrays)
