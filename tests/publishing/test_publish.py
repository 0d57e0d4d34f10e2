import errno
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from rexnet.checkpoints.checkpoint import Trained, load_trained
from rexnet.cli import main
from rexnet.config import load_config
from rexnet.config.portable import make_portable
from rexnet.errors import CheckpointError, ConfigError, DataError
from rexnet.export.formats import write_safetensors
from rexnet.metrics.predictions import Predictions, predictions_path, save_predictions
from rexnet.models.factory import build_model, find_timm_architecture
from rexnet.preprocessing import resolve_preprocessing
from rexnet.publishing import publish as module
from rexnet.publishing.card import markdown, write_card
from rexnet.publishing.publish import publish

NAMES = ("ant", "bee", "<b>|cow`\n")


@pytest.fixture(scope="module")
def trained() -> Trained:
    """ReXNet 1.0x for three classes, with random weights."""
    config = load_config("finetune/folder.yaml", ["model.width_mult=1.0", "data.image_size=32", "data.root=/home/me/x"])
    torch.manual_seed(0)
    model = build_model(config.model, NAMES).eval()
    return Trained(
        model,
        resolve_preprocessing(config, NAMES),
        config,
        "ema",
        Path("epoch003-top1_71.20.ckpt"),
        {"val_ema/top1": 71.2},
        1.5,
    )


@pytest.fixture
def predictions() -> Predictions:
    """Three of four right; the second image, a bee, is taken for an ant."""
    logits = np.array([[3, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 3]], np.float32)
    return Predictions(logits, np.array([0, 1, 1, 2]), ("a", "b", "c", "d"), NAMES)


def test_a_run_becomes_a_folder_that_loads_again_and_tells_no_place(
    trained_run: Path, image_root: Path, tmp_path: Path
) -> None:
    run, root = tmp_path / "canary-runs" / "canary-run", tmp_path / "canary-root"
    shutil.copytree(trained_run, run)
    root.symlink_to(image_root)
    plant_canaries(run, root)
    target = tmp_path / "there"
    target.mkdir()
    assert main(["publish", str(run), "--to", str(target), "--data", str(root)]) == 0
    names = {path.name for path in target.iterdir()}
    assert names == {"model.safetensors", "model.onnx", "config.yaml", "README.md", "report.html"}
    again, before = load_trained(target / "model.safetensors"), load_trained(trained_run)
    for name, value in before.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value)
    assert before.config.trainer.pad_channels == 8
    assert load_file(target / "model.safetensors")["features.5.conv_pwl.conv.weight"].shape == (46, 240, 1, 1)
    card = (target / "README.md").read_text()
    assert "On the 15 validation images (EMA weights" in card
    assert "timm" not in card  # it has no ReXNet of width 0.2
    for name in names:
        content = (target / name).read_bytes()
        for place in (
            "canary",
            str(image_root),
            str(trained_run.parent),
            str(Path(module.__file__).parents[2]),
            sys.prefix,
        ):
            assert place.encode() not in content, name
    report = (target / "report.html").read_text()
    assert f"<h1>{target.name}</h1>" in report
    assert "of 15 images were taken for another class" in report
    assert "weight_decay" in report  # what differs from the base recipe
    assert load_config(target / "config.yaml").data.image_size == 32
    assert sorted(os.listdir(tmp_path)) == ["canary-root", "canary-runs", "there"]


def plant_canaries(run: Path, root: Path) -> None:
    """The word canary wherever a run folder can name a folder, a file, a person or a machine."""
    tree = yaml.safe_load((run / "config.yaml").read_text())
    tree["data"] |= {"root": str(root), "manifest": "/canary/m.csv", "cache_folder": "/canary/cache"}
    tree["trainer"]["runs_dir"] = "/canary/runs"
    tree["model"]["pretrained"] = "/home/canary/weights.pth"
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    facts = json.loads((run / "environment.json").read_text())
    facts["command"] = ["/home/canary/train.py", "--config", "finetune/folder.yaml", f"data.root={root}"]
    facts |= {"platform": "Linux-canary", "user": "canary", "host": "canary", "cwd": "/canary"}
    facts["git"] = {"commit": "0123abc", "changed_files": ["M canary.py"], "remote": "canary"}
    (run / "environment.json").write_text(json.dumps(facts))
    state = json.loads((run / "state.json").read_text())
    state |= {"state": "failed", "detail": "no space left on /canary", "host": "canary"}
    (run / "state.json").write_text(json.dumps(state))
    (run / "tracking.json").write_text('{"wandb": "canary"}')
    answers = Predictions(np.zeros((1, 3), np.float32), np.array([0]), ("canary.png",), ("ant", "bee", "cow"))
    save_predictions(predictions_path(run, "last", "ema", "val-canary"), answers)  # as on the folder canary


def test_the_card_gives_lines_for_timm_that_work(trained: Trained, predictions: Predictions, tmp_path: Path) -> None:
    architecture = find_timm_architecture(trained.model, trained.config.model)
    assert architecture == "rexnet_100"
    write_safetensors(trained, tmp_path / "model.safetensors")
    module._write_timm_config(architecture, trained, tmp_path / "config.json")
    write_card("birds", 4, trained, predictions, architecture, tmp_path / "README.md")
    card = (tmp_path / "README.md").read_text()
    line = re.search(r"(import timm\n\nmodel = timm\.create_model\(.*\))\n", card)[1]
    names: dict[str, torch.nn.Module] = {}
    exec(line.replace('"model.safetensors"', repr(str(tmp_path / "model.safetensors"))), names)
    import timm

    local = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = trained.model(images)
        torch.testing.assert_close(names["model"].eval()(images), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(local.eval()(images), expected, atol=1e-5, rtol=1e-5)
    assert list(local.pretrained_cfg["input_size"]) == [3, 32, 32]
    assert local.pretrained_cfg["crop_pct"] == 0.875
    assert load_trained(tmp_path / "model.safetensors").temperature == 1.5


def test_a_network_that_timm_would_build_otherwise_has_no_name_there(trained: Trained) -> None:
    config = trained.config.model.model_copy(update={"depth_mult": 0.5})
    assert find_timm_architecture(build_model(config, NAMES), config) is None


def test_the_card_tells_numbers_with_intervals_and_what_they_are_of(
    trained: Trained, predictions: Predictions, tmp_path: Path
) -> None:
    write_card("birds", 2, trained, predictions, None, tmp_path / "README.md")
    card = (tmp_path / "README.md").read_text()
    assert "| top-1 | 75.00 % | 30.06 to 95.44 % |" in card  # Wilson's interval of 3 in 4
    assert "| the same at temperature 1.500 (fitted on some of these images) |" in card
    assert "\n# birds\n" in card
    assert "On the 4 validation images" in card
    assert "Hardest classes: bee (50 % of 2), " in card
    assert "Most often confused: bee for ant (1 of 2)." in card
    assert "2 of 20 epochs, sgd, learning rate 0.05, batch 32" in card
    assert "Classes: ant, bee, &lt;b&gt;\\|cow\\`." in card
    assert yaml.safe_load(card.split("---")[1])["pipeline_tag"] == "image-classification"


def test_names_of_strangers_stay_text() -> None:
    assert markdown("a\n# b [x](http://y) <script>") == "a \\# b \\[x\\](http://y) &lt;script&gt;"


def test_no_folder_of_this_machine_is_in_a_published_configuration(trained: Trained) -> None:
    changes = {"model": trained.config.model.model_copy(update={"pretrained": "/home/me/weights/w.pth"})}
    text = json.dumps(make_portable(trained.config.model_copy(update=changes)).model_dump(mode="json"))
    assert "/home/me" not in text
    assert "w.pth" in text
    digits = {"dataset": "digits", "root": Path("/home/me/digits"), "download": True}
    told = make_portable(trained.config.model_copy(update={"data": trained.config.data.model_copy(update=digits)}))
    assert (told.data.root, told.data.download) == (
        Path("data/digits"),
        False,
    )  # nothing is made at a path of no meaning


class Canary:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_checkpoint_of_a_stranger_runs_no_code(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    content = {"rexnet": {}, "state_dict": {}, "more": Canary(tmp_path / "canary")}
    torch.save(content, tmp_path / "run" / "checkpoints" / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"last\.ckpt: cannot be read as a checkpoint"):
        publish(tmp_path / "run", tmp_path / "new")
    assert os.listdir(tmp_path) == ["run"]


def test_a_failed_publication_leaves_nothing(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise DataError("an image is broken")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    faults = {broken: "an image is broken", full: "new: cannot be written: No space left on device"}
    for fault, message in faults.items():
        monkeypatch.setattr(module, "write_onnx", fault)
        with pytest.raises((DataError, ConfigError), match=message):
            publish(trained_run, tmp_path / "new")
        assert os.listdir(tmp_path) == []


def test_what_cannot_be_published_is_one_sentence(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    with pytest.raises(ConfigError, match="full: exists already; give the name of a new folder"):
        publish(trained_run, tmp_path / "full")
    with pytest.raises(CheckpointError, match="is not a run folder"):
        publish(trained_run / "config.yaml", tmp_path / "new")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        publish(tmp_path / "full", tmp_path / "new")
    with pytest.raises(DataError, match="nowhere: does not exist; name the images with --data"):
        publish(trained_run, tmp_path / "new", root=tmp_path / "nowhere")
    assert sorted(os.listdir(tmp_path)) == ["full"]
