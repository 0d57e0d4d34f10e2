"""Provides the feature maps of a network of the ReXNet family or of timm for a detector."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rexnet.config.detection_schema import DetectorConfig
from rexnet.config.schema import ModelConfig
from rexnet.errors import ConfigError, first_sentence
from rexnet.models.backbone import Backbone
from rexnet.models.factory import build_model, hub_name, layer_distances, require_timm_name
from rexnet.models.grad_checkpointing import run_layer
from rexnet.models.pretrained import load_pretrained
from rexnet.models.rexnet import InvertedBottleneck, ReXNet

log = logging.getLogger(__name__)

STRIDES = 5  # 2, 4, 8, 16 and 32


class ExpandedMaps(nn.Module):
    """The maps of ReXNet at strides 16 and 32 where they are widest, as MobileNet's SSDLite takes them.

    The first is the expansion in the block that goes from stride 16 to 32 (768 channels in ReXNet 1.0x), the second the
    input of the pooling (1,280 channels). The layers are shared with `network`, not copied.
    """

    group_matcher = ReXNet.group_matcher

    def __init__(self, network: ReXNet) -> None:
        super().__init__()
        self.stem, self.features = network.stem, network.features
        self.grad_checkpointing = network.grad_checkpointing
        blocks = network.plan.blocks
        self.last_downsampling = max(place for place, block in enumerate(blocks) if block.downsamples)
        self.strides = [16, 32]
        self.channels = [blocks[self.last_downsampling].expanded_channels, network.plan.head_channels]

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Returns the maps `0` (stride 16) and `1` (stride 32)."""
        maps: OrderedDict[str, Tensor] = OrderedDict()
        x = self.stem(images)
        for place, block in enumerate(self.features):
            if place == self.last_downsampling:
                assert isinstance(block, InvertedBottleneck)
                maps["0"] = block.conv_exp(x)
                x = block.conv_pwl(block.act_dw(block.se(block.conv_dw(maps["0"]))))
            else:
                x = run_layer(block, x, self.grad_checkpointing and self.training)
        maps["1"] = x
        return maps


class TimmMaps(nn.Module):
    """The maps of a timm network at some strides.

    Raises:
        ConfigError: it has no map of one of the strides.
    """

    def __init__(self, features: Any, strides: Sequence[int], name: str) -> None:
        super().__init__()
        reductions, channels = features.feature_info.reduction(), features.feature_info.channels()
        if missing := [stride for stride in strides if stride not in reductions]:
            found = ", ".join(map(str, sorted({*reductions})))
            raise ConfigError(
                f"model.name: {name} has maps of the strides {found}, but the detector needs {missing[0]}"
            )
        self.features = features
        self.distances = {f"features.{name}": distance for name, distance in features.distances.items()}
        self.strides = list(strides)
        self.places = [len(reductions) - 1 - reductions[::-1].index(stride) for stride in strides]
        self.channels: list[int] = [channels[place] for place in self.places]

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Returns the maps by name, fine to coarse."""
        maps = self.features(images)
        return OrderedDict((str(number), maps[place]) for number, place in enumerate(self.places))


Maps = Backbone | ExpandedMaps | TimmMaps


def build_body(config: ModelConfig, detector: DetectorConfig, pretrained: bool) -> Maps:
    """Builds the backbone of a detector on the CPU, in training mode but for the layers that the detector freezes.

    With `pretrained`, it loads the weights that `config` names. SSDLite takes `ExpandedMaps` of ReXNet, and the R-CNNs
    take the blocks' outputs.
    """
    lite = detector.name == "ssdlite"
    strides = (16, 32) if lite else (4, 8, 16, 32)
    network = build_model(config, ("object",), pretrained=False)
    if pretrained and config.pretrained is not None:
        sentence = load_pretrained(network, config.pretrained, hub_name(config))
        log.info(f"{sentence.partition(';')[0].removesuffix(', classifier included.')} for the backbone.")
    body: Maps
    every: Maps
    if isinstance(network, ReXNet):
        every = Backbone(network)
        levels = [every.strides.index(stride) for stride in strides]
        names = [str(number) for number in range(len(levels))]  # torchvision's, fine to coarse
        body = ExpandedMaps(network) if lite else Backbone(network, levels, names)
    else:
        features = _extract_features(network, config)
        body = TimmMaps(features, strides, config.name)
        every = TimmMaps(features, sorted({*features.feature_info.reduction()}), config.name)
    _freeze_layers(body, every, detector.trainable_layers)
    _freeze_norms(body, detector.norm == "frozen")
    return body.train()


def _extract_features(network: nn.Module, config: ModelConfig) -> Any:
    """Returns a timm network built with `features_only`, with the weights of the whole `network`."""
    import timm

    drop_path = config.drop_path or None
    try:
        features = timm.create_model(require_timm_name(config.name), features_only=True, drop_path_rate=drop_path)
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"model.name: {config.name} has no feature maps for a detector: {first_sentence(error)}"
        ) from None
    if config.grad_checkpointing:
        features.set_grad_checkpointing()
    # Some of timm's wrappers put a prefix before the names, others join their parts by underscores.
    state = {name.replace(".", "_"): value for name, value in network.state_dict().items()}
    names = {name: name.removeprefix("model.").replace(".", "_") for name in features.state_dict()}
    features.load_state_dict({name: state[original] for name, original in names.items()})
    distances = layer_distances(network) if hasattr(network, "group_matcher") else {}
    of = {name.replace(".", "_"): distance for name, distance in distances.items()}
    features.distances = {name: of[names[name]] for name, _ in features.named_parameters() if distances}
    return features


def _freeze_layers(body: nn.Module, every: Maps, trainable_layers: int) -> None:
    """Turns off the gradients of the layers that the map of the coarsest frozen stride depends on."""
    body.requires_grad_(trainable_layers > 0)
    frozen = [place for place, stride in enumerate(every.strides) if stride <= 2 ** (STRIDES - trainable_layers)]
    if trainable_layers == 0 or not frozen:
        return
    parameters = list(body.parameters())
    maps = every.eval()(torch.zeros(1, 3, 64, 64, device=parameters[0].device))
    gradients = torch.autograd.grad(list(maps.values())[frozen[-1]].sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is None)


def _freeze_norms(network: nn.Module, all_of_them: bool) -> None:
    """Replaces BatchNorm by a fixed scale and shift, in layers without gradients or everywhere."""
    from timm.layers import freeze_batch_norm_2d

    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d) and (all_of_them or not child.weight.requires_grad):
                setattr(parent, name, freeze_batch_norm_2d(child))
