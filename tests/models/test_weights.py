import argparse
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rexnet import rexnet
from rexnet.errors import CheckpointError
from rexnet.models.weights import read_weights


class Canary:
    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (Path("canary"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello, I am a text", "is no weight file; it begins with 'hello, I am a text'"),
        (b"", "is no weight file; it begins with ''"),
        (
            pickle.dumps(Canary(), protocol=2),
            r"cannot be read as weights: it would run code when loaded \(getattr\), which is refused",
        ),
    ],
    ids=["text", "empty", "code"],
)
def test_a_file_that_holds_no_weights_is_refused_without_running_it(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"w\.pth: {message}"):
        read_weights(tmp_path / "w.pth")
    assert not (tmp_path / "canary").exists()


def test_a_torch_file_that_needs_code_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(2), "canary": Canary()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"it would run code when loaded \(.*\), which is refused"):
        read_weights(tmp_path / "w.pth")
    assert not (tmp_path / "canary").exists()


def test_checkpoints_of_timms_training_script_give_their_ema_weights(tmp_path: Path) -> None:
    raw, ema = rexnet(0.2, num_classes=3).state_dict(), rexnet(0.2, num_classes=3).state_dict()
    content = {"args": argparse.Namespace(lr=0.1), "state_dict": raw, "state_dict_ema": ema}
    torch.save(content, tmp_path / "w.pth.tar")
    assert torch.equal(read_weights(tmp_path / "w.pth.tar").weights["head.fc.weight"], ema["head.fc.weight"])


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        (".pth", "is truncated: the end of the archive is missing"),
        (".safetensors", "is truncated or no safetensors file"),
    ],
)
def test_a_truncated_file_is_refused(suffix: str, message: str, tmp_path: Path) -> None:
    path, state = tmp_path / f"w{suffix}", rexnet(0.2, num_classes=3).state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=message):
        read_weights(path)


@pytest.mark.parametrize("name", ["torch.safetensors", "old.safetensors", "safetensors.pth"])
def test_a_file_is_read_by_what_it_is_whatever_its_name(name: str, tmp_path: Path) -> None:
    state = {"a": torch.arange(3.0)}
    if name == "safetensors.pth":
        save_file(state, tmp_path / name)
    else:
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=name != "old.safetensors")
    assert torch.equal(read_weights(tmp_path / name).weights["a"], state["a"])


def test_a_missing_file_and_one_without_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"w\.pth: no such weight file"):
        read_weights(tmp_path / "w.pth")
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"w\.pth: holds no weights, only dict"):
        read_weights(tmp_path / "w.pth")


def test_the_names_of_the_classes_come_with_a_checkpoint_of_ours(tmp_path: Path) -> None:
    state = {f"model.{name}": value for name, value in rexnet(0.2, num_classes=2).state_dict().items()}
    torch.save({"state_dict": state, "rexnet": {"class_names": ["ant", "bee"]}}, tmp_path / "w.ckpt")
    assert read_weights(tmp_path / "w.ckpt").class_names == ("ant", "bee")
    torch.save(state, tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.pth").class_names is None
