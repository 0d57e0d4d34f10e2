"""Small data and small runs for all tests; nothing is downloaded and nothing sleeps.

What the calling shell says of launchers, trackers, caches and terminals is not heard, and the current folder is empty.
"""

import functools
import json
import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

OUTSIDE = re.compile(  # what launchers tell their processes, and what users tell libraries
    "(SLURM|PET|PMI|OMPI|LSB|KUBERNETES|TORCHELASTIC|REXNET|PL|WANDB|MLFLOW|HF|ORT|XDG)_.*|MAKEFLAGS|MPLCONFIGDIR|MPLBACKEND"
    "|(LOCAL_|NODE_|GROUP_)?RANK|(LOCAL_)?WORLD_SIZE|MASTER_(ADDR|PORT)|.*_proxy|.*COLORS?|COLUMNS|LINES|TERM",
    re.IGNORECASE,
)
for name in filter(OUTSIDE.fullmatch, list(os.environ)):
    del os.environ[name]

import cv2  # noqa: E402 - libraries read the environment when they are imported
import numpy as np  # noqa: E402
import torch  # noqa: E402

from rexnet.config import Config, load_config  # noqa: E402

torch.set_num_threads(1)  # small networks gain nothing from more, and bits depend on the number

SMALL_RUN = (
    "name=small",
    "model.width_mult=0.2",
    "model.depth_mult=0.1",
    "model.dropout=0.2",
    "data.image_size=32",
    "data.batch_size=8",
    "data.num_workers=0",
    "optimizer.lr=0.05",
    "optimizer.layer_decay=1",  # from scratch
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


def pytest_configure(config: pytest.Config) -> None:
    """What libraries keep for the next time goes into a folder of these tests, before any is imported by a test."""
    home = tempfile.TemporaryDirectory(prefix="rexnet-tests-")
    config.add_cleanup(home.cleanup)
    os.environ |= {"HOME": home.name, "TORCHINDUCTOR_CACHE_DIR": home.name}


@pytest.fixture(scope="session", autouse=True)
def empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The current folder holds nothing, whatever lies in that of the calling shell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("here"))
        yield


@pytest.fixture(autouse=True)
def plain_log_level() -> Iterator[None]:
    """Commands that a test runs as another process than the first silence the log; the next test wants it again."""
    yield
    logging.getLogger("rexnet").setLevel(logging.NOTSET)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which it is served on this machine."""
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def image_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders: 3 classes with 8 training and 5 validation images each."""
    root = tmp_path_factory.mktemp("images")
    for number, name in enumerate(("ant", "bee", "cow")):
        write_images(root / "train" / name, 8, hue=number)
        write_images(root / "val" / name, 5, hue=number)
    return root


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Disks and squares in COCO's form, with masks: 16 training and 6 validation images, the last without any."""
    root = tmp_path_factory.mktemp("shapes")
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 6)):
        (root / "images" / split).mkdir(parents=True)
        images, annotations = [], []
        for number in range(count):
            height, width = (72, 96) if number % 2 else (96, 80)
            picture = generator.integers(90, 140, (height, width, 3)).astype(np.uint8)
            for _ in range(0 if (split, number) == ("val", 5) else 1 + number % 3):
                side, kind = int(generator.integers(18, 40)), int(generator.integers(2))
                left, top = (int(generator.integers(0, extent - side)) for extent in (width, height))
                half, color = side // 2, [(230, 30, 30), (30, 30, 230)][kind]
                corners = [left, top, left + side, top, left + side, top + side, left, top + side]
                if kind:
                    picture[top : top + side, left : left + side] = color
                else:
                    cv2.circle(picture, (left + half, top + half), half, color, -1)
                one = {"id": len(annotations) + 1, "image_id": number + 7, "category_id": [3, 8][kind], "iscrowd": 0}
                one |= {"bbox": [left, top, side, side], "area": side * side, "segmentation": [corners]}
                annotations.append(one)
            cv2.imwrite(str(root / "images" / split / f"{number:02d}.png"), picture)
            images.append({"id": number + 7, "file_name": f"{number:02d}.png", "height": height, "width": width})
        categories = [{"id": 3, "name": "disk"}, {"id": 8, "name": "square"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def shapes_arguments(root: Path) -> list[str]:
    """Arguments of a detector's training that takes seconds."""
    replaced = ("name=", "data.image_size=", "model.depth_mult=")
    arguments = [argument for argument in SMALL_RUN if not argument.startswith(replaced)]
    more = ["name=shapes", "model.depth_mult=0.3", "data.image_size=64", "augmentation.crop=none"]
    return [*arguments, *more, "data.dataset=coco", f"data.root={root}"]


@pytest.fixture
def shapes_run(shapes_root: Path, tmp_path: Path) -> list[str]:
    """Arguments of a detector's training that takes seconds."""
    return [*shapes_arguments(shapes_root), f"trainer.runs_dir={tmp_path / 'runs'}"]


@pytest.fixture(scope="session")
def trained_run(image_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; tests leave it as it is."""
    from rexnet.training.classification import train

    runs = tmp_path_factory.mktemp("trained")
    overrides = [*SMALL_RUN, "trainer.pad_channels=8", f"data.root={image_root}", f"trainer.runs_dir={runs}"]
    return train(load_config("finetune/folder.yaml", overrides)).run


@pytest.fixture
def small_run(image_root: Path, tmp_path: Path) -> list[str]:
    """Arguments of a training that takes two seconds."""
    return [*SMALL_RUN, f"data.root={image_root}", f"trainer.runs_dir={tmp_path / 'runs'}"]


@pytest.fixture
def small_config(small_run: list[str]) -> Config:
    """The configuration of `small_run`."""
    return load_config("finetune/folder.yaml", small_run)


def stand_in_model(config: Config, logits: Any, class_names: Sequence[str] = ("ant", "bee", "cow")) -> Any:
    """An inference model of this config that computes `logits` of the bytes."""
    from rexnet.data.loaders import resolve_loader
    from rexnet.evaluation.inference_model import InferenceModel
    from rexnet.preprocessing import resolve_preprocessing

    preprocessing, loader = resolve_preprocessing(config, class_names), resolve_loader(config.data, config.trainer)
    return InferenceModel("stand-in", preprocessing, loader, 8, logits, config=config)


def final_state(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


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
