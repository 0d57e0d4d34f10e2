"""ReXNet image classifiers: train, fine-tune, evaluate and export them with PyTorch Lightning.

`from rexnet import rexnet` gives a network; everything else is a command, see `rexnet --help`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rexnet.models.factory import rexnet as rexnet

__version__ = "0.2.0"


def __getattr__(name: str) -> object:
    """Imports PyTorch only when a network is asked for: the commands' help needs none."""
    if name == "rexnet":
        from rexnet.models.factory import rexnet

        return rexnet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
