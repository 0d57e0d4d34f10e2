"""Registers with timm the networks of the family that it lacks: import this module, then call `timm.create_model`.

Among them are `rexnet_090`, `rexnet_220` and `rexnet_lite_100`. They support what timm's own do: `features_only`,
`in_chans`, `checkpoint_path`, `num_classes=0`. They have no weights on the hub; `checkpoint_path` takes the file of
`rexnet export --to safetensors`.
"""

import functools
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, is_model, register_model
from timm.models._registry import generate_default_cfgs

from rexnet.models.factory import rexnet
from rexnet.models.plan import Variant, timm_name
from rexnet.models.rexnet import ReXNet

ARGUMENTS = {"in_chans": "in_channels", "drop_rate": "dropout", "drop_path_rate": "drop_path"}
INPUT = {
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
PUBLISHED: dict[Variant, tuple[float, ...]] = {
    "v1": (0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 2.0, 2.2, 3.0),
    "lite": (1.0, 1.3, 1.5, 2.0),
}
"""Widths in arXiv 2007.00992v3 and the README of clovaai/rexnet; timm has all of `r`, which is its own."""
FAMILY = {timm_name(variant, width): (width, variant) for variant, widths in PUBLISHED.items() for width in widths}
NETWORKS = {name: network for name, network in FAMILY.items() if not is_model(name)}
default_cfgs = generate_default_cfgs({f"{name}.untrained": INPUT for name in NETWORKS})


def _build_rexnet(width_mult: float, variant: Variant, num_classes: int = 1000, **options: Any) -> ReXNet:
    renamed = {ARGUMENTS.get(name, name): value for name, value in options.items() if value is not None}
    network = rexnet(width_mult, variant, num_classes, **renamed)
    network.feature_info = [  # type: ignore[assignment]  # for timm's `features_only`
        {"num_chs": level.channels, "reduction": level.stride, "module": f"features.{level.block}"}
        for level in network.plan.levels
    ]
    return network


def _build_for_timm(name: str, pretrained: bool = False, **options: Any) -> Any:
    build = functools.partial(_build_rexnet, *NETWORKS[name])
    return build_model_with_cfg(build, name, pretrained, feature_cfg={"flatten_sequential": True}, **options)


for _name in NETWORKS:
    _entry_point = functools.partial(_build_for_timm, _name)
    _entry_point.__name__, _entry_point.__module__ = _name, __name__  # type: ignore[attr-defined]
    register_model(_entry_point)
