"""Registers with timm the networks of the family that it lacks: import this module, then call `timm.create_model`.

These are `rexnet_090`, `rexnet_220` and `rexnet_lite_100`, `_130`, `_150` and `_200`, with all that timm's builder does
for its own: `features_only`, `in_chans`, `checkpoint_path`, `num_classes=0`. They have no weights on the hub;
`checkpoint_path` takes what `rexnet export --to safetensors` wrote.
"""

import functools
from collections.abc import Callable
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, register_model
from timm.models._registry import generate_default_cfgs

from rexnet.models.factory import rexnet
from rexnet.models.plan import Variant, timm_name
from rexnet.models.rexnet import ReXNet

NETWORKS: tuple[tuple[Variant, float], ...] = (
    ("v1", 0.9),
    ("v1", 2.2),
    ("lite", 1.0),
    ("lite", 1.3),
    ("lite", 1.5),
    ("lite", 2.0),
)

default_cfgs = generate_default_cfgs(
    {
        f"{timm_name(variant, width)}.untrained": {
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "pool_size": (7, 7),
            "crop_pct": 0.875,
            "interpolation": "bicubic",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": "stem.conv",
            "classifier": "head.fc",
            "license": "mit",
        }
        for variant, width in NETWORKS
    }
)


def _network(width_mult: float, variant: Variant, num_classes: int = 1000, **options: Any) -> ReXNet:
    """A network from timm's names of the options."""
    names = {"in_chans": "in_channels", "drop_rate": "dropout", "drop_path_rate": "drop_path"}
    renamed = {names.get(name, name): value for name, value in options.items() if value is not None}
    network = rexnet(width_mult, variant, max(num_classes, 1), **renamed)
    if num_classes == 0:
        network.reset_classifier(0)
    network.feature_info = [  # type: ignore[assignment]  # what timm's `features_only` reads
        {"num_chs": level.channels, "reduction": level.stride, "module": f"features.{level.block}"}
        for level in network.plan.levels
    ]
    return network


def _entry_point(variant: Variant, width_mult: float) -> Callable[..., Any]:
    def build(pretrained: bool = False, **options: Any) -> Any:
        return build_model_with_cfg(
            functools.partial(_network, width_mult, variant),
            build.__name__,
            pretrained,
            feature_cfg={"flatten_sequential": True},
            **options,
        )

    build.__name__ = timm_name(variant, width_mult)
    build.__doc__ = f"ReXNet {variant} of width {width_mult:g}."
    build.__module__ = __name__
    return build


__all__ = []
for _variant, _width in NETWORKS:
    _build = _entry_point(_variant, _width)
    globals()[_build.__name__] = register_model(_build)
