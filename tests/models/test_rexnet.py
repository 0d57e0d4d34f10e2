import json
from pathlib import Path

import pytest
import torch
from torch import nn

from rexnet import rexnet
from rexnet.errors import ConfigError
from rexnet.models.naming import to_own_names
from rexnet.models.plan import plan_network
from rexnet.models.rexnet import InvertedBottleneck

GOLDEN = Path(__file__).parents[1] / "golden"


def golden_weights(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """The weights that tests/golden/README.md describes."""
    weights = {}
    for k, (name, shape) in enumerate(shapes.items()):
        count = int(torch.Size(shape).numel())
        s = torch.sin(0.37 * torch.arange(count, dtype=torch.float64) + k).reshape(shape)
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(1)
        elif name.endswith("running_mean"):
            weights[name] = 0.05 * s
        elif name.endswith("running_var"):
            weights[name] = 1 + 0.2 * s.abs()
        elif len(shape) == 4:
            weights[name] = s * (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        elif name.endswith("weight"):
            weights[name] = 1 + 0.1 * s
        else:
            weights[name] = 0.05 * s
    return weights


def golden_images() -> torch.Tensor:
    i = torch.arange(2 * 3 * 96 * 96, dtype=torch.float64)
    return (torch.sin(0.013 * i) + torch.cos(0.71 * i) * torch.sin(1e-5 * i)).reshape(2, 3, 96, 96)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_the_network_computes_what_the_authors_code_computes(path: Path) -> None:
    golden = json.loads(path.read_text())
    family, _, width = path.stem.rpartition("_")
    model = rexnet(float(width), "lite" if family == "rexnetv1_lite" else "v1", dropout=0.0).double()
    model.load_state_dict(to_own_names(golden_weights(golden["keys"])))
    images = golden_images()
    assert sum(p.numel() for p in model.parameters()) == golden["parameters"]

    with torch.no_grad():
        logits = model.eval()(images)
    expected_first = torch.tensor(golden["eval_logits_first10"], dtype=torch.float64)
    torch.testing.assert_close(logits[:, :10], expected_first, rtol=1e-9, atol=1e-9)
    for key, values in {"sum": logits.sum(1), "norm": logits.norm(dim=1)}.items():
        expected = torch.tensor(golden[f"eval_logits_{key}"], dtype=torch.float64)
        torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-8)

    loss = nn.functional.cross_entropy(model.train()(images), torch.tensor([1, 3]))
    loss.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    assert loss.item() == pytest.approx(golden["train_loss_labels_1_3"], rel=1e-9)
    assert norm.item() == pytest.approx(golden["train_grad_norm"], rel=1e-9)


def test_drop_path_grows_linearly_and_spares_blocks_without_shortcut() -> None:
    model = rexnet(0.2, num_classes=10, drop_path=0.3)
    rates = [block.drop_path for block in model.features if isinstance(block, InvertedBottleneck)]
    assert rates[15] == pytest.approx(0.3)
    assert rates[10] == pytest.approx(0.2)
    assert [i for i, rate in enumerate(rates) if rate > 0] == [2, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15]


def test_a_dropped_path_leaves_the_shortcut_and_acts_only_in_training() -> None:
    block = InvertedBottleneck(plan_network(0.2).blocks[2], 0.999999, nn.SiLU())
    x = torch.randn(4, block.conv_exp.conv.in_channels, 8, 8)
    dropped = block.train()(x)
    torch.testing.assert_close(dropped[:, : x.shape[1]], x)
    assert dropped[:, x.shape[1] :].abs().max() == 0
    assert not torch.equal(block.eval()(x)[:, : x.shape[1]], x)


def test_drop_path_keeps_the_mean() -> None:
    from rexnet.models.rexnet import drop_samples

    torch.manual_seed(0)
    assert drop_samples(torch.ones(20000, 1, 1, 1), 0.25).mean().item() == pytest.approx(1.0, abs=0.02)


def test_a_single_image_is_classified_in_evaluation_mode() -> None:
    assert rexnet(0.2, num_classes=7).eval()(torch.randn(1, 3, 64, 64)).shape == (1, 7)


def test_the_classifier_can_be_replaced() -> None:
    model = rexnet(0.2, num_classes=7)
    model.reset_classifier(4)
    assert model.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 4)
    assert model.get_classifier().out_features == 4


def test_no_classifier_gives_the_features_as_in_timm() -> None:
    model = rexnet(0.2, num_classes=7).eval()
    images = torch.randn(2, 3, 32, 32)
    features = model.forward_head(model.forward_features(images), pre_logits=True)
    model.reset_classifier(0)
    assert torch.equal(model(images), features)
    assert rexnet(0.2, num_classes=0)(images).shape == (2, 256)
    assert features.shape == (2, 256)
    assert model.head_hidden_size == 256
    assert rexnet(0.2, "lite", num_classes=3).head_hidden_size == 1024


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rexnetr_100", {"variant": "r"}),
        ("rexnetr_200", {"variant": "r", "width_mult": 2.0}),
        ("rexnetr_300", {"variant": "r", "width_mult": 3.0, "channel_divisor": 16}),
        ("rexnet_100", {"output_stride": 16}),
        ("rexnet_130", {"width_mult": 1.3, "output_stride": 8, "in_channels": 4}),
    ],
)
def test_rounded_and_dilated_networks_compute_what_timms_compute(name: str, options: dict[str, object]) -> None:
    import timm

    theirs = timm.create_model(
        name, num_classes=20, output_stride=options.get("output_stride", 32), in_chans=options.get("in_channels", 3)
    ).eval()
    ours = rexnet(num_classes=20, **options).eval()  # type: ignore[arg-type]
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, options.get("in_channels", 3), 64, 64)  # type: ignore[arg-type]
    with torch.no_grad():
        assert ours.forward_features(images).shape == theirs.forward_features(images).shape
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "kind"),
    {"silu": "SiLU", "relu6": "ReLU6", "relu": "ReLU", "leaky_relu": "LeakyReLU", "elu": "ELU", "softplus": "Softplus",
     "hardswish": "Hardswish"}.items(),
)  # fmt: skip
def test_the_papers_activations_stand_behind_the_widening_convolutions(name: str, kind: str) -> None:
    model = rexnet(0.2, num_classes=3, activation=name)  # type: ignore[arg-type]
    kinds = [type(module.act).__name__ for module in model.modules() if hasattr(module, "act")]
    assert kinds == [kind] * 17  # stem, 15 expansions, last convolution
    assert model.eval()(torch.randn(1, 3, 32, 32)).isfinite().all()


def test_the_defaults_of_activation_are_the_variants() -> None:
    assert isinstance(rexnet(0.2).stem.act, nn.SiLU)
    assert isinstance(rexnet(0.2, "lite").stem.act, nn.ReLU6)
    assert isinstance(rexnet(0.2, "r").stem.act, nn.SiLU)


@pytest.mark.parametrize("variant", ["v1", "lite"])
def test_gradient_checkpointing_changes_no_bit(variant: str) -> None:
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = rexnet(
            0.3,
            variant,
            num_classes=3,
            drop_path=0.3,
            grad_checkpointing=checkpointing,  # type: ignore[arg-type]
        ).train()
        torch.manual_seed(1)
        nn.functional.cross_entropy(model(images), labels).backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        results.append({**model.state_dict(), **{f"{name}.grad": value for name, value in gradients.items()}})
    plain, checkpointed = results
    assert all(torch.equal(value, checkpointed[name]) for name, value in plain.items())
    assert plain["stem.bn.num_batches_tracked"] == 1


def test_channels_last_gives_the_same_logits_and_leaves_the_images_alone() -> None:
    model = rexnet(0.3, num_classes=5).eval()
    images = torch.randn(2, 3, 64, 64)
    before = images.clone()
    with torch.no_grad():
        expected = model(images)
        model = model.to(memory_format=torch.channels_last)
        torch.testing.assert_close(model(images.to(memory_format=torch.channels_last)), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(images, before)


def test_the_whole_network_is_one_graph_for_torch_compile() -> None:
    model = rexnet(0.2, num_classes=5, depth_mult=0.1, drop_path=0.1, grad_checkpointing=True).train()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)  # raises at the first break
    compiled(torch.randn(2, 3, 32, 32)).sum().backward()
    assert model.stem.bn.num_batches_tracked == 1
    assert model.stem.conv.weight.grad.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width_mult": 0.0}, "width_mult and depth_mult: should be above 0 and at most 10"),
        ({"width_mult": float("nan")}, "width_mult and depth_mult: should be above 0"),
        ({"depth_mult": 11.0}, "width_mult and depth_mult: should be above 0 and at most 10"),
        ({"se_ratio": 2.0}, "width_mult and depth_mult: should be .*, and se_ratio from 0 to 1"),
        ({"variant": "v2"}, "variant: should be v1, lite or r"),
        ({"output_stride": 4}, "variant: .*, and output_stride 8, 16 or 32"),
        ({"activation": "swish"}, "activation: should be one of silu, relu6, "),
        ({"drop_path": 1.0}, "activation: .*, and drop_path from 0 to below 1"),
    ],
)
def test_a_number_out_of_range_is_one_sentence(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        rexnet(**options)  # type: ignore[arg-type]
