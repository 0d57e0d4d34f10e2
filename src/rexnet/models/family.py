"""The published networks of the family, with their accuracy."""

from typing import NamedTuple

from rexnet.models.plan import Variant, timm_name

TIMM_HUB = "huggingface.co/timm/"
AUTHORS = "github.com/clovaai/rexnet"


class Published(NamedTuple):
    """A network of the family and its published accuracy (ImageNet-1k, 224 px)."""

    variant: Variant
    width_mult: float
    top1: float | None
    """Percent; None if no weights for ImageNet-1k classes were published."""
    top5: float | None
    weights: str
    """Location of the weights; empty if none were published."""
    channel_divisor: int | None = None

    @property
    def name(self) -> str:
        """The name in timm, or in `rexnet.models.timm_registry`."""
        return timm_name(self.variant, self.width_mult)


# arXiv 2007.00992v3 and the README of clovaai/rexnet; `r` from timm's results at 224 px.
FAMILY = (
    Published("v1", 0.9, 77.2, 93.5, ""),
    Published("v1", 1.0, 77.9, 93.9, f"{TIMM_HUB}rexnet_100.nav_in1k"),
    Published("v1", 1.1, 78.6, 94.1, ""),
    Published("v1", 1.2, 79.0, 94.3, ""),
    Published("v1", 1.3, 79.5, 94.7, f"{TIMM_HUB}rexnet_130.nav_in1k"),
    Published("v1", 1.4, 79.8, 94.9, ""),
    Published("v1", 1.5, 80.3, 95.2, f"{TIMM_HUB}rexnet_150.nav_in1k"),
    Published("v1", 2.0, 81.6, 95.7, f"{TIMM_HUB}rexnet_200.nav_in1k"),
    Published("v1", 2.2, 81.7, 95.8, ""),
    Published("v1", 3.0, 82.8, 96.2, f"{TIMM_HUB}rexnet_300.nav_in1k"),
    Published("lite", 1.0, 76.2, 92.8, AUTHORS),
    Published("lite", 1.3, 77.8, 93.8, AUTHORS),
    Published("lite", 1.5, 78.6, 94.2, AUTHORS),
    Published("lite", 2.0, 80.2, 95.0, AUTHORS),
    Published("r", 1.0, None, None, ""),
    Published("r", 1.3, None, None, ""),
    Published("r", 1.5, None, None, ""),
    Published("r", 2.0, 82.6, None, f"{TIMM_HUB}rexnetr_200.sw_in12k_ft_in1k"),
    Published("r", 3.0, 84.0, None, f"{TIMM_HUB}rexnetr_300.sw_in12k_ft_in1k", 16),
)
