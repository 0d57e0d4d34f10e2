"""ReXNet image classifiers: train, fine-tune, evaluate and export them with PyTorch Lightning.

`rexnet.train` and `rexnet.load` are the Python API, `rexnet.rexnet` builds a network, and `rexnet --help` lists the
commands.
"""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rexnet.api import Predictor as Predictor
    from rexnet.api import load as load
    from rexnet.api import train as train
    from rexnet.models.drop_in import ReXNetV1 as ReXNetV1
    from rexnet.models.drop_in import ReXNetV1_lite as ReXNetV1_lite
    from rexnet.models.factory import rexnet as rexnet

__version__ = "0.2.0"

if "OMP_WAIT_POLICY" not in os.environ:  # OpenMP's threads soon sleep, not spin, while another program has their core
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # of 300,000: see benchmarks/busy_machine.py
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing it would look for updates on the network

PUBLIC = {
    "Predictor": "rexnet.api",
    "load": "rexnet.api",
    "train": "rexnet.api",
    "rexnet": "rexnet.models.factory",
    "ReXNetV1": "rexnet.models.drop_in",
    "ReXNetV1_lite": "rexnet.models.drop_in",
}


def __getattr__(name: str) -> object:
    """Imports PyTorch only when a public name is used: the commands' help needs none."""
    if name in PUBLIC:
        return getattr(importlib.import_module(PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
