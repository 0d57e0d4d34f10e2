"""Padding is exact: in float64 a padded network trains to the weights of the unpadded one, and the padding stays 0."""

import copy
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rexnet import rexnet
from rexnet.config.schema import OptimizerConfig
from rexnet.models.folding import fold_batchnorm
from rexnet.models.padding import keep_true_shapes, pad_channels, true_shapes
from rexnet.models.rexnet import InvertedBottleneck, ReXNet
from rexnet.training.ema import averaged_tensors, build_ema, update_ema
from rexnet.training.optim import build_optimizer

STEPS = 20
SGD: dict[str, Any] = {"name": "sgd", "lr": 0.01, "weight_decay": 0.05}
ADAMW: dict[str, Any] = {"name": "adamw", "lr": 0.002, "weight_decay": 0.05}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def build(width: float = 0.3, variant: Any = "v1", **options: Any) -> ReXNet:
    torch.manual_seed(0)
    return rexnet(width, variant, num_classes=7, **({"depth_mult": 0.3, "dropout": 0.2, "drop_path": 0.3} | options))


class Training:
    """Twenty steps of everything that touches weights, with batches and random numbers that depend on the step."""

    def __init__(self, network: nn.Module, **optimizer: Any) -> None:
        self.network, self.ema = network.train(), build_ema(network)
        self.config = OptimizerConfig(**(SGD | optimizer))
        self.optimizer = build_optimizer(network, self.config)
        self.losses: list[float] = []
        self.norms: list[float] = []

    def run(self, start: int = 0, stop: int = STEPS) -> "Training":
        for step in range(start, stop):
            torch.manual_seed(step)
            images, labels = torch.randn(8, 3, 32, 32), torch.randint(7, (8,))
            loss = F.cross_entropy(self.network(images), labels)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.norms.append(float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)))
            self.optimizer.step()
            update_ema(averaged_tensors(self.ema), averaged_tensors(self.network), 0.9)
            self.losses.append(loss.item())
        return self

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds, as it is read back."""
        content = io.BytesIO()
        optimizer = self.optimizer.state_dict()
        state = {"raw": self.network.state_dict(), "ema": self.ema.state_dict(), "optimizer": optimizer["state"]}
        torch.save(state, content)
        content.seek(0)
        saved: dict[str, Any] = torch.load(content, weights_only=True)
        return saved

    def load(self, state: dict[str, Any]) -> "Training":
        self.network.load_state_dict(state["raw"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state["optimizer"]})
        return self


def assert_close(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def largest_padding(network: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """The largest value outside the true widths of weights, statistics and optimizer state."""
    true = {name: value.shape for name, value in network.state_dict().items()}
    found, padded = [0.0], 0
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        if value.shape != true[name]:
            padded += 1
            states = optimizer.state.get(value, {}).values()  # type: ignore[call-overload]
            for tensor in [value, *(state for state in states if state.shape == value.shape)]:
                rest = tensor.detach().clone()
                rest[tuple(map(slice, true[name]))] = 0
                found.append(rest.abs().max().item())
    assert padded
    return max(found)


@contextmanager
def naive_shortcut() -> Iterator[None]:
    """Adds the padded input, as one would without thinking of its gradient."""
    true = InvertedBottleneck.forward

    def naive(self: InvertedBottleneck, x: Tensor) -> Tensor:
        out: Tensor = self.conv_pwl(self.act_dw(self.se(self.conv_dw(self.conv_exp(x)))))
        return out + F.pad(x, (0, 0, 0, 0, 0, out.shape[1] - x.shape[1])) if self.has_shortcut else out

    InvertedBottleneck.forward = naive  # type: ignore[method-assign]
    yield
    InvertedBottleneck.forward = true  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("options", "multiple", "optimizer"),
    [
        ({}, 8, SGD),
        ({"width": 0.47, "grad_checkpointing": True}, 16, ADAMW),  # a head of 601 features
        ({"variant": "lite", "width": 0.2, "channel_divisor": 3}, 8, ADAMW),
        ({"use_se": False, "activation": "softplus"}, 8, SGD),  # of 0 it is not 0
        ({"se_ratio": 0.004, "output_stride": 8}, 8, SGD),  # one squeezed channel
    ],
)
def test_padded_training_is_the_unpadded_one(options: dict[str, Any], multiple: int, optimizer: dict[str, Any]) -> None:
    plain = Training(build(**options), **optimizer)
    padded = Training(pad_channels(build(**options), multiple), **optimizer)
    plain.run()
    padded.run()
    assert_close(padded.losses, plain.losses)
    assert_close(padded.norms, plain.norms)
    assert padded.losses[0] != padded.losses[-1]
    assert largest_padding(padded.network, padded.optimizer) == 0.0
    assert largest_padding(padded.ema, padded.optimizer) == 0.0
    assert_close(padded.state(), plain.state())
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        for mine, theirs in ((padded.network, plain.network), (padded.ema, plain.ema)):
            assert_close(mine.eval()(images), theirs.eval()(images))
            folded = fold_batchnorm(theirs)
            assert_close(pad_channels(folded, multiple)(images), folded(images))
            assert_close(fold_batchnorm(mine)(images), folded(images))


def test_widths_are_multiples_and_the_head_keeps_its_features() -> None:
    network = build(0.47)
    padded = pad_channels(network, 16)
    for part in (padded.stem, padded.features):  # type: ignore[union-attr]
        for layer in part.modules():  # type: ignore[operator]
            if isinstance(layer, nn.Conv2d):
                assert layer.weight.shape[0] % 16 == 0
                assert layer.in_channels % 16 == 0 or layer.in_channels == 3
    assert padded.forward_features(torch.randn(2, 3, 32, 32)).shape[1] == 601  # type: ignore[operator]
    assert sum(shape.numel() for _, shape in true_shapes(padded)) == sum(p.numel() for p in network.parameters())
    assert not any("pad" in name for name in dict(network.named_modules()))


def test_dropout_draws_the_mask_of_the_unpadded_network() -> None:
    masks = []
    for network in (build(0.47, dropout=0.5), pad_channels(build(0.47, dropout=0.5), 16)):
        seen: list[Tensor] = []
        network.head.dropout.register_forward_hook(lambda _, inputs, out, seen=seen: seen.append(out == 0))  # type: ignore[union-attr,misc]
        torch.manual_seed(1)
        network.train()(torch.randn(4, 3, 32, 32))
        masks.append(seen[0])
    assert masks[0].shape == (4, 601)
    assert 0.4 < masks[0].double().mean() < 0.6
    assert torch.equal(masks[1], masks[0])


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_adding_the_padded_input_wakes_the_padding(weight: float) -> None:
    """The negative control: with the naive shortcut the padding learns, and the tests above would fail.

    BatchNorm's weights of 0 hold it back to rounding errors, since the next BatchNorm ignores a constant; with 1 it
    learns as fast as the network.
    """
    plain = Training(build(depth_mult=0.5, drop_path=0.0)).run(0, 3)
    padded = Training(pad_channels(build(depth_mult=0.5, drop_path=0.0), 8))
    widths = {name: len(value) for name, value in padded.network.state_dict().items() if value.ndim}
    for name, module in padded.network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data[widths[f"{name}.weight"] :] = weight
    with naive_shortcut():
        padded.run(0, 3)
    weights = {name: value for name, value in padded.network.named_parameters() if not name.endswith("bn.weight")}
    largest = max(
        value[widths[name] :].abs().max().item() for name, value in weights.items() if len(value) > widths[name]
    )
    assert largest > (1e-3 if weight else 0.0)
    assert weight == 0 or abs(padded.losses[-1] - plain.losses[-1]) > 1e-6


@pytest.mark.parametrize("optimizer", [SGD, ADAMW])
def test_a_run_resumes_with_any_padding(optimizer: dict[str, Any]) -> None:
    whole = Training(build(), **optimizer).run()
    state = Training(build(), **optimizer).run(0, 5).state()
    for multiple, start in ((8, 5), (16, 10), (1, 15)):
        padded = Training(pad_channels(build(), multiple), **optimizer).load(state).run(start, start + 5)
        assert_close(padded.losses, whole.losses[start : start + 5])
        state = padded.state()
    assert_close(state, whole.state())


def test_state_dicts_are_those_of_the_unpadded_network() -> None:
    network = build()
    padded = pad_channels(network.to(memory_format=torch.channels_last), 8)
    synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(padded))
    for found in (padded.state_dict(), copy.deepcopy(padded).state_dict(), synchronized.state_dict()):
        assert found.keys() == network.state_dict().keys()
        for name, value in network.state_dict().items():
            assert torch.equal(found[name], value)
            assert found[name].untyped_storage().nbytes() == value.numel() * value.element_size()
    again, folded = pad_channels(padded, 16), fold_batchnorm(padded)
    plain = fold_batchnorm(network)
    for found, wanted in ((again, network), (folded, plain)):
        assert {name: value.shape for name, value in found.state_dict().items()} == {
            name: value.shape for name, value in wanted.state_dict().items()
        }
    folded.load_state_dict(plain.state_dict())
    with pytest.raises(RuntimeError, match=r"size mismatch for features\.1\.conv_pwl\.conv\.weight"):
        padded.load_state_dict(build(1.2).state_dict())
    holder = nn.ModuleDict({"model": pad_channels(build(), 8)})
    holder.load_state_dict({f"model.{name}": value + 1 for name, value in network.state_dict().items()})
    assert torch.equal(holder.state_dict()["model.stem.conv.weight"], network.stem.conv.weight + 1)
    padded.reset_classifier(3)  # type: ignore[operator]
    assert padded.state_dict()["head.fc.weight"].shape == (3, 384)


def test_other_networks_stay_as_they_are() -> None:
    other = nn.Sequential(nn.Conv2d(3, 5, 1))
    network = build()
    assert pad_channels(other, 8) is other
    assert pad_channels(network, 1) is network
    optimizer = torch.optim.SGD(other.parameters(), 0.1, momentum=0.9)
    keep_true_shapes(optimizer, other)
    assert optimizer.state_dict()["state"] == {}
