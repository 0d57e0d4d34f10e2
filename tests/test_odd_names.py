"""Class names of any text and file names of any bytes, through every command that reads or writes them."""

import csv
import html
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SMALL_RUN, write_images

import rexnet
from rexnet.cli import main

LABELS = ("no", "null", "1e5", "2024-05-01", "12", "~", "-", "=1+1", "caf\xe9", "数据集", "हिन्दी", "العربية", "🐈")
PUNCTUATION = ("$x_1$ & <b>|*_`[z]", "true, 'q' \"d\"", "a;b", "\\n", "100% {x}", "ü" * 100, "a" * 200)
NAMES = tuple(sorted(LABELS + PUNCTUATION))
FILES = ("a\udce9.png", 'line\nbreak, "q".png')


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders as a Mac (train) and Linux (val) name them, with two images each."""
    root = tmp_path_factory.mktemp("names")
    write_images(root / "x", 2, hue=1, size=(8, 8))
    images = sorted((root / "x").iterdir())
    for name in NAMES:
        for split, folder in (("train", name.replace("\xe9", "e\u0301")), ("val", name)):
            (root / split / folder).mkdir(parents=True)
            for image, file in zip(images, FILES, strict=True):
                os.link(image, root / split / folder / file)
    return root


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on these folders, with pictures and report, started from a terminal that shows ASCII only."""
    runs = tmp_path_factory.mktemp("runs")
    pictures = ["trainer.pictures_every_epochs=1", "trainer.report=true", "schedule.epochs=1", "data.cache=disk"]
    overrides = [*SMALL_RUN, *pictures, f"data.root={root}", f"trainer.runs_dir={runs}", "schedule.warmup_epochs=0"]
    script = "import sys; from rexnet.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, "train", "--config", "finetune/folder", *overrides],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, b"TensorBoard gets no" in done.stderr) == (0, False), done.stderr
    (folder,) = (path for path in runs.iterdir() if path.name != "image-cache")
    return folder


def test_a_run_and_its_exports_keep_every_class_name(run: Path, root: Path) -> None:
    assert rexnet.load(run).class_names == NAMES
    assert main(["export", str(run), "--to", "safetensors", "--images", "2"]) == 0
    assert rexnet.load(run / "export" / "model.safetensors").class_names == NAMES
    assert main(["evaluate", str(run), "--data", str(root)]) == 0
    page = html.unescape((run / "report.html").read_text(encoding="utf-8"))
    assert [name for name in NAMES if name not in page] == []


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_predictions_name_every_class_and_escape_odd_bytes(form: str, run: Path, root: Path, tmp_path: Path) -> None:
    table = tmp_path / f"table.{form}"
    assert main(["predict", str(run), str(root / "val" / "no"), "--top", "20", "--out", str(table)]) == 0
    with open(table, encoding="utf-8", newline="") as file:
        if form == "csv":
            rows = [(row[0], set(row[1:41:2])) for row in list(csv.reader(file))[1:]]
        else:
            rows = [(row["image"], {entry["class"] for entry in row["classes"]}) for row in map(json.loads, file)]
    assert [Path(image).name for image, _ in rows] == ["a\\xe9.png", FILES[1]]
    assert all(classes == set(NAMES) for _, classes in rows)


def test_a_table_of_a_split_keeps_every_class_and_file(root: Path, tmp_path: Path) -> None:
    from rexnet.data.datasets.csv_table import index_csv
    from rexnet.dataset_tools.split import write_split

    for number, name in enumerate(NAMES):  # a split needs different images
        write_images(tmp_path / "x" / "c", 2, hue=number, size=(8, 8))
        (tmp_path / "x" / "c").rename(tmp_path / "x" / name)
        for image, file in zip(sorted((tmp_path / "x" / name).iterdir()), FILES, strict=True):
            image.rename(tmp_path / "x" / name / file)
    write_split(tmp_path / "x", tmp_path / "split.csv", 0.5)
    train, val = (index_csv(tmp_path / "split.csv", split) for split in ("train", "val"))
    assert train.class_names == val.class_names == NAMES
    assert {*train.paths, *val.paths} == {f"x/{name}/{file}" for name in NAMES for file in FILES}
