import csv
import logging
import shlex
from collections import Counter
from pathlib import Path

import pytest
from conftest import write_images

from rexnet.cli import main
from rexnet.config import Config, load_config
from rexnet.dataset_tools import own_images
from rexnet.dataset_tools.own_images import choose_recipe
from rexnet.errors import CheckpointError, ConfigError, DataError


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: str, name: str) -> Path:
        raise CheckpointError(f"{name}.{source} is not there")

    monkeypatch.setattr(own_images, "fetch_weights", fail)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Class folders without splits."""
    for hue, (name, images) in enumerate({"ant": 10, "bee": 5}.items()):
        write_images(tmp_path / "flat" / name, images, hue=hue)
    return tmp_path / "flat"


def test_class_folders_are_split_by_a_table_next_to_the_runs(flat: Path, tmp_path: Path) -> None:
    given = [f"trainer.runs_dir={tmp_path / 'runs'}"]
    recipe, overrides, reasons = choose_recipe(flat, given)
    assert recipe == "finetune/scratch"
    config = load_config(recipe, overrides)
    table = config.data.root
    assert (config.data.dataset, table.parent, len(list(flat.rglob("*.csv")))) == ("csv", tmp_path / "runs", 0)
    with table.open() as file:
        rows = [(row["label"], row["split"]) for row in csv.DictReader(file)]
    assert Counter(rows) == {("ant", "train"): 8, ("ant", "val"): 2, ("bee", "train"): 4, ("bee", "val"): 1}
    assert reasons["Images"].startswith("12 and 3 for validation, 2 classes; 20% of each class held out by ")
    assert choose_recipe(flat, given)[1] == overrides
    write_images(flat / "bee", 6, hue=1)  # one more: another table, so that earlier runs keep theirs
    assert load_config(recipe, choose_recipe(flat, given)[1]).data.root != table


def test_settings_follow_from_images_hardware_and_weights(
    image_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, overrides, reasons = choose_recipe(image_root, [])
    assert (recipe, overrides) == (
        "finetune/scratch",
        [
            *("data.dataset=folder", f"data.root={image_root}", "data.image_size=128"),
            *("data.batch_size=24", "schedule.epochs=100"),  # of one step each
        ],
    )
    assert reasons["Weights"] == "from scratch, without weights from the hub; better: model.pretrained=FILE"
    _, overrides, _ = choose_recipe(image_root, ["optimizer.lr=0.3"])
    assert load_config("finetune/scratch", overrides).optimizer.lr == 0.3
    assert choose_recipe(image_root, ["model.pretrained=null"])[2]["Weights"] == "from scratch"
    monkeypatch.setattr(own_images, "fetch_weights", lambda source, name: tmp_path)
    recipe, overrides, _ = choose_recipe(image_root, [])
    assert recipe == "finetune/folder"
    config = load_config(recipe, overrides)
    assert (config.model.pretrained, config.data.batch_size, config.optimizer.lr) == ("nav_in1k", 24, 0.05)
    _, overrides, reasons = choose_recipe(image_root, ["model.pretrained=mine.pth"])
    assert reasons["Weights"] == "mine.pth, as given"
    assert choose_recipe(image_root, ["model.name=timm/resnet18"])[0] == "finetune/scratch"  # not ReXNet's weights


def test_birds_without_weights_have_no_teacher(tmp_path: Path) -> None:
    for hue, name in enumerate(("001.Crow", "002.Jay")):
        write_images(tmp_path / "images" / name, 2, hue=hue)
    paths = sorted(path.relative_to(tmp_path / "images") for path in tmp_path.glob("images/*/*"))
    (tmp_path / "images.txt").write_text("".join(f"{number} {path}\n" for number, path in enumerate(paths, 1)))
    (tmp_path / "classes.txt").write_text("1 001.Crow\n2 002.Jay\n")
    (tmp_path / "image_class_labels.txt").write_text("1 1\n2 1\n3 2\n4 2\n")
    (tmp_path / "train_test_split.txt").write_text("1 0\n2 1\n3 1\n4 0\n")
    assert load_config("finetune/cub200", ["data.root=/birds"]).distillation is not None
    for given in ([], ["model.pretrained=null"]):
        recipe, overrides, _ = choose_recipe(tmp_path, given)
        assert (recipe, load_config(recipe, overrides).distillation) == ("finetune/scratch", None)


def test_the_command_trains_and_prints_its_equivalent(
    image_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = [
        "trainer.max_steps=1",
        "model.width_mult=0.2",
        "data.image_size=32",
        "trainer.report=false",
        "schedule.warmup_epochs=1",
    ]
    caplog.set_level(logging.INFO)
    assert main(["train", str(image_root), *small, "schedule.epochs=2", f"trainer.runs_dir={tmp_path}"]) == 0
    lines = dict(line.split(maxsplit=1) for line in caplog.records[0].message.splitlines())
    assert lines["Command"].startswith(
        f"rexnet train --config finetune/scratch data.dataset=folder data.root={image_root}"
    )
    [run] = tmp_path.glob("scratch-*")
    again = load_config("finetune/scratch", shlex.split(lines["Command"])[4:], Config)
    assert load_config(run / "config.yaml") == again


def test_what_cannot_be_trained_on_is_a_sentence(
    flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: no such images; give their folder, --config CONFIG or --resume"):
        choose_recipe(tmp_path / "nowhere", [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no class folders, it is empty"):
        choose_recipe(tmp_path / "empty", [])
    write_images(flat / "cow", 1, hue=2)
    with pytest.raises(DataError, match=r"cow: too few different images \(1\) for 2 splits"):
        choose_recipe(flat, [f"trainer.runs_dir={tmp_path}"])
    assert main(["train", "schedule.epochs=3"]) == 2
    assert "give IMAGES or --config CONFIG for a new run, or --resume RUN" in capsys.readouterr().err
