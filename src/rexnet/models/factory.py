"""From the `model` section of a configuration to a network."""

import difflib
import logging

from torch import nn

from rexnet.config.schema import ModelConfig
from rexnet.errors import ConfigError
from rexnet.models.pretrained import load_pretrained
from rexnet.models.rexnet import ReXNet

log = logging.getLogger(__name__)


def build_model(config: ModelConfig, num_classes: int, pretrained: bool = True) -> nn.Module:
    """The configured network for `num_classes` classes, on the CPU.

    Args:
        config: which network, with what dropout and weights.
        num_classes: length of the logits.
        pretrained: whether `config.pretrained` is loaded; a checkpoint that brings its own weights says no.

    Raises:
        ConfigError: timm has no network of that name.
        CheckpointError: the pretrained weights are missing, damaged or of another network.
    """
    if config.name == "rexnet":
        model: nn.Module = ReXNet(config.width_mult, num_classes, config.dropout, config.drop_path)
    else:
        model = _build_timm(config, num_classes)
    if pretrained and config.pretrained is not None:
        log.info(load_pretrained(model, config.pretrained, timm_name(config)))
    return model


def timm_name(config: ModelConfig) -> str:
    """The network's name in timm, which is also where its weights are kept on the hub."""
    return f"rexnet_{round(config.width_mult * 100):03d}" if config.name == "rexnet" else config.name


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters of the backbone and those of the classifier."""
    classifier = {id(p) for p in model.get_classifier().parameters()}  # type: ignore[operator]
    parameters = list(model.parameters())
    return [p for p in parameters if id(p) not in classifier], [p for p in parameters if id(p) in classifier]


def _build_timm(config: ModelConfig, num_classes: int) -> nn.Module:
    import timm

    name = config.name.removeprefix("timm/")
    if not timm.is_model(name):
        nearest = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f"; nearest: timm/{nearest[0]}" if nearest else ""
        raise ConfigError(f"model.name: timm {timm.__version__} has no network {name!r}{hint}")
    try:
        model = timm.create_model(
            name, num_classes=num_classes, drop_rate=config.dropout, drop_path_rate=config.drop_path or None
        )
    except TypeError as error:  # a few networks have no drop-path
        raise ConfigError(f"model: {config.name} cannot be built: {error}") from None
    if not isinstance(model.get_classifier(), nn.Module) or not list(model.get_classifier().parameters()):
        raise ConfigError(f"model.name: {config.name} has no single last layer to train for other classes")
    assert isinstance(model, nn.Module)
    return model
