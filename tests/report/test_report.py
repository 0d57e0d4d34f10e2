import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL_RUN

from rexnet.cli import main
from rexnet.config import load_config
from rexnet.errors import ConfigError
from rexnet.metrics.predictions import Predictions, load_predictions, save_predictions
from rexnet.report.report import write_report
from rexnet.runs.checkpoint_files import find_checkpoint
from rexnet.runs.run import Run
from rexnet.runs.state import STATE_FILE, RunLock

VOID = {"meta", "img", "br", "input", "hr", "link"}


class Page(HTMLParser):
    """A parsed page: checks that its tags are balanced, and collects text, ids and links."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words, self.open, self.ids, self.links = [], [], [], []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self.open == []
        self.text = " ".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words += data.split()


@pytest.fixture(scope="module")
def run(image_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with the report that `rexnet train` wrote."""
    runs = tmp_path_factory.mktemp("runs")
    arguments = [*SMALL_RUN, f"data.root={image_root}", f"trainer.runs_dir={runs}", "trainer.report=true"]
    command = ["train", "--config", "finetune/folder.yaml", *arguments]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["rexnet", *command])  # which the run notes down
        assert main(command) == 0
    (folder,) = runs.iterdir()
    return folder


def test_training_writes_a_page_that_needs_no_network(run: Path) -> None:
    page = Page(run / "report.html")
    assert all(link.startswith(("#", "data:image/")) for link in page.links)
    assert "http" not in re.sub(r"data:image[^\"]+", "", page.source)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= {*page.ids, "main"}
    assert (run / "report.html").stat().st_size < 3_000_000


def test_a_page_shows_recipe_data_and_results_accessibly(run: Path) -> None:
    page = Page(run / "report.html")
    for said in (
        "finished",
        "2 of 2 epochs",
        "ant",
        "bee",
        "cow",
        "optimizer.layer_decay",
        "folder.yaml",
        "rexnet v1 0.2x",
    ):
        assert said in page.text
    assert "24" in page.text  # training images
    assert re.search(r"\d+ of 15 images were taken for another class", page.text)
    rows = Run(run).rows
    assert f"{float(rows[-1]['val_ema/top1']):.2f}" in page.text
    headings = [tag for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in page.tags if tag == "svg")
    tables = [tag for tag, _ in page.tags if tag in ("table", "caption")]
    assert tables[::2] == ["table"] * len(tables[::2])
    assert tables[1::2] == ["caption"] * len(tables[::2])


def test_an_unfinished_run_is_reported_up_to_its_last_epoch(run: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    shutil.copytree(run, part)
    shutil.rmtree(part / "evaluation")
    shutil.rmtree(part / "checkpoints")
    rows = (part / "metrics.csv").read_text().splitlines()
    (part / "metrics.csv").write_text("\n".join(rows[:2]) + "\n")
    (part / STATE_FILE).unlink()
    assert main(["report", str(part), "--out", str(tmp_path / "part.html")]) == 0
    text = Page(tmp_path / "part.html").text
    assert "unknown 1 of 2 epochs in" in text
    assert "there is no checkpoint yet" in text

    (part / "metrics.csv").unlink()  # nor an epoch
    mark = RunLock(part)
    write_report(part, tmp_path / "part.html")
    assert "running 0 of 2 epochs in 0 s, last update" in Page(tmp_path / "part.html").text
    mark.fail(ConfigError("the disk is full"))
    write_report(part, tmp_path / "part.html")
    assert "failed 0 of 2 epochs" in Page(tmp_path / "part.html").text


def test_damaged_files_are_named(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    part, best = tmp_path / "part", find_checkpoint(run).stem
    shutil.copytree(run, part)
    (kept,) = (part / "evaluation").glob("*-ema-val.npz")
    (part / "evaluation" / f"{best}-raw-val.npz").write_bytes(kept.read_bytes()[:-100])
    (part / "environment.json").write_text('{"command": ["rexnet", "tra')
    with (part / "metrics.csv").open("a") as table:
        table.write("3,9,half a ro")
    assert main(["report", str(part), "--out", str(tmp_path / "part.html")]) == 0
    text = Page(tmp_path / "part.html").text
    for damage in (
        "metrics.csv: 1 of its 3 rows cannot be read",
        f"evaluation/{best}-raw-val.npz: cannot be read as predictions: BadZipFile: ",
        "environment.json: cannot be read: JSONDecodeError: Unterminated string",
    ):
        assert damage in text
        assert f"{part}/{damage}" in caplog.text
    assert "EMA val 15" in text  # what is whole is there

    kept.write_bytes(b"")  # what can be measured again is
    assert main(["report", str(part), "--out", str(tmp_path / "part.html")]) == 0
    assert f"{kept}: cannot be read as predictions" in caplog.text
    assert f"evaluation/{kept.name}: cannot" not in Page(tmp_path / "part.html").text
    assert len(load_predictions(kept).labels) == 15


def test_results_on_other_images_do_not_replace_those_of_the_run(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "with ' quote"
    shutil.copytree(run, other)
    (kept,) = (other / "evaluation").glob("*-ema-val.npz")
    kept.rename(kept.with_name(kept.name.replace("val", "train")))
    found = Run(other).kept_predictions
    assert [one.is_best for one in found] == [False]
    write_report(other, other / "report.html")
    assert [(one.images, one.is_best) for one in Run(other).kept_predictions] == [("val", True), ("train", False)]
    assert "with ' quote" in Page(other / "report.html").text


def test_a_run_without_its_images_is_reported_without_mistakes(run: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    shutil.copytree(run, gone)
    shutil.rmtree(gone / "evaluation")
    root = load_config(run / "config.yaml").data.root
    text = (gone / "config.yaml").read_text()
    (gone / "config.yaml").write_text(text.replace(str(root), str(tmp_path / "nowhere")))
    write_report(gone, gone / "report.html")
    text = Page(gone / "report.html").text
    assert "was not evaluated on the validation images: the images are not on this machine" in text
    assert str(tmp_path) not in text
    assert "Confusion matrix" not in text


def test_a_thousand_classes_stay_readable(run: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    shutil.copytree(run, many)
    shutil.rmtree(many / "evaluation")
    generator = np.random.default_rng(0)
    labels = np.arange(2000) % 1000
    logits = generator.normal(size=(2000, 1000)).astype(np.float32)
    logits[np.arange(2000), labels] += 4
    names = tuple(f"<kind {number}>" for number in range(1000))
    images = tuple(f"{number}.png" for number in range(2000))
    kept = many / "evaluation" / f"{find_checkpoint(run).stem}-ema-val.npz"
    save_predictions(kept, Predictions(logits, labels, images, names))
    write_report(many, many / "report.html")
    page = Page(many / "report.html")
    assert "All 1000 classes" in page.text
    assert "<kind 17>" in page.text  # escaped, else it were a tag
    assert "most confused classes" in page.text
    assert (many / "report.html").stat().st_size < 3_000_000


def test_another_folder_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ConfigError, match=r"nothing: is not a run folder: it has no config\.yaml"):
        write_report(tmp_path / "nothing", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_failed_report_does_not_fail_the_run(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("rexnet.report.report.write_report", fail)
    arguments = [*small_run, "trainer.report=true", "trainer.max_steps=1"]
    assert main(["train", "--config", "finetune/folder.yaml", *arguments]) == 0
    assert re.search(r"could not be written: no space left; try again with rexnet report .*small", caplog.text)


def test_slices_and_images_of_no_class_are_shown(run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    kept = next((copied / "evaluation").glob("*-ema-val.json"))
    slices = [{"column": "camera", "value": "old", "n": 12, "top1": 50.0, "interval": [25.4, 74.6]}]
    others = {"folder": "cells", "images": 87, "auroc": 93.4, "fpr95": 57.9}
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"slices": slices, "unknown_images": others}))
    write_report(copied, tmp_path / "report.html")
    text = Page(tmp_path / "report.html").text
    assert "Column Value Images Top-1 95 % camera old 12 50.0 25.4 to 74.6" in text
    assert "Confidence separates 87 out-of-distribution images (cells)" in text
    assert "with an AUROC of 93.4 % (FPR95 57.9 %)." in text
