import json
import shutil
from pathlib import Path

import pytest
import torch

from rexnet.checkpoints.checkpoint import load_trained, read_checkpoint
from rexnet.config import Config
from rexnet.errors import CheckpointError
from rexnet.training.checkpoint_io import DurableCheckpointIO
from rexnet.training.classification import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, image_root: Path) -> Path:
    from conftest import SMALL_RUN

    from rexnet.config import load_config

    runs = tmp_path_factory.mktemp("runs")
    config = load_config("finetune/folder.yaml", [*SMALL_RUN, f"data.root={image_root}", f"trainer.runs_dir={runs}"])
    return train(config).run


def last(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


def test_a_checkpoint_holds_plain_values_and_all_that_a_classifier_needs(run: Path) -> None:
    content = read_checkpoint(last(run))
    entry = content["rexnet"]
    assert json.loads(json.dumps(entry)) == entry
    assert entry["class_names"] == ["ant", "bee", "cow"]
    assert json.loads(entry["config"])["eval_transform"] == {"crop_pct": 0.875, "interpolation": "bicubic"}
    assert {name.partition(".")[0] for name in content["state_dict"]} == {"model", "ema_model"}


def test_raw_and_ema_weights_are_loaded_by_kind(run: Path) -> None:
    content = read_checkpoint(last(run))["state_dict"]
    for kind, prefix in {"raw": "model.", "ema": "ema_model."}.items():
        trained = load_trained(last(run), kind)
        assert trained.weights == kind
        for name, value in trained.model.state_dict().items():
            assert torch.equal(value, content[prefix + name])
    assert load_trained(last(run)).weights == "ema"
    assert not load_trained(last(run)).model.training


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused_with_its_size(share: float, run: Path, tmp_path: Path) -> None:
    content = last(run).read_bytes()
    path = tmp_path / "cut.ckpt"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(
        CheckpointError, match=r"cut\.ckpt: cannot be read as a checkpoint, truncated or not one \([\d,]+ bytes\)"
    ):
        load_trained(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("rexnet"), "is not a checkpoint of this program"),
        (lambda content: content["rexnet"].update(format=99), "has checkpoint format 99; this version reads 2"),
        (lambda content: content["rexnet"].update(config="{}"), "the config in .*: 9 errors"),
        (lambda content: content["rexnet"].update(class_names=["a"]), "weights do not fit its own config"),
    ],
)
def test_a_foreign_or_inconsistent_checkpoint_is_refused(change, message: str, run: Path, tmp_path: Path) -> None:
    content = read_checkpoint(last(run))
    change(content)
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=message):
        load_trained(tmp_path / "x.ckpt")


def test_missing_ema_weights_are_reported(run: Path, tmp_path: Path) -> None:
    content = read_checkpoint(last(run))
    content["state_dict"] = {k: v for k, v in content["state_dict"].items() if not k.startswith("ema_model.")}
    torch.save(content, tmp_path / "x.ckpt")
    assert load_trained(tmp_path / "x.ckpt").weights == "raw"
    with pytest.raises(CheckpointError, match="holds no EMA weights"):
        load_trained(tmp_path / "x.ckpt", "ema")


def test_a_failed_save_leaves_the_previous_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io, path = DurableCheckpointIO(), tmp_path / "deep" / "last.ckpt"
    io.save_checkpoint({"step": torch.tensor(1)}, path)
    before = path.read_bytes()

    def full(content: object, file) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        CheckpointError, match=r"last\.ckpt: could not be written, the previous file is untouched: .*No space"
    ):
        io.save_checkpoint({"step": torch.tensor(2)}, path)
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == ["last.ckpt"]


def test_a_moved_run_folder_is_still_complete(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "moved")
    trained = load_trained(tmp_path / "moved")
    assert isinstance(trained.config, Config)
    assert trained.metrics["val/top1"] >= 0
