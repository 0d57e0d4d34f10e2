from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rexnet import rexnet
from rexnet.config.schema import ModelConfig
from rexnet.errors import CheckpointError, ConfigError
from rexnet.models.factory import build_model, split_parameters
from rexnet.models.naming import to_official_names
from rexnet.models.plan import Variant
from rexnet.models.pretrained import load_pretrained
from rexnet.models.rexnet import ReXNet

GOLDEN = Path(__file__).parents[1] / "golden"


def network(classes: int = 10, width: float = 0.2) -> ReXNet:
    return rexnet(width, num_classes=classes)


def same_backbone(one: ReXNet, other: ReXNet) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items() if "head.fc" not in name)


@pytest.mark.parametrize(
    "form", ["plain.pth", "plain.safetensors", "official.pth", "state_dict.pth", "ddp.pth", "compiled.pth", "own.ckpt"]
)
def test_every_form_of_file_gives_the_same_weights(form: str, tmp_path: Path) -> None:
    source, target, path = network(), network(), tmp_path / form
    state = source.state_dict()
    match form:
        case "plain.safetensors":
            save_file(state, path)
        case "official.pth":
            torch.save(to_official_names(state), path)
        case "plain.pth":
            torch.save(state, path)
        case "state_dict.pth":
            torch.save({"epoch": 3, "state_dict": state}, path)
        case "ddp.pth":
            torch.save({f"module.{name}": value for name, value in state.items()}, path)
        case "compiled.pth":
            torch.save({"model": {f"_orig_mod.{name}": value for name, value in state.items()}}, path)
        case "own.ckpt":  # EMA weights are preferred to raw ones
            raw = {f"model.{name}": value for name, value in network().state_dict().items()}
            torch.save({"state_dict": raw | {f"ema_model.{name}": value for name, value in state.items()}}, path)
    assert "classifier included" in load_pretrained(target, str(path), "rexnet")
    assert same_backbone(source, target)
    assert torch.equal(source.head.fc.weight, target.head.fc.weight)


def test_a_classifier_for_other_classes_is_initialized_and_reported(tmp_path: Path) -> None:
    source, target = network(1000), network(12)
    fresh = target.head.fc.weight.clone()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    line = load_pretrained(target, str(tmp_path / "w.pth"), "rexnet")
    assert "its classifier has 1000 classes, a new one for 12 was initialized" in line
    assert same_backbone(source, target)
    assert torch.equal(target.head.fc.weight, fresh)


@pytest.mark.parametrize("variant", ["v1", "lite"])
@pytest.mark.parametrize("official", [False, True])
def test_a_backbone_without_head_gets_a_new_one(variant: Variant, official: bool, tmp_path: Path) -> None:
    source, target = rexnet(0.2, variant, 10), rexnet(0.2, variant, 4)
    fresh = target.head.fc.weight.clone()
    state = to_official_names(source.state_dict()) if official else source.state_dict()
    headless = {name: value for name, value in state.items() if not name.startswith(("head.", "output."))}
    torch.save(headless, tmp_path / "w.pth")
    line = load_pretrained(target, str(tmp_path / "w.pth"), "rexnet")
    assert line.endswith("w.pth; it holds no classifier, a new one for 4 classes was initialized.")
    theirs = target.features.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in source.features.state_dict().items())
    assert torch.equal(target.head.fc.weight, fresh)
    torch.save({name: value for name, value in headless.items() if ".16." not in name}, tmp_path / "w.pth")
    if not official:
        with pytest.raises(CheckpointError, match=r'Missing key\(s\) in state_dict: "features\.16\.conv\.weight"'):
            load_pretrained(target, str(tmp_path / "w.pth"), "rexnet")


def test_rows_of_classes_with_the_same_name_are_kept(tmp_path: Path) -> None:
    source, target = network(3), network(4)
    fresh = target.head.fc.weight.clone()
    description = {"class_names": ["ant", "bee", "cow"]}
    torch.save({"state_dict": source.state_dict(), "rexnet": description}, tmp_path / "w.ckpt")
    line = load_pretrained(target, str(tmp_path / "w.ckpt"), "rexnet", ("Cow", "dog", "ant", "eel"))
    assert line.endswith("3 classes: 2 of the 4 here have the same name and keep their rows, 2 are new.")
    assert torch.equal(target.head.fc.weight[[0, 2]], source.head.fc.weight[[2, 0]])
    assert torch.equal(target.head.fc.bias[[0, 2]], source.head.fc.bias[[2, 0]])
    assert torch.equal(target.head.fc.weight[[1, 3]], fresh[[1, 3]])


def test_the_same_classes_in_another_order_are_put_in_order(tmp_path: Path) -> None:
    source, target = network(3), network(3)
    description = {"class_names": ["ant", "bee", "cow"]}
    torch.save({"state_dict": source.state_dict(), "rexnet": description}, tmp_path / "w.ckpt")
    load_pretrained(target, str(tmp_path / "w.ckpt"), "rexnet", ("cow", "ant", "bee"))
    assert torch.equal(target.head.fc.weight, source.head.fc.weight[[2, 0, 1]])


def test_a_classifier_whose_classes_are_all_others_is_initialized(tmp_path: Path) -> None:
    source, target = network(2), network(2)
    fresh = target.head.fc.weight.clone()
    torch.save({"state_dict": source.state_dict(), "rexnet": {"class_names": ["ant", "bee"]}}, tmp_path / "w.ckpt")
    line = load_pretrained(target, str(tmp_path / "w.ckpt"), "rexnet", ("cow", "dog"))
    assert line.endswith("its classifier has 2 classes, a new one for 2 was initialized.")
    assert torch.equal(target.head.fc.weight, fresh)


@pytest.mark.parametrize(
    ("name", "value"),
    [("stem.conv.weight", torch.zeros(())), ("head.fc.weight", torch.zeros(3)), ("head.fc.bias", torch.zeros(()))],
)
def test_a_tensor_of_another_form_is_one_sentence(name: str, value: torch.Tensor, tmp_path: Path) -> None:
    torch.save(network().state_dict() | {name: value}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"w\.pth: holds another network than rexnet: size mismatch"):
        load_pretrained(network(), str(tmp_path / "w.pth"), "rexnet")


def test_imagenets_rows_are_kept_for_classes_that_imagenet_has(tmp_path: Path) -> None:
    source, target = network(1000), network(2)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    line = load_pretrained(target, str(tmp_path / "w.pth"), "rexnet", ("n01443537", "my cat"))
    assert "1 of the 2 here have the same name" in line
    assert torch.equal(target.head.fc.weight[0], source.head.fc.weight[1])


def test_a_whole_network_comes_from_one_call_and_a_file(tmp_path: Path) -> None:
    source = rexnet(0.3, "lite", 7)
    torch.save(to_official_names(source.state_dict()), tmp_path / "lite.pth")
    target = rexnet(0.3, "lite", 7, pretrained=str(tmp_path / "lite.pth"))
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())
    with pytest.raises(CheckpointError, match="holds another network than rexnet_030: Missing key"):
        rexnet(0.3, "v1", 7, pretrained=str(tmp_path / "lite.pth"))


def test_weights_of_timm_networks_load_under_their_own_names(tmp_path: Path) -> None:
    import timm

    torch.save(timm.create_model("rexnet_100").state_dict(), tmp_path / "rexnet_100.pth")
    config = ModelConfig(name="rexnet", dropout=0, drop_path=0, pretrained=str(tmp_path / "rexnet_100.pth"))
    images = torch.randn(2, 3, 64, 64)
    theirs = timm.create_model("rexnet_100", checkpoint_path=str(tmp_path / "rexnet_100.pth")).eval()(images)
    torch.testing.assert_close(build_model(config, [str(n) for n in range(1000)]).eval()(images), theirs)


def test_another_network_is_refused(tmp_path: Path) -> None:
    torch.save(network(1000, width=1.3).state_dict(), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"rexnet_100: size mismatch for stem\.conv\.weight: .*\[42, 3, 3, 3\]"):
        load_pretrained(network(1000, width=1.0), str(tmp_path / "w.pth"), "rexnet_100")
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="holds another network than rexnet: Missing key"):
        load_pretrained(network(), str(tmp_path / "w.pth"), "rexnet")


def test_a_network_without_a_single_last_layer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.name: timm/levit_128s has no single last layer"):
        build_model(ModelConfig(name="timm/levit_128s", dropout=0, drop_path=0), ["a", "b"])


def test_a_timm_network_that_does_not_exist_names_the_nearest() -> None:
    config = ModelConfig(name="timm/tf_efficientnet_lite00", dropout=0, drop_path=0)
    with pytest.raises(
        ConfigError, match=r"timm .* has no network 'tf_efficientnet_lite00'; nearest: timm/tf_efficientnet_lite0"
    ):
        build_model(config, ["a", "b"])


def test_dropout_and_drop_path_reach_both_kinds_of_network() -> None:
    own = build_model(ModelConfig(name="rexnet", width_mult=0.2, dropout=0.3, drop_path=0.25), ["a", "b"])
    assert isinstance(own, ReXNet)
    assert own.head.dropout.p == 0.3
    assert own.features[15].drop_path == 0.25
    theirs = build_model(ModelConfig(name="timm/mobilenetv2_050", dropout=0.3, drop_path=0.25), ["a", "b"])
    assert theirs.drop_rate == 0.3
    assert theirs.blocks[5][1].drop_path.drop_prob > 0.15


def test_backbone_and_classifier_share_no_parameter() -> None:
    backbone, classifier = split_parameters(network(10))
    assert [p.shape for p in classifier] == [(10, 256), (10,)]
    assert len(backbone) + len(classifier) == len(list(network(10).parameters()))
