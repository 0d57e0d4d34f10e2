"""Code for the authors' `rexnetv1.py` runs with ours in its place."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import rexnet as rexnetv1
from rexnet import ReXNetV1, ReXNetV1_lite, rexnet
from rexnet.errors import ConfigError
from rexnet.models.naming import to_official_names

GOLDEN = Path(__file__).parents[1] / "golden"


def official_weights(name: str) -> dict[str, torch.Tensor]:
    shapes = json.loads((GOLDEN / f"{name}.json").read_text())["keys"]
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.tensor(1) if key.endswith("tracked") else torch.rand(shape, generator=generator) * 0.1 + 0.05
        for key, shape in shapes.items()
    }


def test_the_lines_of_the_authors_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(official_weights("rexnetv1_1.0"), "rexnetv1_1.0.pth")
    model = rexnetv1.ReXNetV1(width_mult=1.0)
    model.load_state_dict(torch.load("./rexnetv1_1.0.pth"))
    model.eval()
    print(model(torch.randn(1, 3, 224, 224)))
    assert capsys.readouterr().out.startswith("tensor([[")


@pytest.mark.parametrize("name", ["rexnetv1_0.9", "rexnetv1_1.3", "rexnetv1_lite_1.0", "rexnetv1_lite_1.5"])
def test_weights_in_either_naming_give_the_same_logits(name: str) -> None:
    width = float(name.rpartition("_")[2])
    lite = "lite" in name
    model = ReXNetV1_lite(multiplier=width) if lite else ReXNetV1(width_mult=width)
    ours = rexnet(width, "lite" if lite else "v1")
    model.load_state_dict(official_weights(name))
    ours.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert model.eval()(images).shape == (2, 1000)
    assert torch.equal(model(images), ours.eval()(images))
    assert torch.equal(model.extract_features(images), ours.forward_features(images))


def test_weights_load_as_part_of_a_larger_module_and_without_the_classifier() -> None:
    official = official_weights("rexnetv1_lite_1.0")
    wrapped = nn.Sequential(ReXNetV1_lite())
    wrapped.load_state_dict({f"0.{name}": value for name, value in official.items()})
    assert torch.equal(wrapped[0].head.hidden.bn.weight, official["output.1.weight"])
    del official["output.4.weight"], official["output.4.bias"]
    missing, unexpected = ReXNetV1_lite(classes=5).load_state_dict(official, strict=False)
    assert (missing, unexpected) == (["head.fc.weight", "head.fc.bias"], [])


@pytest.mark.parametrize("se_ratio", [4, 12, 49])
def test_the_width_of_squeeze_and_excitation_is_that_of_integer_division(se_ratio: int) -> None:
    with torch.device("meta"):
        model = ReXNetV1(se_ratio=se_ratio, use_se=True, classes=7, depth_mult=2.0)
    blocks = [block for block in model.plan.blocks if block.squeezed_channels]
    assert len(model.plan.blocks) == 32
    assert len(blocks) == 26
    assert all(block.squeezed_channels == block.expanded_channels // se_ratio for block in blocks)


def test_lite_takes_the_settings_of_batchnorm_and_rounding() -> None:
    with torch.device("meta"):
        model = ReXNetV1_lite(
            divisible_value=None, bn_momentum=0.01, bn_eps=1e-3, fix_head_stem=True, dropout_ratio=0.5
        )
    assert {(m.momentum, m.eps) for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {(0.01, 1e-3)}
    assert [block.out_channels for block in model.plan.blocks][:4] == [16, 27, 38, 49]
    assert model.head.dropout.p == 0.5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ReXNetV1(input_ch=24), "input_ch: only 16 is supported, as in the published networks, not 24"),
        (lambda: ReXNetV1(16, 200), "final_ch: only 180 is supported"),
        (lambda: ReXNetV1_lite(fix_head_stem=True, multiplier=1.3), "fix_head_stem: only False is supported"),
        (lambda: ReXNetV1_lite(kernel_conf="333355"), "kernel_conf: only '333333' is supported"),
    ],
)
def test_arguments_that_cannot_be_honored_are_one_sentence(build, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


def test_our_names_go_back_to_the_authors() -> None:
    official = official_weights("rexnetv1_1.0")
    model = ReXNetV1()
    model.load_state_dict(official)
    back = to_official_names(model.state_dict())
    assert list(back) == list(official)
    assert all(torch.equal(back[name], value) for name, value in official.items())
