import argparse
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rexnet.config.schema import ModelConfig
from rexnet.errors import CheckpointError, ConfigError
from rexnet.models.factory import build_model, split_parameters
from rexnet.models.pretrained import load_pretrained, read_weights
from rexnet.models.rexnet import ReXNet

GOLDEN = Path(__file__).parents[1] / "golden"


def network(classes: int = 10, width: float = 0.2) -> ReXNet:
    return ReXNet(width, classes)


def same_backbone(one: ReXNet, other: ReXNet) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items() if "head.fc" not in name)


def test_weights_in_the_authors_names_are_recognised_with_their_width() -> None:
    shapes = json.loads((GOLDEN / "rexnetv1_1.3.json").read_text())["keys"]
    path = GOLDEN / "never-written"
    with pytest.raises(CheckpointError, match="no such weight file"):
        read_weights(path)
    from rexnet.models.pretrained import recognise, to_own_names

    weights = to_own_names({name: torch.zeros(shape) for name, shape in shapes.items()})
    assert recognise(weights) == "a ReXNetV1 of width 1.3"
    assert weights["head.fc.weight"].shape == (1000, 1664)


@pytest.mark.parametrize(
    "form", ["plain.pth", "plain.safetensors", "state_dict.pth", "ddp.pth", "compiled.pth", "own.ckpt"]
)
def test_every_form_of_file_gives_the_same_weights(form: str, tmp_path: Path) -> None:
    source, target, path = network(), network(), tmp_path / form
    state = source.state_dict()
    match form:
        case "plain.safetensors":
            save_file(state, path)
        case "plain.pth":
            torch.save(state, path)
        case "state_dict.pth":
            torch.save({"epoch": 3, "state_dict": state}, path)
        case "ddp.pth":
            torch.save({f"module.{name}": value for name, value in state.items()}, path)
        case "compiled.pth":
            torch.save({"model": {f"_orig_mod.{name}": value for name, value in state.items()}}, path)
        case "own.ckpt":  # the averaged weights are preferred to the raw ones beside them
            raw = {f"model.{name}": value for name, value in network().state_dict().items()}
            torch.save({"state_dict": raw | {f"ema_model.{name}": value for name, value in state.items()}}, path)
    assert "classifier included" in load_pretrained(target, str(path), "rexnet")
    assert same_backbone(source, target)
    assert torch.equal(source.head.fc.weight, target.head.fc.weight)


def test_a_classifier_for_other_classes_is_made_anew_and_said_so(tmp_path: Path) -> None:
    source, target = network(1000), network(12)
    fresh = target.head.fc.weight.clone()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    line = load_pretrained(target, str(tmp_path / "w.pth"), "rexnet")
    assert "its classifier has 1000 classes, a new one for 12 was initialised" in line
    assert same_backbone(source, target)
    assert torch.equal(target.head.fc.weight, fresh)


def test_weights_of_timm_networks_load_under_their_own_names(tmp_path: Path) -> None:
    import timm

    torch.save(timm.create_model("rexnet_100").state_dict(), tmp_path / "rexnet_100.pth")
    config = ModelConfig(name="rexnet", dropout=0, drop_path=0, pretrained=str(tmp_path / "rexnet_100.pth"))
    images = torch.randn(2, 3, 64, 64)
    theirs = timm.create_model("rexnet_100", checkpoint_path=str(tmp_path / "rexnet_100.pth")).eval()(images)
    torch.testing.assert_close(build_model(config, 1000).eval()(images), theirs)


def test_another_width_is_named_as_what_it_is(tmp_path: Path) -> None:
    torch.save(network(1000, width=1.3).state_dict(), tmp_path / "w.pth")
    with pytest.raises(
        CheckpointError, match=r"w\.pth: holds a ReXNetV1 of width 1\.3, which does not fit rexnet_100: "
    ):
        load_pretrained(network(1000, width=1.0), str(tmp_path / "w.pth"), "rexnet_100")


def test_another_network_is_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="holds another network than ReXNetV1, which does not fit rexnet"):
        load_pretrained(network(), str(tmp_path / "w.pth"), "rexnet")


class Canary:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("canary"),)


@pytest.mark.parametrize("content", [b"hello", b"", pickle.dumps(Canary())])
def test_a_file_that_holds_no_weights_is_refused_without_running_it(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"w\.pth: cannot be read as weights"):
        read_weights(tmp_path / "w.pth")
    assert not (tmp_path / "canary").exists()


def test_checkpoints_of_timms_training_script_are_read_with_their_averaged_weights(tmp_path: Path) -> None:
    source, raw, target = network(), network(), network()
    content = {
        "args": argparse.Namespace(lr=0.1),
        "state_dict": raw.state_dict(),
        "state_dict_ema": source.state_dict(),
    }
    torch.save(content, tmp_path / "w.pth.tar")
    load_pretrained(target, str(tmp_path / "w.pth.tar"), "rexnet")
    assert same_backbone(source, target)


def test_a_network_without_a_single_last_layer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.name: timm/levit_128s has no single last layer"):
        build_model(ModelConfig(name="timm/levit_128s", dropout=0, drop_path=0), 10)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    save_file(network().state_dict(), path) if suffix == ".safetensors" else torch.save(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        read_weights(path)


def test_a_name_on_the_hub_that_cannot_be_reached_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        CheckpointError, match=r"nav_in1k: neither a file here nor weights .* as timm/rexnet_100\.nav_in1k"
    ):
        load_pretrained(network(), "nav_in1k", "rexnet_100")


def test_a_name_on_the_hub_is_fetched_from_the_networks_own_repository(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = network()
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    asked = []

    def download(*arguments: str) -> str:
        asked.append(arguments)
        return str(tmp_path / "model.safetensors")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    target = network()
    load_pretrained(target, "nav_in1k", "rexnet_130")
    assert asked == [("timm/rexnet_130.nav_in1k", "model.safetensors")]
    assert same_backbone(source, target)


def test_a_timm_network_that_does_not_exist_names_the_nearest() -> None:
    config = ModelConfig(name="timm/tf_efficientnet_lite00", dropout=0, drop_path=0)
    with pytest.raises(
        ConfigError, match=r"timm .* has no network 'tf_efficientnet_lite00'; nearest: timm/tf_efficientnet_lite0"
    ):
        build_model(config, 10)


def test_dropout_and_drop_path_reach_both_kinds_of_network() -> None:
    own = build_model(ModelConfig(name="rexnet", width_mult=0.2, dropout=0.3, drop_path=0.25), 5)
    assert isinstance(own, ReXNet)
    assert own.head.dropout.p == 0.3
    assert own.features[15].drop_path == 0.25
    theirs = build_model(ModelConfig(name="timm/mobilenetv2_050", dropout=0.3, drop_path=0.25), 5)
    assert theirs.drop_rate == 0.3
    assert theirs.blocks[5][1].drop_path.drop_prob > 0.15


def test_backbone_and_classifier_share_no_parameter() -> None:
    backbone, classifier = split_parameters(network(10))
    assert [p.shape for p in classifier] == [(10, 256), (10,)]
    assert len(backbone) + len(classifier) == len(list(network(10).parameters()))
