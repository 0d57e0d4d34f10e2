"""Names the network of a set of weights by the shapes of its tensors, for messages."""

import functools
from collections.abc import Mapping

from torch import Tensor

from rexnet.models.family import FAMILY
from rexnet.models.plan import Variant, plan_network

FAMILY_NAMES: dict[Variant, str] = {"v1": "ReXNetV1", "lite": "ReXNet-lite", "r": "ReXNet-R"}


def describe_weights(weights: Mapping[str, Tensor]) -> str:
    """Returns words for the network of weights in our names; one that was not published is given by its channels."""
    channels = _read_channels(weights)
    if channels is None:
        return "another network than ReXNet"
    name = _published().get(channels) or f"a ReXNet of {', '.join(map(str, channels))} channels"
    classifier = weights.get("head.fc.weight")
    return f"{name} " + ("without a classifier" if classifier is None else f"with {_rows(classifier):,} classes")


@functools.cache
def _published() -> dict[tuple[int, ...], str]:
    """Returns the published networks by their channels, as `_read_channels` gives them."""
    names = {}
    for network in FAMILY:
        plan = plan_network(network.width_mult, network.variant, channel_divisor=network.channel_divisor)
        channels = (plan.stem_channels, *(block.out_channels for block in plan.blocks), plan.head_channels)
        names[channels] = f"a {FAMILY_NAMES[network.variant]} of width {network.width_mult:g}"
    return names


def _read_channels(weights: Mapping[str, Tensor]) -> tuple[int, ...] | None:
    """Returns the output channels of stem, blocks and last convolution; None for another network."""
    blocks: list[int] = []
    while (key := f"features.{len(blocks)}.conv_pwl.conv.weight") in weights:
        blocks.append(_rows(weights[key]))
    stem, last = weights.get("stem.conv.weight"), weights.get(f"features.{len(blocks)}.conv.weight")
    return None if stem is None or last is None else (_rows(stem), *blocks, _rows(last))


def _rows(tensor: Tensor) -> int:
    return tensor.shape[0] if tensor.ndim else 0
