from pathlib import Path

from rexnet.config import Config, load_config
from rexnet.data.datasets import load_index
from rexnet.report.provenance import (
    describe_data,
    describe_environment,
    describe_recipe,
    open_split,
)
from rexnet.runs.run import Run


def test_images_are_opened_only_where_they_are(small_config: Config, tmp_path: Path) -> None:
    index = open_split(small_config.data, "val")
    assert index is not None
    assert len(index) == 15
    assert open_split(small_config.data.model_copy(update={"root": tmp_path / "nowhere"}), "val") is None
    assert open_split(small_config.data.model_copy(update={"root": tmp_path}), "val") is None


def test_splits_are_described_by_their_smallest_and_largest_class(small_config: Config) -> None:
    train = load_index(small_config.data, "train")
    uneven = train.select([0, 1, 2, 8, 9, 16])  # 3 ants, 2 bees, 1 cow
    facts = describe_data(small_config.data, uneven, None)
    assert facts["splits"] == [("training", 6, "cow (1)", "ant (3)")]
    assert describe_data(small_config.data, train, None)["splits"] == [("training", 24, "8 each", "8 each")]


def test_recipes_differ_by_what_changes_the_network(small_config: Config) -> None:
    config = load_config("finetune/folder.yaml", ["optimizer.lr=0.25", "seed=1", "data.num_workers=3"])
    recipe = describe_recipe(config, ["rexnet", "train", "--config", "finetune/folder.yaml"])
    assert recipe["base"] == "folder.yaml"
    assert recipe["differences"] == {"seed": (1, 0), "optimizer.lr": (0.25, 0.05)}
    assert describe_recipe(config, None)["base"] is None
    assert describe_recipe(config, ["train", "--config=/nowhere.yaml"])["differences"] == {}


def test_the_environment_names_no_command(trained_run: Path) -> None:
    facts = Run(trained_run).environment
    shown = dict(describe_environment(facts))
    assert list(shown)[:3] == ["Commit", "Started", "GPUs"] if facts["git"]["commit"] else ["Started", "GPUs", "CPU"]
    assert shown["Python"] == facts["python"]
    assert shown.keys().isdisjoint({"Command", "Changed files", "System"})
    assert describe_environment({}) == []
