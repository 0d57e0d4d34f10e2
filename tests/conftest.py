"""Small data and small runs for all tests; nothing is downloaded and nothing sleeps."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from rexnet.config import Config, load_config

torch.set_num_threads(1)  # small networks gain nothing from more, and bits depend on the number

SMALL_RUN = (
    "name=small",
    "model.width_mult=0.2",
    "model.depth_mult=0.1",
    "data.image_size=32",
    "data.batch_size=8",
    "data.num_workers=0",
    "optimizer.lr=0.05",
    "schedule.epochs=2",
    "schedule.warmup_epochs=0.5",
    "trainer.accelerator=cpu",
    "trainer.precision=fp32",
    "trainer.log_every_steps=2",
    "trainer.report=false",
    "trainer.pictures_every_epochs=null",
)


def write_images(folder: Path, count: int, hue: int, size: tuple[int, int] = (40, 48)) -> None:
    """`count` PNG files of one colour with noise, so that classes can be told apart."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(count)
    colour = np.roll([200, 20, 90], hue)
    for number in range(count):
        pixels = (colour + generator.integers(0, 56, (*size, 3))).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:03d}.png"), pixels)


@pytest.fixture(autouse=True)
def plain_log_level() -> Iterator[None]:
    """Commands that a test runs as another process than the first silence the log; the next test wants it again."""
    yield
    logging.getLogger("rexnet").setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def image_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders: 3 classes with 8 training and 5 validation images each."""
    root = tmp_path_factory.mktemp("images")
    for number, name in enumerate(("ant", "bee", "cow")):
        write_images(root / "train" / name, 8, hue=number)
        write_images(root / "val" / name, 5, hue=number)
    return root


@pytest.fixture(scope="session")
def trained_run(image_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; tests leave it as it is."""
    from rexnet.training.fit import fit

    runs = tmp_path_factory.mktemp("trained")
    overrides = [*SMALL_RUN, "model.depth_mult=0.1", f"data.root={image_root}", f"trainer.runs_dir={runs}"]
    return Path(fit(load_config("finetune/folder.yaml", overrides))["run"])


@pytest.fixture
def small_run(image_root: Path, tmp_path: Path) -> list[str]:
    """Arguments of a training that takes two seconds."""
    return [*SMALL_RUN, f"data.root={image_root}", f"trainer.runs_dir={tmp_path / 'runs'}"]


@pytest.fixture
def small_config(small_run: list[str]) -> Config:
    """The configuration of `small_run`."""
    return load_config("finetune/folder.yaml", small_run)


def final_state(metrics: dict[str, Any]) -> dict[str, Any]:
    return torch.load(Path(metrics["run"]) / "checkpoints" / "last.ckpt", weights_only=True)


def assert_same_tensors(one: Any, other: Any) -> None:
    """Equal to the last bit, wherever a tensor stands."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same_tensors(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        for mine, theirs in zip(one, other, strict=True):
            assert_same_tensors(mine, theirs)
    else:
        assert one == other
