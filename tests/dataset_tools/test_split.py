import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest
from conftest import write_images

from rexnet.cli import main
from rexnet.config.data_schema import SourceConfig
from rexnet.data.datasets import load_index
from rexnet.data.datasets.csv_table import index_csv
from rexnet.dataset_tools.split import write_split
from rexnet.errors import ConfigError, DataError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes of 10 images of noise, not divided; one image of the first lies there twice."""
    for number, name in enumerate(("ant", "bee")):
        write_images(tmp_path / "images" / name, 10, hue=number, size=(8, 8))
    shutil.copy(tmp_path / "images" / "ant" / "004.png", tmp_path / "images" / "ant" / "copy of 4.png")
    return tmp_path / "images"


def rows(table: Path) -> list[dict[str, str]]:
    with open(table, newline="") as file:
        return list(csv.DictReader(file))


def test_each_class_has_its_share_in_each_split_and_copies_stay_together(images: Path) -> None:
    table = images / "split.csv"
    counts = write_split(images, table, val=0.2, test=0.1)
    found = Counter((row["label"], row["split"]) for row in rows(table))
    assert (found["bee", "train"], found["bee", "val"], found["bee", "test"]) == (7, 2, 1)
    assert sum(counts.values()) == 21
    assert counts == Counter(row["split"] for row in rows(table))
    assert len({row["split"] for row in rows(table) if "4" in Path(row["path"]).stem and row["label"] == "ant"}) == 1
    for split, count in counts.items():
        index = load_index(SourceConfig(dataset="csv", root=table), split)  # type: ignore[arg-type]
        assert (len(index), index.class_names) == (count, ("ant", "bee"))


def test_what_is_held_back_depends_on_the_bytes_alone(images: Path, tmp_path: Path) -> None:
    write_split(images, tmp_path / "first.csv", val=0.3)
    shutil.copytree(images, tmp_path / "elsewhere" / "train")
    for file in (tmp_path / "elsewhere" / "train" / "bee").iterdir():
        file.rename(file.with_name(f"renamed {file.name}"))
    write_split(tmp_path / "elsewhere", tmp_path / "second.csv", val=0.3)

    def held_back(table: Path) -> set[bytes]:
        return {(table.parent / row["path"]).read_bytes() for row in rows(table) if row["split"] == "val"}

    assert held_back(tmp_path / "first.csv") == held_back(tmp_path / "second.csv")
    assert rows(tmp_path / "second.csv")[0]["path"].startswith("elsewhere/train/ant/")


def test_it_is_offered_where_folders_are_not_divided_and_trains(
    images: Path, small_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--config", "finetune/folder.yaml", *small_run]
    assert main([*arguments, f"data.root={images}"]) == 2
    assert f"it contains ant/, bee/; to hold out images for validation: rexnet data split {images}" in (
        capsys.readouterr().err
    )
    assert main(["data", "split", str(images)]) == 0
    assert f"{images / 'split.csv'}  (16 train, 5 val)" in capsys.readouterr().out
    assert main([*arguments, "data.dataset=csv", f"data.root={images / 'split.csv'}"]) == 0
    shutil.rmtree(images / "bee")
    assert main(["data", "split", str(images)]) == 2
    assert "split.csv: exists already; delete it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shares", "error", "message"),
    [
        ((0.0, 0.0), ConfigError, "--val 0 --test 0: should be fractions that leave images"),
        ((0.5, 0.5), ConfigError, "leave images for training"),
        ((0.2, 0.1), DataError, r"bee: too few different images \(2\) for 3 splits"),
    ],
)
def test_what_cannot_be_divided_is_refused(
    shares: tuple[float, float], error: type[Exception], message: str, images: Path, tmp_path: Path
) -> None:
    for file in sorted((images / "bee").iterdir())[2:]:
        file.unlink()
    with pytest.raises(error, match=message):
        write_split(images, tmp_path / "split.csv", *shares)
    assert not (tmp_path / "split.csv").exists()


def test_a_table_elsewhere_has_absolute_paths(images: Path, tmp_path: Path) -> None:
    (images / "bee" / "000.png").rename(images / "bee" / "\udce9, \n.png")
    write_split(images, tmp_path / "other" / "split.csv", 0.2)
    write_split(images, tmp_path / "split.csv", 0.2)
    far, near = (index_csv(tmp_path / name, "train") for name in ("other/split.csv", "split.csv"))
    assert (far.root, near.root) == (images, tmp_path)
    assert [f"images/{path}" for path in far.paths] == list(near.paths)
    assert "bee/\udce9, \n.png" in {*far.paths, *index_csv(tmp_path / "other/split.csv", "val").paths}


def test_where_nothing_can_be_written_another_place_is_asked_for(images: Path) -> None:
    with pytest.raises(ConfigError, match=r"/proc/split\.csv: cannot be written: .*; choose another file with --out"):
        write_split(images, Path("/proc/split.csv"), 0.2)


def test_divided_folders_stay_so(images: Path, tmp_path: Path) -> None:
    shutil.move(images / "bee", tmp_path / "divided" / "test" / "bee")
    with pytest.raises(DataError, match=r"divided: is split already: it has test/"):
        write_split(tmp_path / "divided", tmp_path / "split.csv", 0.2)
