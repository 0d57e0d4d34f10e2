"""The redesigned networks and their baselines: cost, layers and what a `model.name` must do."""

import pytest
import torch
import torchvision
from torch import nn

from rexnet.config.schema import ModelConfig
from rexnet.errors import ConfigError
from rexnet.models.cost import count_cost
from rexnet.models.factory import build_model, find_timm_architecture, split_parameters
from rexnet.models.redesigns import REDESIGNS
from rexnet.models.rexnet import InvertedBottleneck
from rexnet.models.timm_registry import NETWORKS

IMAGENET = tuple(map(str, range(1000)))


def config(name: str, **values: object) -> ModelConfig:
    return ModelConfig.model_validate({"name": name, "dropout": 0.0, "drop_path": 0.0} | values)


def on_meta(name: str, **values: object) -> nn.Module:
    with torch.device("meta"):
        return build_model(config(name, **values), IMAGENET)


# Parameters and multiply-adds at 224 px: of the baseline, of the redesign, and by how many percent these differ.
COSTS = {
    "mobilenet_v1_rex": ((4_231_976, 568_740_352), (4_232_040, 576_088_808), (0.0, 1.3)),
    "mobilenet_v2_rex": ((3_504_872, 300_774_272), (3_513_064, 297_191_072), (0.2, -1.2)),
    "resnet50_rex": ((25_557_032, 4_089_184_256), (25_655_080, 4_149_762_560), (0.4, 1.5)),
    "vgg16_rex": ((138_365_992, 15_470_264_320), (137_636_768, 15_473_425_408), (-0.5, 0.0)),
}


@pytest.mark.parametrize("name", COSTS)
def test_a_redesign_costs_as_much_as_its_baseline(name: str) -> None:
    baseline, redesign = (count_cost(on_meta(each), 224) for each in (REDESIGNS[name].baseline, name))
    assert ((baseline.params, baseline.macs), (redesign.params, redesign.macs)) == COSTS[name][:2]
    changes = (redesign.params / baseline.params - 1, redesign.macs / baseline.macs - 1)
    assert tuple(round(100 * change, 1) for change in changes) == COSTS[name][2]


def widths(name: str) -> list[int]:
    return [width for width, _ in REDESIGNS[name].blocks]


def test_widths_grow_linearly_in_multiples_of_8() -> None:
    assert widths("mobilenet_v1_rex") == [64, 120, 184, 240, 296, 352, 416, 472, 528, 584, 648, 704]
    assert widths("mobilenet_v2_rex") == [*(16, 24, 32, 40, 40, 48, 56, 64, 72, 80, 88, 88, 96, 104, 112, 120, 128)]
    assert widths("resnet50_rex") == [*(32, 64, 96, 120, 152, 184, 216, 240, 272, 304, 336, 360, 392, 424, 456, 480)]
    assert widths("vgg16_rex") == [64, 104, 136, 176, 208, 248, 280, 320, 360, 392, 432, 464, 504]


def shapes(model: nn.Module, size: int = 64) -> dict[str, tuple[int, int, str]]:
    """Channels, resolution and activation function after each convolution, in the order of computation."""
    found: list[tuple[str, nn.Module]] = []

    def see(name: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda *_: found.append((name, module)))

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.ReLU | nn.ReLU6 | nn.SiLU):
            see(name, module)
    model.eval()(torch.empty(1, 3, size, size, device="meta"))
    table = {}
    for (name, module), (_, after) in zip(found, [*found[1:], ("", nn.Identity())], strict=True):
        if isinstance(module, nn.Conv2d):
            function = "linear" if isinstance(after, nn.Conv2d | nn.Identity) else type(after).__name__
            table[name] = (module.out_channels, module.groups, function)
    return table


def test_silu_follows_every_convolution_but_depthwise_ones_and_projections() -> None:
    first = shapes(on_meta("mobilenet_v1_rex"))
    assert list(first.values())[:3] == [(32, 1, "SiLU"), (32, 32, "ReLU6"), (64, 1, "SiLU")]
    assert list(first.values())[-2:] == [(704, 704, "ReLU6"), (1280, 1, "SiLU")]
    second = list(shapes(on_meta("mobilenet_v2_rex")).values())
    assert second[:3] == [(32, 1, "SiLU"), (32, 32, "ReLU6"), (16, 1, "linear")]
    assert second[3:6] == [(96, 1, "SiLU"), (96, 96, "ReLU6"), (24, 1, "linear")]
    assert second[-1] == (2048, 1, "SiLU")
    for name in ("resnet50_rex", "vgg16_rex"):
        assert {function for *_, function in shapes(on_meta(name)).values()} == {"SiLU"}


def test_the_redesigned_mobilenet_v2_has_the_shortcuts_of_rexnet() -> None:
    blocks = [each for each in on_meta("mobilenet_v2_rex").modules() if isinstance(each, InvertedBottleneck)]
    assert [i for i, block in enumerate(blocks) if block.has_shortcut] == [2, 4, 5, 7, 8, 9, 10, 11, 12, 14, 15, 16]


def test_the_redesigned_resnet_adds_its_input_to_the_first_channels() -> None:
    model = build_model(config("resnet50_rex"), ["ant", "bee"]).eval()
    block = model.layer2[0]  # its last BatchNorm begins at 0, so only the shortcut is seen
    x = torch.ones(1, 192, 5, 5)
    out = block(x)
    assert out.shape == (1, 240, 3, 3)
    torch.testing.assert_close(out[:, :192], torch.full((1, 192, 3, 3), 0.7310586))  # SiLU of 1
    assert out[:, 192:].count_nonzero() == 0


@pytest.mark.parametrize("name", ["mobilenetv2_100", "resnet50", "vgg16_bn"])
def test_a_baseline_computes_what_torchvisions_network_does(name: str) -> None:
    with torch.device("meta"):
        ours = build_model(config(f"timm/{name}"), list("abc"))
        theirs = torchvision.models.get_model(name.replace("v2_100", "_v2"), num_classes=3)
    pairs = list(zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True))
    if name == "resnet50":
        assert all(own == other for (own, _), (other, _) in pairs)
    generator = torch.Generator().manual_seed(0)
    weights = {own: random_like(own, value, generator) for (own, value), _ in pairs}
    ours.load_state_dict(weights, assign=True)
    theirs.load_state_dict({key: weights[own].view(value.shape) for (own, _), (key, value) in pairs}, assign=True)
    images = torch.rand(2, 3, 40, 40, generator=generator)
    with torch.no_grad():
        logits = ours.eval()(images)
        assert logits.std() > 0.01
        torch.testing.assert_close(logits, theirs.eval()(images), rtol=1e-4, atol=1e-5)


def random_like(name: str, value: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A tensor of this shape: weights that keep the scale of the signal, and statistics near those of a new network."""
    if not value.ndim:
        return torch.zeros((), dtype=value.dtype)
    fan_in = value[0].numel() if value.ndim > 1 else 0
    spread = (2 * 3 / fan_in) ** 0.5 if fan_in else 0.1
    noise = torch.rand(value.shape, generator=generator).mul_(2 * spread).sub_(spread)
    return noise + 1 if not fan_in and name.endswith(("weight", "running_var")) else noise


@pytest.mark.parametrize("name", ["mobilenet_v1_rex", "mobilenet_v2_rex", "resnet50_rex"])
def test_a_redesign_trains_with_all_of_its_parameters(name: str) -> None:
    model = build_model(config(name, drop_path=0.1, dropout=0.1, grad_checkpointing=True), ["ant", "bee"])
    model(torch.rand(2, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    backbone, classifier = split_parameters(model)
    assert [tuple(p.shape) for p in classifier] == [(2, REDESIGNS[name].penultimate_channels), (2,)]
    assert len(backbone) + 2 == len(list(model.parameters()))


def test_vgg_has_neither_drop_path_nor_gradient_checkpointing() -> None:
    for name in ("vgg16_rex", "timm/vgg16_bn"):
        with pytest.raises(ConfigError, match=rf"model: {name} cannot be built: .*'drop_path_rate'"):
            on_meta(name, drop_path=0.1)
        with pytest.raises(ConfigError, match=rf"model: {name} cannot be built: gradient checkpointing not supported"):
            on_meta(name, grad_checkpointing=True)


def test_every_redesign_is_a_model_name_and_none_is_in_timm() -> None:
    for name in REDESIGNS:
        assert find_timm_architecture(on_meta(name), config(name)) is None
        assert name not in NETWORKS
    with pytest.raises(ValueError, match="name"):
        config("inception_rex")


def test_the_shape_of_rexnet_is_not_for_redesigns() -> None:
    with pytest.raises(ValueError, match="width_mult is for rexnet only, not for mobilenet_v2_rex"):
        config("mobilenet_v2_rex", width_mult=2.0)
