"""Tests of the channel search on tiny images."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rexnet.cli import main
from rexnet.errors import DataError, DivergenceError
from rexnet.studies import channel_search
from rexnet.studies.brief_training import Outcome, Recipe, train_briefly
from rexnet.studies.candidates import SETTINGS, Budget, plan_candidate
from rexnet.studies.channel_search import Candidate
from rexnet.studies.image_tensors import load_image_tensors
from rexnet.studies.search_report import group_tenths
from rexnet.system.device import Device

CPU = Device("cpu", "32-true", True)
TINY = ("--params=24000", "--macs=4500000", "--epochs=1", "--repeats=2", "--batch-size=4")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of dark and of bright images, 8 of each for training and 4 for testing."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for name, level in (("dark", 0), ("light", 128)):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(level, level + 128, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


def search(images: Path, out: Path, *more: str) -> int:
    return main(["study", "search", f"--data={images}", f"--out={out}", *TINY, *more])


def test_a_search_trains_references_and_candidates_and_writes_its_results(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(images, tmp_path / "s", "--trials=5") == 0
    table = capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "s" / "candidates.csv").open()))
    assert sorted(row["name"] for row in rows) == [
        "candidate",
        "candidate",
        "linear rule",
        "paper's best",
        "paper's worst",
    ]
    assert [len(row["accuracies"].split()) for row in rows if row["name"] == "candidate"] == [2, 2]
    assert [len(row["accuracies"].split()) for row in rows if row["name"] != "candidate"] == [3, 3, 3]
    assert all(21_600 <= int(row["params"]) <= 24_000 for row in rows if row["name"] == "candidate")
    content = json.loads((tmp_path / "s" / "search.json").read_text())
    assert content["settings"]["budget"] == [24_000, 4_500_000]
    assert content["tenths"]["top"]["networks"] == 1
    assert (tmp_path / "s" / "search.png").exists()
    assert (tmp_path / "s" / "search.svg").exists()
    assert "best found" in table
    assert "5 networks, 13 trainings" in table
    assert search(images, tmp_path / "s", "--trials=5", f"--compare={tmp_path / 's'}") == 0
    assert capsys.readouterr().out == table
    assert search(images, tmp_path / "s", "--trials=5", "--lr=0.2") == 2
    assert "the study search-a in it has recipe=[1, 4, 0.1, 0.0005, 'relu6'], not recipe=[1, 4, 0.2" in (
        capsys.readouterr().err
    )


def test_an_interrupted_candidate_goes_on_after_the_repeat_that_was_finished(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def train(*arguments: object) -> Outcome:
        seeds.append(int(str(arguments[-1])))
        if len(seeds) == 11:
            raise KeyboardInterrupt
        return Outcome(50.0 + len(seeds), 1.0)

    monkeypatch.setattr(channel_search, "train_briefly", train)
    assert search(images, tmp_path, "--trials=5") == 130
    assert search(images, tmp_path, "--trials=5") == 0
    assert seeds == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 1, 0, 1]
    rows = list(csv.DictReader((tmp_path / "candidates.csv").open()))
    assert len(rows) == len({row["widths"] for row in rows}) == 5
    assert "60.00 62.00" in {row["accuracies"] for row in rows}


def test_the_tpe_sampler_keeps_to_the_budget(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_search, "train_briefly", lambda plan, *_: Outcome(plan.blocks[-1].out_channels, 1.0))
    assert search(images, tmp_path, "--trials=24", "--sampler=tpe") == 0
    rows = [row for row in csv.DictReader((tmp_path / "candidates.csv").open()) if row["name"] == "candidate"]
    assert all(21_600 <= int(row["params"]) <= 24_000 and 4_050_000 <= int(row["macs"]) <= 4_500_000 for row in rows)


def test_training_learns_and_depends_only_on_its_seed(images: Path) -> None:
    train, test, classes = load_image_tensors("folder", images)
    assert classes == 2
    assert train.images.shape == (16, 3, 32, 32)
    plan = plan_candidate(SETTINGS["a"], (4, 4, 5, 6, 7))
    recipe = Recipe(epochs=8, batch_size=4, lr=0.05, weight_decay=5e-4, activation="relu6")
    first, again, other = (train_briefly(plan, recipe, train, test, 2, CPU, seed) for seed in (0, 0, 1))
    assert first == again
    assert first.accuracy == other.accuracy == 100
    assert first.nuclear_norm != other.nuclear_norm
    with pytest.raises(DivergenceError, match=r"the loss of \[4, 4, 5, 6, 7\] is not finite; lower --lr"):
        train_briefly(plan, recipe._replace(lr=1e30), train, test, 2, CPU, 0)


def test_tenths_are_taken_from_the_top_the_middle_and_the_bottom_without_references() -> None:
    accuracies = [(70.0 - position / 2,) for position in range(20)]
    candidates = [Candidate("candidate", (n, 2 * n), Budget(n, n), each, 1.0, 1.0) for n, each in enumerate(accuracies)]
    tenths = group_tenths([Candidate("linear rule", (1, 1), Budget(1, 1), (99.0,), 1.0, 1.0), *candidates])
    assert [tenths[name].networks for name in ("top", "middle", "bottom")] == [2, 2, 2]
    assert [tenths[name].accuracy for name in ("top", "middle", "bottom")] == [69.75, 65.25, 60.75]
    assert tenths["top"].accuracy_std == 0.25
    assert tenths["bottom"].widths == [18.5, 37.0]
    assert tenths["bottom"].widths_std == [0.5, 1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--macs=1000"], "error: the budget of 24,000 parameters and 1,000 multiply-adds is impossible: "),
        (["--batch-size=64"], "error: --batch-size: 64 is more than the 16 training images"),
        (["--compare=nowhere"], "error: nowhere: has no search.json of a finished search"),
        (["--data=nowhere"], "error: data.root: "),
        (["--trials=3"], "error: --trials: should be more than the 3 references"),
    ],
)
def test_wrong_input_is_one_sentence(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert search(images, tmp_path, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_images_of_another_size_are_one_sentence(images: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.new("RGB", (40, 32)).save(tmp_path / split / "a" / "x.png")
    with pytest.raises(DataError, match=r"a/x.png: is 40 x 32 pixels; the study needs 32 x 32"):
        load_image_tensors("folder", tmp_path)
