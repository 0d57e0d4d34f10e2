"""ReXNet image classifiers: train, fine-tune, evaluate and export them with PyTorch Lightning.

`from rexnet import rexnet` gives a network; everything else is a command, see `rexnet --help`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rexnet.models.drop_in import ReXNetV1 as ReXNetV1
    from rexnet.models.drop_in import ReXNetV1_lite as ReXNetV1_lite
    from rexnet.models.factory import rexnet as rexnet

__version__ = "0.2.0"

PUBLIC = {
    "rexnet": "rexnet.models.factory",
    "ReXNetV1": "rexnet.models.drop_in",
    "ReXNetV1_lite": "rexnet.models.drop_in",
}


def __getattr__(name: str) -> object:
    """Imports PyTorch only when a public name is used: the commands' help needs none."""
    if name in PUBLIC:
        return getattr(importlib.import_module(PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
