"""From names and numbers, or the `model` section of a configuration, to a network."""

import difflib
import logging
import os
import re
from collections.abc import Sequence

import torch
from torch import nn

from rexnet.config.schema import Config, ModelConfig
from rexnet.errors import ConfigError
from rexnet.models.plan import SQUEEZE_RATIO, Variant, plan_network, timm_name
from rexnet.models.pretrained import load_pretrained
from rexnet.models.rexnet import ActivationName, ReXNet

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
    """A network of the ReXNet family, on the CPU, in training mode.

    Args:
        width_mult: channel multiplier; 0.9 to 3.0 were published.
        variant: `v1`, `lite` (no squeeze-and-excitation, ReLU6) or `r` (channels rounded for tensor cores).
        num_classes: length of the logits.
        pretrained: a weight file in the authors' names, timm's or ours; `https://…#sha256=…`; or the tag of timm's
            weights on the Hugging Face hub, such as `nav_in1k`.
        depth_mult: multiplier of the number of blocks.
        in_channels: channels of the images.
        dropout: probability of dropping a feature before the classifier.
        drop_path: stochastic depth of the last residual block; it grows linearly from 0.
        use_se: squeeze-and-excitation; None: as in the variant.
        se_ratio: width of its bottleneck relative to the expanded channels.
        activation: what follows the widening convolutions; None: as in the variant.
        channel_divisor: every width is a multiple of it; None: as in the variant.
        output_stride: 32, 16 or 8, the latter by dilation.
        grad_checkpointing: less memory in training for a third more computation.
        class_names: names of the classes, by which rows of a pretrained classifier are kept.

    Raises:
        ConfigError: a number is out of its range.
        CheckpointError: the pretrained weights are missing, damaged or of another network.
    """
    if isinstance(pretrained, bool):
        raise ConfigError("pretrained: should be a file, an address or the tag of weights such as nav_in1k, not a bool")
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


def find_timm_architecture(model: nn.Module, config: ModelConfig) -> str | None:
    """Timm's name of a configured network, if timm builds one that takes its weights as they are."""
    import timm

    if config.name == "rexnet":
        name = timm_name(config.variant, config.width_mult)
    else:
        name = config.name.removeprefix("timm/").partition(".")[0]
    if not timm.is_model(name):
        return None
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    classes = next(iter(model.get_classifier().parameters())).shape[0]  # type: ignore[operator]
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=classes).state_dict()
    return name if shapes == {key: value.shape for key, value in theirs.items()} else None


def build_model(config: ModelConfig, class_names: Sequence[str], pretrained: bool = True) -> nn.Module:
    """The configured network for these classes, on the CPU.

    Args:
        config: which network, with what dropout and weights.
        class_names: one for each logit.
        pretrained: whether `config.pretrained` is loaded; a checkpoint that brings its own weights says no.

    Raises:
        ConfigError: timm has no network of that name.
        CheckpointError: the pretrained weights are missing, damaged or of another network.
    """
    source = config.pretrained if pretrained else None
    if config.name == "rexnet":
        options = config.model_dump(exclude={"name", "own_preprocessing", "pretrained"})
        return rexnet(num_classes=len(class_names), pretrained=source, class_names=class_names, **options)
    model = _build_timm(config, len(class_names))
    if source is not None:
        log.info(load_pretrained(model, source, config.name, class_names))
    return model


def adopt_preprocessing(config: Config) -> Config:
    """`config` with the mean, std, interpolation and central crop that a network of timm brings along.

    Raises:
        ConfigError: `data.mean` or `data.std` is set to something else.
    """
    if config.model.name == "rexnet" or not config.model.own_preprocessing:
        return config
    import timm

    name, tag = config.model.name.removeprefix("timm/"), config.model.pretrained or ""
    tagged = f"{name}.{tag}" if "." not in name and re.fullmatch(r"[\w-]+", tag) else name
    try:
        own = timm.get_pretrained_cfg(tagged, allow_unregistered=False)
    except RuntimeError:  # timm does not know the tag; the hub may
        own = timm.get_pretrained_cfg(name, allow_unregistered=False)
    if own is None:  # build_model says what is wrong with the name
        return config
    for key, value in {"mean": own.mean, "std": own.std}.items():
        if key in config.data.model_fields_set and getattr(config.data, key) != value:
            raise ConfigError(
                f"data.{key}: is set to {getattr(config.data, key)}, but {config.model.name} has {value}; leave it "
                f"out, or set model.own_preprocessing=false"
            )
    measuring = {"crop_pct": own.crop_pct}
    if own.interpolation in ("bilinear", "bicubic"):
        measuring["interpolation"] = own.interpolation
    data = config.data.model_copy(update={"mean": own.mean, "std": own.std})
    eval_transform = config.eval_transform.model_copy(update=measuring)
    changed = [
        f"eval_transform.{key}={value} instead of {getattr(config.eval_transform, key)}"
        for key, value in measuring.items()
        if getattr(config.eval_transform, key) != value
    ]
    log.info(
        f"{config.model.name} brings its own preprocessing: mean {own.mean}, std {own.std}, "
        f"{eval_transform.interpolation}, crop {eval_transform.crop_pct}"
        + (f" ({', '.join(changed)}; model.own_preprocessing=false keeps yours)" if changed else "")
    )
    return config.model_copy(update={"data": data, "eval_transform": eval_transform})


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
    if config.grad_checkpointing:
        model.set_grad_checkpointing()
    assert isinstance(model, nn.Module)
    return model
