"""The ImageNet recipes, run for 100 steps on a stand-in with ImageNet's layout, stopped within an epoch and resumed."""

from pathlib import Path

import pytest
from conftest import SMALL_RUN, write_images

from rexnet.config import load_config
from rexnet.training.classification import train
from rexnet.training.run_training import TrainingResult

SIZES = ("name=", "model.", "data.", "trainer.", "optimizer.lr=")  # not the schedule


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like ImageNet's, of 3 classes with 100 training and 10 validation images each."""
    root = tmp_path_factory.mktemp("imagenet")
    for hue, wnid in enumerate(("n01440764", "n01443537", "n01484850")):
        write_images(root / "train" / wnid, 100, hue)
        write_images(root / "val" / wnid, 10, hue)
    return root


@pytest.fixture(scope="module")
def authors(imagenet: Path) -> TrainingResult:
    """A training with the authors' recipe."""
    return rehearse("rexnet_1.0x", imagenet)


def rehearse(recipe: str, imagenet: Path, *more: str) -> TrainingResult:
    """Trains a small network with a recipe."""
    words = [*(word for word in SMALL_RUN if word.startswith(SIZES)), *more]
    words += [f"data.root={imagenet}", f"trainer.runs_dir={imagenet.parent}/{recipe}", "data.batch_size=30"]
    words += ["schedule.epochs=6", "schedule.cooldown_epochs=4", "trainer.val_every_epochs=5"]
    started = train(load_config(recipe, [*words, "trainer.max_steps=45"]))
    assert started.step == 45
    return train(load_config(recipe, words), resume=started.run)


def require_learned(result: TrainingResult) -> None:
    assert result.step == 100
    assert result.metrics["val/top1"] > 60  # chance is 33
    assert result.metrics["val_ema/top5"] == 100  # of three classes


def test_the_authors_recipe_learns_and_resumes(authors: TrainingResult) -> None:
    require_learned(authors)


def test_the_modern_recipe_learns_and_resumes(authors: TrainingResult, imagenet: Path) -> None:
    sizes = ("augmentation.image_size.start=32", "augmentation.image_size.end=64", "distillation.image_size=null")
    require_learned(rehearse("rexnet_1.0x_modern", imagenet, f"distillation.teacher={authors.run}", *sizes))
