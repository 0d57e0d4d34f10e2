import pickle

import pytest

from rexnet.data.sources.names import Names


def test_names_behave_like_a_list_of_strings() -> None:
    given = ["", "a/b.jpg", "\udcff", "花.png", "a/b.jpg"]
    names = Names.pack(iter(given))
    assert (list(names), len(names), names[-1], names[1:3]) == (given, 5, "a/b.jpg", ["a/b.jpg", "\udcff"])
    assert list(Names.pack([])) == []
    with pytest.raises(IndexError):
        names[5]


def test_names_survive_pickling_for_spawned_processes_and_take_little_memory() -> None:
    given = [f"n01440764/n01440764_{i:05d}.JPEG" for i in range(1000)]
    names = Names.pack(given)
    assert list(pickle.loads(pickle.dumps(names))) == given
    assert (names.text.nbytes, names.ends.nbytes) == (30_000, 8000)
