"""Builds networks from names and numbers, or from the `model` section of a config."""

import logging
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from rexnet.config.differences import find_changes
from rexnet.config.load import Kind
from rexnet.config.schema import Config, ModelConfig
from rexnet.errors import ConfigError, nearest
from rexnet.models.plan import SQUEEZE_RATIO, Variant, plan_network, timm_name
from rexnet.models.pretrained import load_pretrained
from rexnet.models.rexnet import ActivationName, ReXNet

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

log = logging.getLogger(__name__)


def rexnet(
    width_mult: float = 1.0,
    variant: Variant = "v1",
    num_classes: int = 1000,
    pretrained: str | os.PathLike[str] | None = None,
    *,
    depth_mult: float = 1.0,
    in_channels: int = 3,
    dropout: float = 0.2,
    drop_path: float = 0.0,
    use_se: bool | None = None,
    se_ratio: float = SQUEEZE_RATIO,
    activation: ActivationName | None = None,
    channel_divisor: int | None = None,
    output_stride: int = 32,
    grad_checkpointing: bool = False,
    class_names: Sequence[str] | None = None,
) -> ReXNet:
    """Builds a network of the ReXNet family on the CPU, in training mode.

    Args:
        width_mult: channel multiplier; 0.9 to 3.0 were published.
        variant: `v1`, `lite` (no squeeze-and-excitation, ReLU6) or `r` (channels rounded for tensor cores).
        num_classes: length of the logits; 0 leaves out the classifier.
        pretrained: a weight file with the authors' parameter names, timm's or ours; `https://…#sha256=…`; or the tag of
            timm's weights on the Hugging Face hub, such as `nav_in1k`.
        depth_mult: multiplier of each stage's blocks, rounded up.
        in_channels: channels of the images.
        dropout: probability of dropping a feature before the classifier.
        drop_path: stochastic depth of the last residual block; it increases linearly from 0.
        use_se: squeeze-and-excitation; None: as in the variant.
        se_ratio: width of its bottleneck relative to the expanded channels.
        activation: activation of the expanding convolutions; None: as in the variant.
        channel_divisor: every width is a multiple of it; None: as in the variant.
        output_stride: 32, or 16 or 8 with dilation in place of the last strides, for dense prediction.
        grad_checkpointing: less memory in training for a third more computation.
        class_names: names of the classes, by which rows of a pretrained classifier are kept.

    Raises:
        ConfigError: a number is out of range.
        CheckpointError: the pretrained weights are missing, damaged or of another network.
    """
    plan = plan_network(
        width_mult,
        variant,
        depth_mult,
        use_se=use_se,
        se_ratio=se_ratio,
        channel_divisor=channel_divisor,
        output_stride=output_stride,
    )
    model = ReXNet(plan, num_classes, dropout, drop_path, in_channels, activation, grad_checkpointing)
    if pretrained is not None:
        log.info(load_pretrained(model, os.fspath(pretrained), timm_name(variant, width_mult), class_names))
    return model


def build_model(config: ModelConfig, class_names: Sequence[str], pretrained: bool = True) -> nn.Module:
    """Builds the configured network for these classes on the CPU; `pretrained=False` leaves out `config.pretrained`.

    Raises:
        ConfigError: timm has no network of that name, or the network has no drop path or gradient checkpointing.
        CheckpointError: the pretrained weights are missing, damaged or of another network.
    """
    source = config.pretrained if pretrained else None
    if config.name == "rexnet":
        options = config.model_dump(exclude={"name", "own_preprocessing", "pretrained"})
        return rexnet(num_classes=len(class_names), pretrained=source, class_names=class_names, **options)
    model = _build_other(config, len(class_names))
    if source is not None:
        log.info(load_pretrained(model, source, config.name, class_names))
    return model


def _build_other(config: ModelConfig, num_classes: int) -> nn.Module:
    """Builds a network of timm or a redesign."""
    import timm

    from rexnet.models.redesigns import build_redesign

    model: nn.Module
    options = {"drop_rate": config.dropout} | ({"drop_path_rate": config.drop_path} if config.drop_path else {})
    try:
        if config.is_of_timm:
            model = timm.create_model(require_timm_name(config.name), num_classes=num_classes, **options)
        else:
            model = build_redesign(config.name, num_classes, **options)
        if config.grad_checkpointing:
            model.set_grad_checkpointing()  # type: ignore[operator]
    except (TypeError, AssertionError) as error:  # a few networks have no drop path or no gradient checkpointing
        raise ConfigError(f"model: {config.name} cannot be built: {error}") from None
    classifier = model.get_classifier()  # type: ignore[operator]
    if not isinstance(classifier, nn.Module) or not list(classifier.parameters()):
        raise ConfigError(f"model.name: {config.name} has no single last layer to train for other classes")
    return model


def require_timm_name(name: str) -> str:
    """Returns the name that a network `timm/NAME` or `timm/NAME.TAG` has in timm.

    Raises:
        ConfigError: timm has no such network, or no weights of that tag for it.
    """
    import timm

    name = name.removeprefix("timm/")
    architecture, _, tag = name.partition(".")
    try:
        timm.get_pretrained_cfg(name)
        if timm.is_model(name):
            return name
        known, missing = timm.list_models(), f"network {name!r}"
    except RuntimeError:
        known, missing = timm.list_pretrained(f"{architecture}.*"), f"weights {tag!r} of {architecture}"
    hint = nearest(f"timm/{name}", [f"timm/{other}" for other in known])
    raise ConfigError(f"model.name: timm {timm.__version__} has no {missing}{hint}")


def adopt_preprocessing(config: Kind) -> Kind:
    """Returns `config` with the mean, std, interpolation and center crop that timm defines for its network.

    Raises:
        ConfigError: timm has no such network, it takes images of another size only, or `data.mean` or `data.std` is
            set to something else.
    """
    name, data = config.model.name, config.data
    own = _find_timm_config(config.model) if config.model.is_of_timm else None
    if own is None:
        return config
    side = own.input_size[-1]
    if own.fixed_input_size and {data.image_size, *config.training_sizes} != {side}:
        sizes = f"data.image_size={side} and augmentation.image_size=null"
        raise ConfigError(f"model.name: {name} takes images of {side} px only; set {sizes}")
    if not config.model.own_preprocessing:
        return config
    for key, value in {"mean": own.mean, "std": own.std}.items():
        if key in data.model_fields_set and getattr(data, key) != value:
            raise ConfigError(
                f"data.{key}: is set to {getattr(data, key)}, but {name} has {value}; leave it out, or set "
                f"model.own_preprocessing=false"
            )
    changes: dict[str, object] = {"data": data.model_copy(update={"mean": own.mean, "std": own.std})}
    if isinstance(config, Config):
        usual = own.interpolation in ("bilinear", "bicubic")
        view = {"crop_pct": own.crop_pct} | ({"interpolation": own.interpolation} if usual else {})
        changes["eval_transform"] = config.eval_transform.model_copy(update=view)
    adopted = config.model_copy(update=changes)
    replaced = [f"{key}={new} instead of {old}" for key, (old, new) in find_changes(config, adopted).items()]
    if replaced:
        log.info(f"{name} has its own preprocessing (model.own_preprocessing=false keeps yours): {', '.join(replaced)}")
    return adopted


def _find_timm_config(config: ModelConfig) -> "PretrainedCfg | None":
    """Returns timm's pretrained config of a network, that of the tag in `model.pretrained` if timm knows it."""
    import timm

    name, tag = require_timm_name(config.name), config.pretrained or ""
    if "." not in name and re.fullmatch(r"[\w-]+", tag):
        try:
            return timm.get_pretrained_cfg(f"{name}.{tag}", allow_unregistered=False)
        except RuntimeError:  # the hub may know the tag
            pass
    return timm.get_pretrained_cfg(name)


def hub_name(config: ModelConfig) -> str:
    """Returns the name under which the Hugging Face hub has the weights of a configured network, without their tag."""
    return timm_name(config.variant, config.width_mult) if config.name == "rexnet" else config.name


def find_timm_architecture(model: nn.Module, config: ModelConfig) -> str | None:
    """Returns timm's name of a configured network if timm builds one with the same tensors, else None."""
    import timm

    name = hub_name(config).removeprefix("timm/").partition(".")[0]
    if not timm.is_model(name):
        return None
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    classes = next(iter(model.get_classifier().parameters())).shape[0]  # type: ignore[operator]
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=classes).state_dict()
    return name if shapes == {key: value.shape for key, value in theirs.items()} else None


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Returns the parameters of the backbone and those of the classifier, or of everything else in a detector."""
    if (body := find_body(model)) is not None:
        backbone = {id(p) for p in body.parameters()}
    else:
        backbone = {id(p) for p in model.parameters()} - {id(p) for p in model.get_classifier().parameters()}  # type: ignore[operator]
    parameters = list(model.parameters())
    return [p for p in parameters if id(p) in backbone], [p for p in parameters if id(p) not in backbone]


def find_body(detector: nn.Module) -> nn.Module | None:
    """Returns the pretrained part of a detector; None for a classifier."""
    return getattr(getattr(detector, "backbone", None), "body", None)


def layer_distances(model: nn.Module) -> dict[str, int]:
    """Returns the distance of each parameter from the classifier in layers, as the network's group matcher counts them.

    The classifier has distance 0, and so have parameters that belong to no layer and, in a detector, all but the body.

    Raises:
        ConfigError: the network has no group matcher.
    """
    from timm.models import group_parameters

    network, prefix = (model, "") if (body := find_body(model)) is None else (body, "backbone.body.")
    if hasattr(network, "group_matcher"):
        layers = group_parameters(network, network.group_matcher(), reverse=True)  # type: ignore[operator]
        end = max(layers.values()) + (body is not None)
        found = {name: end - layer for name, layer in layers.items()}
    elif not (found := getattr(network, "distances", {})):
        raise ConfigError(
            f"optimizer: layer_decay and unfreeze_epochs need timm's group matcher, which {type(network).__name__} "
            f"does not have; backbone_lr_factor and freeze_backbone_epochs work with every network"
        )
    outside = dict.fromkeys((name for name, _ in model.named_parameters()), 0)
    return outside | {prefix + name: distance for name, distance in found.items()}
