"""All commands take the same files as images, and say what they leave out."""

import logging
from pathlib import Path

import pytest
from conftest import SMALL_RUN, write_images

from rexnet.cli import main

SAID = "left out 1 .heic (ant/x.HEIC), 1 hidden (.25mm/), 1 without suffix (bee/y)"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("left-out")
    for split, count in (("train", 8), ("Valid", 3), ("test", 1)):
        for number, name in enumerate(("ant", "bee")):
            write_images(folder / split / name, count, hue=number)
        write_images(folder / split / ".25mm", 1, hue=0)
        for path in ("ant/x.HEIC", "bee/y"):
            (folder / split / path).write_bytes(b"x")
    return folder


@pytest.fixture(scope="module")
def run(root: Path) -> tuple[Path, str]:
    """A run, and what training logged."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("rexnet").addHandler(handler)
    arguments = [*SMALL_RUN, f"data.root={root}", f"trainer.runs_dir={root / 'runs'}", "schedule.epochs=1"]
    assert main(["train", "--config", "finetune/folder", *arguments, "trainer.report=true"]) == 0
    logging.getLogger("rexnet").removeHandler(handler)
    (folder,) = (root / "runs").iterdir()
    return folder, "\n".join(lines)


def test_training_and_its_report_say_it(run: tuple[Path, str], root: Path) -> None:
    folder, logged = run
    assert "16 training and 6 validation images of 2 classes; the split test is not used (`rexnet evaluate" in logged
    assert f"{root}/train: {SAID}" in logged
    assert f"{root}/Valid: {SAID}" in logged
    assert f'<p class="note">Valid: {SAID}' in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("command", "splits"),
    [
        (["doctor", "finetune/folder", *SMALL_RUN, "data.root=ROOT"], ["train", "Valid"]),
        (["data", "check", "ROOT", "--allow-leak"], ["train  16 images", "val    6 images", "test   2 images"]),
        (["data", "split", "ROOT/train", "--out", "ROOT/split.csv"], ["train"]),
        (["data", "show", "finetune/folder", "data.root=ROOT", "--output", "ROOT/show.png"], ["train"]),
        (["predict", "RUN", "ROOT/test"], ["test"]),
        (["evaluate", "RUN", "--split", "test"], ["test"]),
    ],
    ids=["doctor", "check", "split", "show", "predict", "evaluate"],
)
def test_other_commands_say_it(
    command: list[str],
    splits: list[str],
    run: tuple[Path, str],
    root: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert main([word.replace("ROOT", str(root)).replace("RUN", str(run[0])) for word in command]) == 0
    said = (capsys.readouterr().out + caplog.text).replace(".25mm/000.png", ".25mm/")
    assert said.count(SAID) == len(splits)
    assert all(split in said for split in splits)
