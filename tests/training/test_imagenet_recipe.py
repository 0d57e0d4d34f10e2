"""The ImageNet recipes, run for 100 steps on a stand-in with ImageNet's layout, stopped within an epoch and resumed."""

from pathlib import Path

import pytest
from conftest import SMALL_RUN, write_images

from rexnet.config import load_config
from rexnet.training.classification import train

SIZES = ("name=", "model.", "data.", "trainer.", "optimizer.lr=")  # not the schedule


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like ImageNet's, of 3 classes with 100 training and 10 validation images each."""
    root = tmp_path_factory.mktemp("imagenet")
    for hue, wnid in enumerate(("n01440764", "n01443537", "n01484850")):
        write_images(root / "train" / wnid, 100, hue)
        write_images(root / "val" / wnid, 10, hue)
    return root


@pytest.mark.parametrize("recipe", ["rexnet_1.0x"])
def test_an_imagenet_recipe_learns_and_resumes(recipe: str, imagenet: Path, tmp_path: Path) -> None:
    sizes = [word for word in SMALL_RUN if word.startswith(SIZES)]
    words = [*sizes, f"data.root={imagenet}", f"trainer.runs_dir={tmp_path}", "data.batch_size=30"]
    words += ["schedule.epochs=6", "schedule.cooldown_epochs=4", "trainer.val_every_epochs=5"]
    started = train(load_config(recipe, [*words, "trainer.max_steps=45"]))
    result = train(load_config(recipe, words), resume=started.run)
    assert (started.step, result.step) == (45, 100)
    assert result.metrics["val/top1"] > 60  # chance is 33
    assert result.metrics["val_ema/top5"] == 100  # of three classes
