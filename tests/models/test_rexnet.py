import json
from pathlib import Path

import pytest
import torch
from torch import nn

from rexnet.models.pretrained import to_own_names
from rexnet.models.rexnet import InvertedBottleneck, ReXNet, plan_network

GOLDEN = Path(__file__).parents[1] / "golden"

# Output channels of the 16 blocks, computed by the authors' code.
CHANNELS = {
    0.9: "16 26 36 46 56 67 77 87 97 107 117 127 138 148 158 168",
    1.0: "16 27 38 50 61 72 84 95 106 117 128 140 151 162 174 185",
    1.3: "21 35 50 65 79 94 109 123 138 152 167 182 196 211 226 240",
    1.5: "24 41 58 75 92 108 125 142 159 176 193 210 226 243 260 277",
    2.0: "32 54 77 100 122 144 167 190 212 234 257 280 302 324 347 370",
    2.2: "35 60 85 109 134 159 184 208 233 258 283 307 332 357 382 406",
    3.0: "48 82 116 149 183 217 250 284 318 352 386 419 453 487 520 554",
}
STEM_AND_HEAD = {0.9: (32, 1152), 1.0: (32, 1280), 1.3: (42, 1664), 1.5: (48, 1920), 2.0: (64, 2560), 3.0: (96, 3840)}


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


@pytest.mark.parametrize("width", [0.9, 1.0, 1.3, 1.5, 2.0, 3.0])
def test_the_network_computes_what_the_authors_code_computes(width: float) -> None:
    golden = json.loads((GOLDEN / f"rexnetv1_{width}.json").read_text())
    model = ReXNet(width, num_classes=1000, dropout=0.0).double()
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


@pytest.mark.parametrize("width", CHANNELS)
def test_channels_are_the_published_table(width: float) -> None:
    plan = plan_network(width)
    assert [block.out_channels for block in plan.blocks] == [int(c) for c in CHANNELS[width].split()]
    if width in STEM_AND_HEAD:
        assert (plan.stem_channels, plan.head_channels) == STEM_AND_HEAD[width]


def test_strides_expansions_squeezes_and_shortcuts_stand_where_the_paper_puts_them() -> None:
    blocks = plan_network(1.0).blocks
    assert [i for i, block in enumerate(blocks) if block.stride == 2] == [1, 3, 5, 11]
    assert [block.expansion for block in blocks] == [1] + [6] * 15
    assert [i for i, block in enumerate(blocks) if not block.squeeze] == [0, 1, 2]
    assert [i for i, block in enumerate(blocks) if block.has_shortcut] == [2, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15]


def test_drop_path_grows_linearly_and_spares_blocks_without_shortcut() -> None:
    model = ReXNet(0.2, 10, drop_path=0.3)
    rates = [block.drop_path for block in model.features if isinstance(block, InvertedBottleneck)]
    assert rates[15] == pytest.approx(0.3)
    assert rates[10] == pytest.approx(0.2)
    assert [i for i, rate in enumerate(rates) if rate > 0] == [2, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15]


def test_a_dropped_path_leaves_the_shortcut_and_acts_only_in_training() -> None:
    block = InvertedBottleneck(plan_network(0.2).blocks[2], drop_path=0.999999)
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
    assert ReXNet(0.2, 7).eval()(torch.randn(1, 3, 64, 64)).shape == (1, 7)


def test_the_classifier_can_be_replaced() -> None:
    model = ReXNet(0.2, 7)
    model.reset_classifier(4)
    assert model.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 4)
    assert model.get_classifier().out_features == 4
