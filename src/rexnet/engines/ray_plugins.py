"""Ray's plugins for Lightning's Trainer."""

from importlib.util import find_spec
from typing import Any

from rexnet.errors import ConfigError


def require_ray() -> None:
    """Raises a ConfigError unless Ray is installed, and Lightning is installed under one name only."""
    if find_spec("ray") is None:
        raise ConfigError("rexnet ray: Ray is not installed; run pip install 'rexnet-lightning[ray]'")
    if find_spec("lightning") is not None:
        raise ConfigError(
            "rexnet ray: the package lightning is installed next to pytorch_lightning, and Ray would use its classes, "
            "which this program's Trainer rejects; run pip uninstall lightning"
        )


def build_ray_strategy(**options: Any) -> Any:
    """Returns Ray's DDP strategy, which uses the device and the process group that Ray has set up."""
    from ray.train.lightning import RayDDPStrategy

    return RayDDPStrategy(**options)


def build_ray_cluster() -> Any:
    """Returns Ray's cluster environment, which asks Ray for the ranks and the number of processes."""
    from ray.train.lightning import RayLightningEnvironment

    return RayLightningEnvironment()
