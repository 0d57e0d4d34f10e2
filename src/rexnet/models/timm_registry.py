"""Registers with timm the networks of the family that it lacks: import this module, then call `timm.create_model`.

Among them are `rexnet_090`, `rexnet_220` and `rexnet_lite_100`. They support what timm's own do: `features_only`,
`in_chans`, `checkpoint_path`, `num_classes=0`. They have no weights on the hub; `checkpoint_path` takes the file of
`rexnet export --to safetensors`.
"""

import functools
from collections.abc import Callable
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, is_model, register_model
from timm.models._registry import generate_default_cfgs

from rexnet.models.factory import rexnet
from rexnet.models.family import FAMILY, Published
from rexnet.models.rexnet import ReXNet

NETWORKS = [network for network in FAMILY if not is_model(network.name)]

default_cfgs = generate_default_cfgs(
    {
        f"{network.name}.untrained": {
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
        for network in NETWORKS
    }
)


def _network(published: Published, num_classes: int = 1000, **options: Any) -> ReXNet:
    """Builds a network from timm's names of the options."""
    names = {"in_chans": "in_channels", "drop_rate": "dropout", "drop_path_rate": "drop_path"}
    renamed = {names.get(name, name): value for name, value in options.items() if value is not None}
    network = rexnet(published.width_mult, published.variant, max(num_classes, 1), **renamed)
    if num_classes == 0:
        network.reset_classifier(0)
    network.feature_info = [  # type: ignore[assignment]  # for timm's `features_only`
        {"num_chs": level.channels, "reduction": level.stride, "module": f"features.{level.block}"}
        for level in network.plan.levels
    ]
    return network


def _entry_point(published: Published) -> Callable[..., Any]:
    def build(pretrained: bool = False, **options: Any) -> Any:
        network, features = functools.partial(_network, published), {"flatten_sequential": True}
        return build_model_with_cfg(network, published.name, pretrained, feature_cfg=features, **options)

    build.__name__ = published.name
    build.__doc__ = f"ReXNet {published.variant} of width {published.width_mult:g}."
    build.__module__ = __name__
    return build


__all__ = []
for _published in NETWORKS:
    globals()[_published.name] = register_model(_entry_point(_published))
