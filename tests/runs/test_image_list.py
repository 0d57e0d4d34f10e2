"""The list of a run's images tells every change that gives a label or a position another meaning."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import write_images

from rexnet.config.data_schema import SourceConfig
from rexnet.data.datasets import load_index
from rexnet.data.datasets.index import Index, Split
from rexnet.runs.image_list import IMAGE_LIST, describe_changes, write_image_list


def indexes(root: Path) -> dict[Split, Index]:
    config = SourceConfig(dataset="csv" if root.suffix == ".csv" else "folder", root=root)
    return {"train": load_index(config, "train"), "val": load_index(config, "val")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, count in (("train", 3), ("val", 2)):
        for number, name in enumerate(("ant", "bee")):
            write_images(tmp_path / "data" / split / name, count, hue=number)
    return tmp_path / "data"


def change_nothing(root: Path) -> None:
    root.joinpath("train/notes.txt").write_text("no image")


def add(root: Path) -> None:
    write_images(root / "train/bee", 4, hue=1)


def remove(root: Path) -> None:
    root.joinpath("val/ant/001.png").unlink()


def move_to_another_class(root: Path) -> None:
    root.joinpath("train/ant/000.png").rename(root / "train/bee/x\n.png")


def move_to_another_split(root: Path) -> None:
    root.joinpath("train/ant/000.png").rename(root / "val/ant/9.png")


CHANGES = {
    change_nothing: {},
    add: {"train": "1 added (bee/003.png)"},
    remove: {"val": "1 removed (ant/001.png)"},
    move_to_another_class: {"train": r"1 added (bee/x\n.png), 1 removed (ant/000.png)"},
    move_to_another_split: {"train": "1 removed (ant/000.png)", "val": "1 added (ant/9.png)"},
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_of_the_images_is_described(change: Callable[[Path], None], root: Path, tmp_path: Path) -> None:
    write_image_list(tmp_path, indexes(root))
    change(root)
    assert describe_changes(tmp_path, indexes(root)) == CHANGES[change]


def test_new_labels_and_a_new_order_of_a_table_are_described(root: Path, tmp_path: Path) -> None:
    rows = [f"{split}/{name}/000.png,{name},{split}" for split in ("train", "val") for name in ("ant", "bee")]
    table = root / "table.csv"

    def described(*lines: str) -> dict[Split, str]:
        table.write_text("\n".join(["path,label,split", *lines]))
        return describe_changes(tmp_path, indexes(table))

    assert described(*rows) == {}  # there is no list yet
    write_image_list(tmp_path, indexes(table))
    swapped = [row.replace(",ant,", ",x,").replace(",bee,", ",ant,").replace(",x,", ",bee,") for row in rows[:2]]
    assert described(*swapped, *rows[2:]) == {
        "train": "2 with another label (train/ant/000.png, train/bee/000.png)",
    }
    assert described(*rows[1::-1], *rows[2:]) == {"train": "the same in another order"}


def test_a_damaged_list_is_named(root: Path, tmp_path: Path) -> None:
    tmp_path.joinpath(IMAGE_LIST).write_bytes(b"\x1f\x8b\x08\0")
    assert describe_changes(tmp_path, {"val": indexes(root)["val"]}) == {
        "val": "unknown, since images.csv.gz cannot be read (EOFError: Compressed file ended before the end-of-stream "
        "marker was reached)"
    }
