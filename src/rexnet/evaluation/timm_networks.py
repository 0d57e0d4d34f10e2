"""Loads networks of timm with ImageNet-1k weights, for evaluation and prediction."""

import os
import re
from pathlib import Path
from typing import Any

from torch import nn

from rexnet.class_names import IMAGENET_CLASSES, imagenet_class_names
from rexnet.config.schema import ModelConfig
from rexnet.errors import CheckpointError, ConfigError, first_sentence
from rexnet.models.factory import build_model, require_timm_name
from rexnet.models.fetching import fetch_weights
from rexnet.models.weights import read_weights
from rexnet.preprocessing import Preprocessing


def load_timm(name: str) -> tuple[nn.Module, Preprocessing]:
    """Loads a network with 1,000 classes, and the preprocessing of its pretrained config.

    `name` is `NAME` or `NAME.TAG` for weights from the Hugging Face hub, or `NAME=FILE`.
    """
    import timm

    name, _, file = name.partition("=")
    if not re.fullmatch(r"[\w.-]+", name):
        raise ConfigError(f"timm/{name}: should be timm/NAME, timm/NAME.TAG or timm/NAME=FILE")
    config: Any = timm.get_pretrained_cfg(require_timm_name(name))
    if config is None:
        raise CheckpointError(f"timm/{name}: timm has no preprocessing for it")
    if config.num_classes != IMAGENET_CLASSES:
        raise ConfigError(f"timm/{name}: has {config.num_classes:,} classes, not ImageNet's {IMAGENET_CLASSES:,}")
    if config.crop_mode != "center" or config.interpolation not in ("bilinear", "bicubic"):
        raise ConfigError(
            f"timm/{name}: needs crop mode {config.crop_mode} and {config.interpolation} interpolation; supported are "
            f"center crops, bilinear and bicubic"
        )
    names = imagenet_class_names()
    model = build_model(ModelConfig(name=f"timm/{name}", dropout=0.0, drop_path=0.0), names, pretrained=False)
    if not file and not config.tag:
        raise CheckpointError(f"timm/{name}: timm has no weights for it; name a file: timm/{name}=FILE")
    bare = name.partition(".")[0]
    path = Path(os.path.expanduser(file)) if file else fetch_weights(f"timm/{bare}.{config.tag}", bare)
    try:
        model.load_state_dict(read_weights(path).weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: does not fit timm/{name} with {IMAGENET_CLASSES:,} classes: {first_sentence(error)}"
        ) from None
    size, crop_pct = (config.test_input_size or config.input_size)[-1], config.test_crop_pct or config.crop_pct
    return model.eval(), Preprocessing(size, crop_pct, config.interpolation, config.mean, config.std, names)
