"""Tests of the channel search on tiny images."""

import csv
import hashlib
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10

from rexnet.cli import main
from rexnet.data.datasets import download
from rexnet.errors import DataError, DivergenceError
from rexnet.studies import channel_search
from rexnet.studies.brief_training import Recipe, load_images, train_briefly
from rexnet.studies.candidates import SETTINGS, Budget, plan_candidate
from rexnet.studies.channel_search import Trained
from rexnet.studies.search_report import group_networks
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


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "candidates.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_search_trains_references_and_candidates_and_writes_its_results(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(images, tmp_path / "s", "--trials=3") == 0
    table = capsys.readouterr().out
    rows = read(tmp_path / "s")
    assert sorted(row["name"] for row in rows) == ["candidate", "candidate", "linear rule"]
    assert [len(row["accuracies"].split()) for row in rows if row["name"] == "candidate"] == [2, 2]
    assert [len(row["accuracies"].split()) for row in rows if row["name"] != "candidate"] == [3]
    assert all(21_600 <= int(row["params"]) <= 24_000 for row in rows if row["name"] == "candidate")
    content = json.loads((tmp_path / "s" / "search.json").read_text())
    assert content["settings"]["budget"] == [24_000, 4_500_000]
    assert content["networks"] == 3
    assert (tmp_path / "s" / "search.png").exists()
    assert (tmp_path / "s" / "search.svg").exists()
    assert "best found" in table
    assert "3 networks, 7 trainings" in table
    assert search(images, tmp_path / "s", "--trials=3") == 0
    assert capsys.readouterr().out == table
    assert search(images, tmp_path / "s", "--trials=3", "--lr=0.2") == 2
    assert "the study search-a in it has recipe=[1, 4, 0.1, 0.0005, 'relu6'], not recipe=[1, 4, 0.2" in (
        capsys.readouterr().err
    )


def test_an_interrupted_candidate_goes_on_after_the_repeat_that_was_finished(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def train(*arguments: object) -> tuple[float, float]:
        seeds.append(int(str(arguments[-1])))
        if len(seeds) == 5:
            raise KeyboardInterrupt
        return 50.0 + len(seeds), 1.0

    monkeypatch.setattr(channel_search, "train_briefly", train)
    assert search(images, tmp_path, "--trials=3") == 130
    assert search(images, tmp_path, "--trials=3") == 0
    assert seeds == [0, 1, 2, 0, 1, 1, 0, 1]
    rows = read(tmp_path)
    assert len(rows) == len({row["widths"] for row in rows}) == 3
    assert "54.00 56.00" in {row["accuracies"] for row in rows}


def test_the_tpe_sampler_keeps_to_the_budget(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_search, "train_briefly", lambda plan, *_: (plan.blocks[-1].out_channels, 1.0))
    assert search(images, tmp_path, "--trials=4", "--sampler=tpe") == 0
    rows = [row for row in read(tmp_path) if row["name"] == "candidate"]
    assert all(21_600 <= int(row["params"]) <= 24_000 and 4_050_000 <= int(row["macs"]) <= 4_500_000 for row in rows)


def test_training_learns_and_depends_only_on_its_seed(images: Path) -> None:
    train, test, classes = load_images("folder", images, None, CPU.torch_device)
    assert classes == 2
    assert train.pixels.shape == (16, 3, 32, 32)
    plan = plan_candidate(SETTINGS["a"], (4, 4, 5, 6, 7))
    recipe = Recipe(epochs=5, batch_size=4, lr=0.05, weight_decay=5e-4, activation="relu6")
    first, again, other = (train_briefly(plan, recipe, train, test, 2, CPU, seed) for seed in (0, 0, 1))
    assert first == again
    assert first[0] == other[0] == 100
    assert first[1] != other[1]
    with pytest.raises(DivergenceError, match=r"the loss of the network 4-4-5-6-7 is not finite; lower --lr"):
        train_briefly(plan, recipe._replace(lr=1e30), train, test, 2, CPU, 0)


def test_tenths_are_taken_from_the_top_the_middle_and_the_bottom_without_references() -> None:
    accuracies = [(70.0 - position / 2,) for position in range(20)]
    candidates = [Trained("candidate", (n, 2 * n), Budget(n, n), each, 1.0, 1.0) for n, each in enumerate(accuracies)]
    groups = group_networks([Trained("linear rule", (1, 1), Budget(1, 1), (97.0, 99.0), 1.0, 1.0), *candidates])
    names = ["best found", "linear rule", "top tenth", "middle tenth", "bottom tenth"]
    assert list(groups) == names
    assert [groups[name].accuracy for name in names] == [70.0, 98.0, 69.75, 65.25, 60.75]
    assert [round(groups[name].accuracy_std, 3) for name in names] == [0.0, 1.414, 0.354, 0.354, 0.354]
    assert groups["bottom tenth"].widths == [18.5, 37.0]
    assert [round(std, 3) for std in groups["bottom tenth"].widths_std] == [0.707, 1.414]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--macs=1000"], "error: the budget of 24,000 parameters and 1,000 multiply-adds is impossible: "),
        (["--batch-size=64"], "error: --batch-size: should be at most 16, the number of training images"),
        (["--data=nowhere"], "error: --data: "),
        (["--trials=1"], "error: --trials: should be above 1, the number of references"),
        (["--lr=0"], "error: --lr: should be above 0, and --activation one of silu, relu6, "),
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
        load_images("folder", tmp_path, None, CPU.torch_device)


@pytest.fixture
def cifar(served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Serves CIFAR-10 with six training images, in five batches, and one test image."""
    folder = tmp_path / "archive" / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def write(name: str, content: dict[str, object]) -> tuple[str, str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return name, hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(name: str, labels: list[int]) -> tuple[str, str]:
        return write(name, {"data": np.full((len(labels), 3072), labels[0], np.uint8), "labels": labels})

    train = [batch(f"data_batch_{number}", [number]) for number in range(1, 5)] + [batch("data_batch_5", [5, 6])]
    test, (meta, meta_md5) = [batch("test_batch", [9])], write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", test)
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta, "key": "label_names", "md5": meta_md5})
    archive = served[0] / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    remote = download.Remote(f"{served[1]}/{archive.name}", md5, folder.name)
    monkeypatch.setitem(download.SOURCES, "cifar10", (remote,))
    return archive


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="Python before 3.11.4 unpacks nothing safely")
def test_cifar_is_downloaded_once_and_damage_is_one_sentence(cifar: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for _ in range(2):
        train, test, classes = load_images("cifar10", root, 4, CPU.torch_device)
        assert (train.pixels.shape, test.pixels.shape, classes) == ((4, 3, 32, 32), (1, 3, 32, 32), 10)
        assert all(int(pixels[0, 0, 0]) in (label, 5) for pixels, label in zip(*train, strict=True))
        cifar.unlink(missing_ok=True)
    (root / "cifar-10-batches-py" / "data_batch_2").write_bytes(b"x")
    with pytest.raises(DataError, match=r"data: its cifar10 is damaged; delete it to download it again"):
        load_images("cifar10", root, None, CPU.torch_device)
    with pytest.raises(DataError, match=r"tar.gz: cannot be downloaded: .*; get cifar-10-python.tar.gz"):
        load_images("cifar10", tmp_path / "other", None, CPU.torch_device)
