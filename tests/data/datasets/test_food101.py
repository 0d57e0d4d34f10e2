from pathlib import Path

import pytest
from published import seen, touch, write

from rexnet.data.datasets.food101 import index_food101
from rexnet.errors import DataError


def food(root: Path) -> Path:
    touch(root / "images", ("apple_pie/1.jpg", "apple_pie/2.jpg", "waffles/1.jpg", "waffles/2.jpg"))
    files = {"train.txt": "waffles/1\napple_pie/1\n", "test.txt": "apple_pie/2\nwaffles/2\n"}
    return write(
        root, {f"meta/{name}": text for name, text in files.items()} | {"meta/classes.txt": "apple_pie\nwaffles"}
    )


def test_food_is_split_as_published(tmp_path: Path) -> None:
    root = food(tmp_path / "food-101")
    assert seen(index_food101(tmp_path, "train")) == [("waffles/1.jpg", "waffles"), ("apple_pie/1.jpg", "apple_pie")]
    assert seen(index_food101(root, "val")) == [("apple_pie/2.jpg", "apple_pie"), ("waffles/2.jpg", "waffles")]
    (root / "meta" / "test.txt").write_text("soup/1\n")
    with pytest.raises(DataError, match=r"test\.txt: has soup/1\.jpg of 'soup', which is not a published class"):
        index_food101(root, "test")
