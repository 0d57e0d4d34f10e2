from pathlib import Path

import pytest
from published import seen, touch, write

from rexnet.data.datasets.aircraft import index_aircraft
from rexnet.errors import DataError


def aircraft(root: Path) -> Path:
    lists = {
        "train": "0000001 707-320\n0000002 A300B4\n",
        "val": "0000003 Boeing 717\n",
        "test": "0000004 A300B4\n0000005 707-320\n",
    }
    touch(root / "data" / "images", (f"000000{number}.jpg" for number in range(1, 6)))
    files = {f"data/images_variant_{split}.txt": text for split, text in lists.items()}
    return write(root, files | {"data/variants.txt": "707-320\nBoeing 717\nA300B4\n"})


def test_aircraft_have_three_splits_and_variants_of_several_words(tmp_path: Path) -> None:
    root = aircraft(tmp_path / "fgvc-aircraft-2013b")
    for place in (tmp_path, root, root / "data"):
        assert seen(index_aircraft(place, "val")) == [("0000003.jpg", "Boeing 717")]
    assert seen(index_aircraft(root, "train")) == [("0000001.jpg", "707-320"), ("0000002.jpg", "A300B4")]
    (root / "data" / "images_variant_test.txt").write_text("0000004 Concorde\n")
    with pytest.raises(DataError, match=r"images_variant_test\.txt: has 0000004\.jpg of 'Concorde', which is not a"):
        index_aircraft(root, "test")
