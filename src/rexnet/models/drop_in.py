"""The networks under the class and argument names of the authors' repository (github.com/clovaai/rexnet).

Code written for `rexnetv1.py` and `rexnetv1_lite.py` runs unchanged after `import rexnet as rexnetv1`.
"""

import math
from typing import Any

from torch import Tensor, nn

from rexnet.errors import ConfigError
from rexnet.models.naming import to_own_names
from rexnet.models.plan import CHANNEL_GROWTH, FIRST_CHANNELS, LITE_GROWTH, NetworkPlan, plan_network
from rexnet.models.rexnet import ReXNet

KERNELS = "333333"


class _DropIn(ReXNet):
    """A ReXNet whose `load_state_dict` also takes the authors' parameter names."""

    def __init__(self, plan: NetworkPlan, classes: int, dropout: float) -> None:
        super().__init__(plan, classes, dropout, 0.0, 3, None, grad_checkpointing=False)
        self.register_load_state_dict_pre_hook(_rename_weights)  # type: ignore[no-untyped-call]

    def extract_features(self, x: Tensor) -> Tensor:
        """Returns the last feature map (N, num_features, H / 32, W / 32), before pooling."""
        return self.forward_features(x)


class ReXNetV1(_DropIn):
    """ReXNetV1 with the arguments of the authors' class.

    `input_ch` and `final_ch` take their defaults only. `bn_momentum` has no effect, as in the authors' code: BatchNorm
    keeps PyTorch's 0.1.

    Raises:
        ConfigError: an argument is out of range or not supported.
    """

    def __init__(
        self,
        input_ch: int = FIRST_CHANNELS,
        final_ch: int = CHANNEL_GROWTH,
        width_mult: float = 1.0,
        depth_mult: float = 1.0,
        classes: int = 1000,
        use_se: bool = True,
        se_ratio: int = 12,
        dropout_ratio: float = 0.2,
        bn_momentum: float = 0.9,
    ) -> None:
        _require("input_ch", input_ch, FIRST_CHANNELS)
        _require("final_ch", final_ch, CHANNEL_GROWTH)
        ratio = math.nextafter(1 / se_ratio, 1)  # just above, so that rounding down gives channels // se_ratio
        plan = plan_network(width_mult, "v1", depth_mult, use_se=use_se, se_ratio=ratio)
        super().__init__(plan, classes, dropout_ratio)


class ReXNetV1_lite(_DropIn):  # noqa: N801 - the authors' name
    """ReXNet-lite with the arguments of the authors' class.

    `input_ch`, `final_ch` and `kernel_conf` take their defaults only, `fix_head_stem` only with multipliers up to 1.

    Raises:
        ConfigError: an argument is out of range or not supported.
    """

    def __init__(
        self,
        fix_head_stem: bool = False,
        divisible_value: int | None = 8,
        input_ch: int = FIRST_CHANNELS,
        final_ch: int = LITE_GROWTH,
        multiplier: float = 1.0,
        classes: int = 1000,
        dropout_ratio: float = 0.2,
        bn_momentum: float = 0.1,
        bn_eps: float = 1e-5,
        kernel_conf: str = KERNELS,
    ) -> None:
        _require("input_ch", input_ch, FIRST_CHANNELS)
        _require("final_ch", final_ch, LITE_GROWTH)
        _require("kernel_conf", kernel_conf, KERNELS)
        if multiplier > 1:
            _require("fix_head_stem", fix_head_stem, False)
        super().__init__(plan_network(multiplier, "lite", channel_divisor=divisible_value or 1), classes, dropout_ratio)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum, module.eps = bn_momentum, bn_eps


def _rename_weights(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Gives the weights of this network in `state` our names before they are loaded."""
    given = {name.removeprefix(prefix): state.pop(name) for name in list(state) if name.startswith(prefix)}
    state |= {prefix + name: value for name, value in to_own_names(given).items()}


def _require(name: str, value: object, supported: object) -> None:
    if value != supported:
        raise ConfigError(f"{name}: only {supported!r} is supported, as in the published networks, not {value!r}")
