"""Translates between the authors' parameter names and ours, which are timm's.

The authors number the layers of a block in order of computation, so that the numbers depend on what the block has.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import Tensor

Weights = dict[str, Tensor]

FIRST_BLOCK = 3  # index of the first block in the authors' `features`, after convolution, BatchNorm and activation
SQUEEZE_LAYERS = {"fc1": "fc.0", "bn": "fc.1", "fc2": "fc.3"}


class _Block(NamedTuple):
    expands: bool
    squeezes: bool


def to_own_names(weights: Weights) -> Weights:
    """Returns the weights under our names if they have the authors' (`features.0.weight`), else as they are."""
    if not ("features.0.weight" in weights and f"features.{FIRST_BLOCK}.out.0.weight" in weights):
        return weights
    is_lite = "output.0.weight" in weights or "output.4.weight" in weights
    own_name = {theirs: ours for ours, theirs in _module_names(_official_blocks(weights), is_lite).items()}
    renamed = {_rename(name, own_name): value for name, value in weights.items()}
    if "head.fc.weight" in renamed and renamed["head.fc.weight"].ndim > 1:
        renamed["head.fc.weight"] = renamed["head.fc.weight"].flatten(1)  # theirs is a 1x1 convolution
    return renamed


def to_official_names(weights: Weights) -> Weights:
    """Returns weights with our names, or timm's, under the authors' names."""
    has_hidden = "head.hidden.conv.weight" in weights
    official_name = _module_names(_own_blocks(weights), has_hidden)
    renamed = {_rename(name, official_name): value for name, value in weights.items()}
    classifier = f"{official_name['head.fc']}.weight"
    renamed[classifier] = renamed[classifier][:, :, None, None]
    return renamed


def _module_names(blocks: Sequence[_Block], has_hidden: bool) -> dict[str, str]:
    """Returns the authors' name of each of our modules with parameters."""
    last = FIRST_BLOCK + len(blocks)
    names = {"stem.conv": "features.0", "stem.bn": "features.1"}
    for number, block in enumerate(blocks):
        layers = ["conv_exp.conv", "conv_exp.bn", "activation"] if block.expands else []
        layers += ["conv_dw.conv", "conv_dw.bn"] + ["se"] * block.squeezes
        layers += ["relu6", "conv_pwl.conv", "conv_pwl.bn"]
        for place, layer in enumerate(layers):
            names[f"features.{number}.{layer}"] = f"features.{FIRST_BLOCK + number}.out.{place}"
        squeeze = names.pop(f"features.{number}.se", None)
        for ours, theirs in SQUEEZE_LAYERS.items() if squeeze else ():
            names[f"features.{number}.se.{ours}"] = f"{squeeze}.{theirs}"
    names |= {f"features.{len(blocks)}.conv": f"features.{last}", f"features.{len(blocks)}.bn": f"features.{last + 1}"}
    if has_hidden:
        return names | {"head.hidden.conv": "output.0", "head.hidden.bn": "output.1", "head.fc": "output.4"}
    return names | {"head.fc": "output.1"}


def _rename(name: str, modules: dict[str, str]) -> str:
    """Returns a tensor's name with its module's name replaced."""
    module, _, tensor = name.rpartition(".")
    return f"{modules.get(module, module)}.{tensor}"


def _official_blocks(weights: Weights) -> list[_Block]:
    blocks = []
    for number in _numbers(weights, r"features\.(\d+)\.out\."):
        places = _numbers(weights, rf"features\.{number}\.out\.(\d+)\.(?:weight|fc)")
        squeezes = any(re.match(rf"features\.{number}\.out\.\d+\.fc", name) for name in weights)
        blocks.append(_Block(expands=len(places) - squeezes > 4, squeezes=squeezes))
    return blocks


def _own_blocks(weights: Weights) -> list[_Block]:
    return [
        _Block(f"features.{number}.conv_exp.conv.weight" in weights, f"features.{number}.se.fc1.weight" in weights)
        for number in _numbers(weights, r"features\.(\d+)\.conv_pwl\.")
    ]


def _numbers(names: Iterable[str], pattern: str) -> list[int]:
    """Returns the distinct numbers that a pattern finds at the start of names, in order."""
    return sorted({int(match[1]) for name in names if (match := re.match(pattern, name))})
