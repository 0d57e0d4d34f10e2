"""No file of a stranger runs code, exhausts memory or reaches the network, whichever door it comes in by."""

import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL_RUN

from rexnet.cli import main
from rexnet.config import load_config
from rexnet.errors import CheckpointError, ConfigError, DataError
from rexnet.training.classification import train


class Canary:
    """Unpickling this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, image_root: Path) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    config = load_config("finetune/folder.yaml", [*SMALL_RUN, f"data.root={image_root}", f"trainer.runs_dir={runs}"])
    return train(config.model_copy(update={"name": "trusted"})).run


def hostile_archive(path: Path, canary: Path) -> None:
    torch.save({"rexnet": {}, "state_dict": {"w": torch.zeros(3)}, "more": Canary(canary)}, path)


def hostile_pickle(path: Path, canary: Path) -> None:
    path.write_bytes(pickle.dumps(Canary(canary)))


def hostile_module(path: Path, canary: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), path)


def compressed(path: Path, canary: Path) -> None:
    """20 kB that would become 20 MB."""
    plain = io.BytesIO()
    torch.save({"rexnet": {}, "state_dict": {"w": torch.zeros(5_000_000)}}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))


def stretched(path: Path, canary: Path) -> None:
    """A tensor of 10**12 elements that are one and the same number."""
    torch.save({"rexnet": {}, "state_dict": {"w": torch.zeros(1).expand(10**12)}}, path)


HOSTILE = [hostile_archive, hostile_pickle, hostile_module, compressed, stretched]
DOORS = ["resume", "evaluate", "export", "pretrained", "doctor"]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_a_hostile_file_is_refused_at_every_door(
    make: Callable[[Path, Path], None],
    door: str,
    run: Path,
    small_run: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    canary, folder = tmp_path / "canary", tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copy(run / "config.yaml", folder)
    path = folder / "checkpoints" / "last.ckpt"
    make(path, canary)
    match door:
        case "resume":
            code = main(["train", "--resume", str(folder)])
        case "evaluate":
            code = main(["evaluate", str(path)])
        case "export":
            code = main(["export", str(path), "--to", "safetensors"])
        case "pretrained":
            code = main(["train", "--config", "finetune/folder.yaml", *small_run, f"model.pretrained={path}"])
        case "doctor":
            code = main(["doctor", "finetune/folder.yaml", *small_run, f"model.pretrained={path}"])
    said = "".join(capsys.readouterr())
    assert code == 2
    assert re.search(
        r"error(:| +training) .*last\.ckpt: "
        r"(cannot be read as|is a plain pickle|has \d+ compressed parts|its tensor .* claims)",
        said,
    )
    assert "Traceback" not in said
    assert not canary.exists()


def test_the_canary_would_sing(tmp_path: Path) -> None:
    """The control of the test above."""
    hostile_pickle(tmp_path / "x", tmp_path / "canary")
    pickle.loads((tmp_path / "x").read_bytes())
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("door", DOORS)
def test_an_address_is_not_fetched(door: str, small_run: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    address = "http://127.0.0.1:9/last.ckpt"
    match door:
        case "resume":
            code = main(["train", "--resume", address])
        case "evaluate":
            code = main(["evaluate", address])
        case "export":
            code = main(["export", address, "--to", "safetensors"])
        case "pretrained":
            code = main(["train", "--config", "finetune/folder.yaml", *small_run, f"model.pretrained={address}"])
        case "doctor":
            code = main(["doctor", "finetune/folder.yaml", *small_run, f"model.pretrained={address}"])
    assert code == 2
    assert "last.ckpt: " in "".join(capsys.readouterr())


def data_doors(root: Path, *overrides: str) -> list[list[str]]:
    """Every command that reads images alone, and the one that looks at all before training."""
    settings = [
        "finetune/folder",
        *SMALL_RUN,
        f"data.root={root}",
        f"trainer.runs_dir={root.parent / 'runs'}",
        *overrides,
    ]
    show = ["--output", str(root.parent / "sheet.png"), "--images", "2", "--views", "1"]
    return [
        ["data", "check", str(root)],
        ["data", "cache", *settings],
        ["data", "show", *settings, *show],
        ["doctor", *settings],
    ]


def test_hostile_images_and_manifests_run_nothing(
    image_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    canary, root = tmp_path / "canary", tmp_path / "images"
    shutil.copytree(image_root, root)
    for image in root.glob("*/*/*.png"):
        hostile_pickle(image, canary)
    for arguments in data_doors(root):
        assert main(arguments) == 2
        assert "Traceback" not in "".join(capsys.readouterr())
    hostile_pickle(root / "rexnet-manifest.csv", canary)
    for arguments in data_doors(root, "data.on_bad_image=skip_listed"):
        assert main(arguments) == 2
        assert "rexnet-manifest.csv" in "".join(capsys.readouterr())
    assert not canary.exists()


def test_a_hostile_index_beside_a_tar_and_a_hostile_cache_are_made_anew(image_root: Path, tmp_path: Path) -> None:
    canary, tar = tmp_path / "canary", tmp_path / "images.tar"
    index = tmp_path / ".images.tar.index.npz"
    with tarfile.open(tar, "w") as archive:
        archive.add(image_root, arcname=".")
    check, cache, *_ = data_doors(tar)
    assert main(check) == 0
    with np.load(index) as sound:
        stamp, content = sound["stamp"], {name: sound[name] for name in sound}
    objects = np.array([Canary(canary)], dtype=object)
    for name in content:
        np.savez(index, **{**content, name: objects, "stamp": objects if name == "stamp" else stamp})
        assert main(check) == 0
    assert main(cache) == 0
    files = list((tmp_path / "runs" / "image-cache").glob("*.images"))
    assert len(files) == 2
    for file in files:
        hostile_pickle(file, canary)
    assert main(cache) == 0
    assert not canary.exists()


def test_a_configuration_inside_a_checkpoint_is_as_strict_as_a_file(run: Path, tmp_path: Path) -> None:
    from rexnet.checkpoints.checkpoint import load_trained, read_checkpoint

    content = read_checkpoint(run / "checkpoints" / "last.ckpt")
    tree = json.loads(content["rexnet"]["config"])
    for change, message in (
        ({"name": "../../etc/x"}, "name: "),
        ({"model": {**tree["model"], "name": "os.system"}}, r"model\.name: "),
        ({"_target_": "os.system"}, "_target_: no such key"),
        ({"data": {**tree["data"], "image_size": 10**9}}, r"data\.image_size: .*less than or equal to"),
    ):
        content["rexnet"]["config"] = json.dumps({**tree, **change})
        torch.save(content, tmp_path / "x.ckpt")
        with pytest.raises(ConfigError, match=message):
            load_trained(tmp_path / "x.ckpt")


@pytest.mark.parametrize(
    "override",
    [
        "trainer.log_every_steps=010",
        "trainer.log_every_steps=1:30",
        "data.batch_size=on",
        "data.batch_size=1_6",
        "optimizer.lr=0x1F",
    ],
)
def test_what_yaml_would_turn_into_another_number_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=override.partition("=")[0].replace(".", r"\.")):
        load_config("quickstart", [override])


@pytest.mark.parametrize("path", ["/etc/passwd", "../../outside.jpg"])
def test_a_list_of_images_cannot_lead_out_of_its_folder(path: str, tmp_path: Path) -> None:
    from rexnet.data.datasets.cub200 import index_cub200

    root = tmp_path / "CUB_200_2011"
    (root / "images").mkdir(parents=True)
    (tmp_path / "outside.jpg").write_text("secret")
    tables = {"classes": "1 001.a", "images": f"1 {path}", "image_class_labels": "1 1", "train_test_split": "1 1"}
    for name, text in tables.items():
        (root / f"{name}.txt").write_text(text)
    with pytest.raises(DataError):
        index_cub200(root, "train")


def test_importing_and_training_reach_no_network(small_run: list[str], tmp_path: Path) -> None:
    """Every attempt to connect anywhere but to this machine's own sockets ends the program."""
    script = (
        "import socket, sys\n"
        "def refused(self, address, *_):\n"
        "    if self.family != socket.AF_UNIX: sys.exit(f'connects to {address}')\n"
        "socket.socket.connect = socket.socket.connect_ex = refused\n"
        "socket.getaddrinfo = lambda *arguments, **_: sys.exit(f'looks up {arguments}')\n"
        "from rexnet.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    arguments = ["train", "--config", "finetune/folder.yaml", *small_run, "trainer.max_steps=1"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_flipped_bit_of_a_weight_is_found(run: Path, tmp_path: Path) -> None:
    from rexnet.checkpoints.checkpoint import load_trained

    copy = tmp_path / "last.ckpt"
    shutil.copy(run / "checkpoints" / "last.ckpt", copy)
    assert load_trained(copy).weights == "ema"
    content = bytearray(copy.read_bytes())
    with zipfile.ZipFile(copy) as archive:  # a bit of a tensor; between the parts there is padding, which holds nothing
        largest = max((archive.read(name) for name in archive.namelist()), key=len)
    content[content.index(largest) + len(largest) // 2] ^= 4
    copy.write_bytes(content)
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        load_trained(copy)
