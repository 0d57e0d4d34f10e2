"""Provides ReXNet without its head as the backbone of a detector or a segmentation network."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from rexnet.errors import ConfigError
from rexnet.models.grad_checkpointing import run_layer
from rexnet.models.rexnet import ReXNet


class Backbone(nn.Module):
    """Maps images (N, C, H, W) to an ordered dictionary of feature maps, fine to coarse, as torchvision expects.

    ReXNet 1.0x has maps of 16, 38, 61, 128 and 185 channels at strides 2, 4, 8, 16 and 32.

    Args:
        network: source of the layers, which are shared, not copied.
        levels: some of the five maps, 0 (finest) to 4.
        names: keys of the dictionary; None: the levels' numbers as text.

    Raises:
        ConfigError: a level that does not exist, or another number of names than of levels.
    """

    group_matcher = ReXNet.group_matcher

    def __init__(
        self, network: ReXNet, levels: Sequence[int] = (0, 1, 2, 3, 4), names: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        found = network.plan.levels
        wanted = list(levels)
        if not wanted or wanted != sorted({*wanted} & {*range(len(found))}):
            raise ConfigError(f"levels: should be some of 0 to {len(found) - 1} in ascending order, not {wanted}")
        names = [str(level) for level in wanted] if names is None else list(names)
        if len(names) != len(wanted):
            raise ConfigError(f"names: {len(names)} are given for {len(wanted)} levels")
        self.channels = [found[level].channels for level in wanted]
        self.strides = [found[level].stride for level in wanted]
        self.grad_checkpointing = network.grad_checkpointing
        self.stem = network.stem
        self.features = network.features[: found[wanted[-1]].block + 1]
        self.name_of_block = {found[level].block: name for level, name in zip(wanted, names, strict=True)}

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Returns the maps by name; level l has size (H, W) / strides[l]."""
        maps: OrderedDict[str, Tensor] = OrderedDict()
        x = self.stem(images)
        for place, block in enumerate(self.features):
            x = run_layer(block, x, self.grad_checkpointing and self.training)
            if place in self.name_of_block:
                maps[self.name_of_block[place]] = x
        return maps
