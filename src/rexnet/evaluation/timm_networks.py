"""Loads networks of timm with ImageNet-1k weights, for evaluation and prediction."""

import re
from pathlib import Path
from typing import NamedTuple

from torch import nn

from rexnet.class_names import IMAGENET_CLASSES, imagenet_class_names
from rexnet.config.schema import ModelConfig
from rexnet.errors import CheckpointError, ConfigError, first_sentence
from rexnet.models.factory import build_model
from rexnet.models.fetching import fetch_weights
from rexnet.models.weights import read_weights
from rexnet.preprocessing import Preprocessing


class TimmNetwork(NamedTuple):
    """A network of timm with the preprocessing of its pretrained config."""

    model: nn.Module
    preprocessing: Preprocessing


def load_timm(name: str) -> TimmNetwork:
    """Loads a network with 1,000 classes.

    Args:
        name: `NAME` or `NAME.TAG` for weights from the Hugging Face hub, or `NAME=FILE`.

    Raises:
        ConfigError: timm has no such network, or its preprocessing is not supported.
        CheckpointError: the weights are missing, damaged or do not fit the network.
    """
    name, _, file = name.partition("=")
    if not re.fullmatch(r"[\w.-]+", name):
        raise ConfigError(f"timm/{name}: should be timm/NAME, timm/NAME.TAG or timm/NAME=FILE")
    names = imagenet_class_names()
    model = build_model(ModelConfig(name=f"timm/{name}", dropout=0.0, drop_path=0.0), names, pretrained=False)
    preprocessing, tag = _read_pretrained_config(name, names)
    if not file and not tag:
        raise CheckpointError(f"timm/{name}: timm has no weights for it; name a file: timm/{name}=FILE")
    bare = name.partition(".")[0]
    path = Path(file) if file else fetch_weights(f"timm/{bare}.{tag}", bare)
    try:
        model.load_state_dict(read_weights(path).weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: does not fit timm/{name} with {IMAGENET_CLASSES:,} classes: {first_sentence(error)}"
        ) from None
    return TimmNetwork(model.eval(), preprocessing)


def _read_pretrained_config(name: str, class_names: tuple[str, ...]) -> tuple[Preprocessing, str]:
    """Returns the preprocessing of timm's validation for a network, and the tag of its weights."""
    import timm

    try:
        own = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        raise CheckpointError(f"timm/{name}: timm has no weights of this tag: {first_sentence(error)}") from None
    if own.num_classes != IMAGENET_CLASSES:
        raise ConfigError(f"timm/{name}: has {own.num_classes:,} classes, not ImageNet's {IMAGENET_CLASSES:,}")
    if own.crop_mode != "center" or own.interpolation not in ("bilinear", "bicubic"):
        raise ConfigError(
            f"timm/{name}: needs crop mode {own.crop_mode} and {own.interpolation} interpolation; supported are center "
            f"crops, bilinear and bicubic"
        )
    size, crop_pct = (own.test_input_size or own.input_size)[-1], own.test_crop_pct or own.crop_pct
    return Preprocessing(size, crop_pct, own.interpolation, own.mean, own.std, class_names), own.tag
