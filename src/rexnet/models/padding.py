"""Pads the widths of a network with zeros to multiples that suit tensor cores, without changing its function.

Padding is a layout, like NHWC. All its weights and statistics are 0, so padded channels are 0 after BatchNorm, ReLU6
and gates (and what another activation makes of 0 is multiplied by 0). All its gradients are 0, so momentum and
weight decay leave it at 0. State dicts of the network and of its optimizer have the widths of the unpadded network.
"""

import copy
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from rexnet.models.rexnet import ReXNet


def pad_channels(network: nn.Module, multiple: int) -> nn.Module:
    """Returns a copy of a ReXNet whose widths are multiples of `multiple`; other networks are returned as they are.

    The numbers of image channels, of features that reach the head, and of classes stay the same, so dropout draws
    the same mask.
    """
    if multiple == 1 or not isinstance(network, ReXNet):
        return network
    padded = copy.deepcopy(network)
    for part in (padded.stem, padded.features):
        for layer in part.modules():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                _pad_layer(layer, multiple, reads_images=layer is padded.stem.conv)
    grown = dict([*padded.named_parameters(), *padded.named_buffers()])
    shapes = {name: value.shape for name, value in network.state_dict().items() if value.shape != grown[name].shape}
    shapes |= {name.replace(".weight", ".bias"): shape[:1] for name, shape in shapes.items()}  # of folded BatchNorm
    padded.register_state_dict_post_hook(functools.partial(_cut, shapes))  # type: ignore[no-untyped-call]
    padded.register_load_state_dict_pre_hook(functools.partial(_pad, shapes))  # type: ignore[no-untyped-call]
    return padded


def true_shapes(network: nn.Module) -> Iterator[tuple[nn.Parameter, torch.Size]]:
    """Yields each parameter of a network, or of a module that contains it, with its shape without padding."""
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    return ((parameter, shapes[name]) for name, parameter in network.named_parameters())


def keep_true_shapes(optimizer: torch.optim.Optimizer, network: nn.Module) -> None:
    """Makes `optimizer` save and load its state without the padding of `network`."""
    true = dict(true_shapes(network))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def resize(state: dict[str, Any], shapes: list[torch.Size]) -> dict[str, Any]:
        def one(value: Any, shape: torch.Size) -> Any:
            return _resize(value, shape) if isinstance(value, Tensor) and value.ndim else value  # AdamW counts steps

        items = state["state"].items()
        resized = {place: {name: one(value, shapes[place]) for name, value in each.items()} for place, each in items}
        return {**state, "state": resized}

    optimizer.register_state_dict_post_hook(lambda _, state: resize(state, [true[each] for each in parameters]))
    optimizer.register_load_state_dict_pre_hook(lambda _, state: resize(state, [each.shape for each in parameters]))


def _pad_layer(layer: nn.Conv2d | nn.BatchNorm2d, multiple: int, reads_images: bool) -> None:
    def up(channels: int) -> int:
        return -(-channels // multiple) * multiple

    depthwise = isinstance(layer, nn.Conv2d) and layer.groups > 1
    for name, value in [*layer.named_parameters(), *layer.named_buffers()]:
        if not value.ndim:  # BatchNorm's counter
            continue
        inputs = value.shape[1:2] if depthwise or reads_images else map(up, value.shape[1:2])
        tensor = _resize(value.detach(), torch.Size([up(len(value)), *inputs, *value.shape[2:]]))
        setattr(layer, name, nn.Parameter(tensor, value.requires_grad) if isinstance(value, nn.Parameter) else tensor)
    if isinstance(layer, nn.BatchNorm2d):
        layer.num_features = up(layer.num_features)
    else:
        layer.in_channels = layer.in_channels if reads_images else up(layer.in_channels)
        layer.out_channels = up(layer.out_channels)
        layer.groups = layer.out_channels if depthwise else 1


def _cut(shapes: Mapping[str, torch.Size], network: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Removes the padding from a state dict; makes copies, because a view would be saved with its padding."""
    for name, shape in shapes.items():
        if prefix + name in state:
            state[prefix + name] = _resize(state[prefix + name], shape)


def _pad(shapes: Mapping[str, torch.Size], network: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Pads the tensors of a state dict that is about to be loaded, unless they belong to another network."""
    for name, own in [*network.named_parameters(), *network.named_buffers()]:
        value = state.get(prefix + name)
        if value is not None and value.shape == shapes.get(name):
            state[prefix + name] = _resize(value, own.shape)


def _resize(value: Tensor, shape: torch.Size) -> Tensor:
    """Cuts or zero-pads the end of each dimension; returns a tensor that already has the shape as it is."""
    if value.shape == shape:
        return value
    kept = value[tuple(map(slice, shape))]
    if kept.shape == shape:
        return kept.clone()
    missing = [(0, size - there) for size, there in zip(shape, kept.shape, strict=True)]
    return F.pad(kept, [number for pair in reversed(missing) for number in pair])
