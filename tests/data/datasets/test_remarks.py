"""What a user may not expect of the images of a run is said in a sentence each."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import write_images

from rexnet.config import load_config
from rexnet.data.datasets import load_index
from rexnet.data.datasets.remarks import describe_splits, remark_on_data


def said(root: Path, *overrides: str) -> list[str]:
    data = load_config("finetune/folder.yaml", [f"data.root={root}", "data.batch_size=8", *overrides]).data
    train, val = load_index(data, "train"), load_index(data, "val")
    return [remark.replace(f"{root}/", "") for remark in remark_on_data(data, train, val)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """32 training and 21 validation images of 3 classes."""
    for number, (name, train, val) in enumerate((("ant", 16, 7), ("bee", 8, 7), ("cow", 8, 7))):
        write_images(tmp_path / "train" / name, train, hue=number, size=(8, 8))
        write_images(tmp_path / "val" / name, val, hue=number, size=(8, 8))
    return tmp_path


def leave_out(root: Path) -> None:
    for path in ("train/ant/x.HEIC", "val/cow/notes.txt", "val/cow/y"):
        (root / path).write_bytes(b"x")


def nest(root: Path) -> None:
    shutil.move(root / "train/ant", root / "train/animal/ant")
    (root / "val/ant").rename(root / "val/animal")


def drop_one(root: Path) -> None:
    (root / "val/ant/000.png").unlink()


def keep_one(root: Path) -> None:
    for path in sorted(root.glob("val/*/*.png"))[1:]:
        path.unlink()
    table = [f"{path.relative_to(root)},{path.parent.name},{path.parts[-3]}" for path in root.glob("*/*/*.png")]
    (root / "table.csv").write_text("\n".join(["path,label,split", *table]))


def link_val(root: Path) -> None:
    shutil.rmtree(root / "val")
    (root / "val").symlink_to("train")


def add_seven(root: Path) -> None:
    write_images(root / "train/bee", 15, hue=1, size=(8, 8))


@pytest.mark.parametrize(
    ("change", "overrides", "remarks"),
    [
        (lambda root: None, [], []),
        (
            leave_out,
            [],
            [
                "train: left out 1 .heic (ant/x.HEIC); convert .heic to JPEG, for which there is the package "
                "pillow-heif",
                "val: left out 1 .txt (cow/notes.txt), 1 without suffix (cow/y); add a suffix, or list the files in a "
                "table (data.dataset=csv)",
            ],
        ),
        (
            nest,
            [],
            [
                "train: 16 of 32 images are in folders of a class folder, such as animal/ant/000.png; their class is "
                "the first folder, animal"
            ],
        ),
        (drop_one, [], ["20 validation images are too few: each changes top-1 by 5 points; hold out more"]),
        (
            keep_one,
            ["data.dataset=csv", "data.root=table.csv"],
            [
                "no validation image of bee, cow; the accuracy does not cover them",
                "one validation image is too few: each changes top-1 by 100 points; hold out more",
            ],
        ),
        (
            link_val,
            [],
            [
                "32 validation images are training images, too, such as ant/000.png; the accuracy on them says nothing "
                "about new images"
            ],
        ),
        (
            add_seven,
            [],
            [
                "each epoch leaves out 7 of 39 training images, which fill no batch of 8; data.last_batch=pad uses all",
            ],
        ),
        (add_seven, ["data.last_batch=pad"], []),
        (add_seven, ["data.batch_size=18"], []),  # 3 of 39
    ],
)
def test_remarks(change: Callable[[Path], None], overrides: list[str], remarks: list[str], root: Path) -> None:
    change(root)
    overrides = [text.replace("table.csv", str(root / "table.csv")) for text in overrides]
    assert said(root, *overrides) == remarks


@pytest.mark.parametrize(
    ("folders", "text"),
    [
        (["val"], ""),
        (["dev", "test"], "; the split test is not used (`rexnet evaluate RUN --split test` takes it)"),
        (["test"], "; validation uses the split test, because there is no other"),
    ],
)
def test_the_use_of_the_test_split_is_said(folders: list[str], text: str, root: Path) -> None:
    for folder in folders:
        if folder != "val":
            shutil.copytree(root / "val", root / folder)
    if "val" not in folders:
        shutil.rmtree(root / "val")
    data = load_config("finetune/folder.yaml", [f"data.root={root}"]).data
    assert describe_splits(data) == text
    assert describe_splits(data.model_copy(update={"train_on": "train+val"})) == ""
