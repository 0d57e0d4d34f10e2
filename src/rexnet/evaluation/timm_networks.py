"""Networks of timm with weights for ImageNet-1k, to measure and to predict with as they are."""

from pathlib import Path
from typing import NamedTuple

from torch import nn

from rexnet.class_names import IMAGENET_CLASSES, imagenet_class_names
from rexnet.config import Config, load_config
from rexnet.config.load import CONFIG_FOLDERS
from rexnet.errors import CheckpointError, ConfigError, first_sentence
from rexnet.models.factory import build_model
from rexnet.models.fetching import fetch_weights
from rexnet.models.weights import read_weights

BATCH = 64


class TimmNetwork(NamedTuple):
    """A network of timm as its validation has it."""

    model: nn.Module
    config: Config
    class_names: tuple[str, ...]
    path: Path
    """The weight file."""


def load_timm(name: str) -> TimmNetwork:
    """A network with its own preprocessing and 1,000 classes.

    Args:
        name: `NAME` or `NAME.TAG` for weights from the Hugging Face hub, or `NAME=FILE`.

    Raises:
        ConfigError: timm has no such network, or its view is none that is built here.
        CheckpointError: the weights are missing, damaged or of another network.
    """
    name, _, file = name.partition("=")
    config, tag = _configure(name)
    model = build_model(config.model, range(IMAGENET_CLASSES), pretrained=False)  # type: ignore[arg-type]
    if not file and not tag:
        raise CheckpointError(f"timm/{name}: timm has no weights for it; give a file: timm/{name}=FILE")
    bare = name.partition(".")[0]
    path = Path(file) if file else fetch_weights(f"timm/{bare}.{tag}", bare)
    try:
        model.load_state_dict(read_weights(path).weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: does not fit timm/{name} with {IMAGENET_CLASSES:,} classes: {first_sentence(error)}"
        ) from None
    return TimmNetwork(model.eval(), config, imagenet_class_names(), path)


def _configure(name: str) -> tuple[Config, str]:
    """The ImageNet recipe with the view that timm's validation takes for this network, and the tag of its weights."""
    import timm

    imagenet = CONFIG_FOLDERS[-1] / "imagenet.yaml"
    config = load_config(imagenet, [f"model.name=timm/{name}", f"data.batch_size={BATCH}"])
    own = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
    if own is None:
        return config, ""  # build_model says what is wrong with the name
    size = (own.test_input_size or own.input_size)[-1]
    if own.num_classes != IMAGENET_CLASSES:
        raise ConfigError(f"timm/{name}: has {own.num_classes:,} classes, not ImageNet's {IMAGENET_CLASSES:,}")
    if own.crop_mode != "center" or own.interpolation not in ("bilinear", "bicubic"):
        raise ConfigError(
            f"timm/{name}: sees images by crop mode {own.crop_mode} and {own.interpolation} resampling; built here are "
            f"the central crop, bilinear and bicubic"
        )
    data = config.data.model_copy(update={"image_size": size, "mean": own.mean, "std": own.std})
    view = {"crop_pct": own.test_crop_pct or own.crop_pct, "interpolation": own.interpolation}
    return config.model_copy(
        update={"data": data, "eval_transform": config.eval_transform.model_copy(update=view)}
    ), own.tag
