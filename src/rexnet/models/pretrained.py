"""Weights from elsewhere: reads files safely and fits them to a network.

Three namings are understood: ours, which is timm's; the authors' (`features.0.weight`, `output.1.weight`); and any of
them inside a checkpoint of our own or of another trainer.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from rexnet.errors import CheckpointError, first_sentence
from rexnet.models.rexnet import STAGE_DEPTHS, plan_network
from rexnet.untrusted import read_torch_file

PUBLISHED_WIDTHS = (0.6, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 2.0, 2.2, 3.0)
WRAPPERS = ("state_dict_ema", "state_dict", "model_state_dict", "model")
AVERAGED = "ema_model."  # in our checkpoints the averaged weights stand beside the raw ones (`model.`)
PREFIXES = ("module.", "_orig_mod.", "model.")
FIRST_BLOCK = 3  # place of the first block in the authors' `features`
LAST_CONV = FIRST_BLOCK + sum(STAGE_DEPTHS)

Weights = dict[str, Tensor]


def load_pretrained(model: nn.Module, source: str, model_name: str) -> str:
    """Fills `model` with the weights of `source` and returns one line that says what was done.

    A classifier for another number of classes is left as freshly initialised.

    Args:
        model: the network to fill, in place.
        source: a file, or the tag of weights on the Hugging Face hub (`nav_in1k`).
        model_name: the network's name in messages, and what a tag is looked up for.

    Raises:
        CheckpointError: the file is missing, damaged or holds another network.
    """
    path = Path(source)
    if not path.exists():
        path = _download(source, model_name)
    weights = to_own_names(read_weights(path))
    wanted = model.state_dict()
    classifier = _classifier_keys(model)
    fresh_head = [
        key for key in classifier if key in weights and key in wanted and weights[key].shape != wanted[key].shape
    ]
    head = {key: tuple(weights[key].shape) for key in fresh_head}
    for key in classifier if fresh_head else ():
        weights[key] = wanted[key]
    _require_same_shapes(weights, wanted, path, model_name)
    model.load_state_dict(weights)
    if head:
        classes, wanted_classes = max(shape[0] for shape in head.values()), wanted[fresh_head[0]].shape[0]
        return (
            f"Pretrained weights from {path}; its classifier has {classes} classes, a new one for {wanted_classes} was "
            f"initialised."
        )
    return f"Pretrained weights from {path}, classifier included."


def read_weights(path: Path) -> Weights:
    """All tensors of a weight file by name, without executing anything that the file contains.

    Raises:
        CheckpointError: the file is missing, truncated, needs code to load, or holds no weights.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weight file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: object = load_file(path)
        else:
            with torch.serialization.safe_globals([argparse.Namespace]):  # timm's script keeps its arguments so
                content = read_torch_file(path)
    except CheckpointError:
        raise
    except Exception as error:  # the readers raise a dozen types; all mean the same to the user
        raise CheckpointError(f"{path}: cannot be read as weights: {first_sentence(error)}") from None
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    weights = (
        {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not weights:
        raise CheckpointError(f"{path}: holds no weights, only {type(content).__name__}")
    if any(name.startswith(AVERAGED) for name in weights):
        weights = {name.removeprefix(AVERAGED): value for name, value in weights.items() if name.startswith(AVERAGED)}
    return {_strip_prefixes(name): value for name, value in weights.items()}


def to_own_names(weights: Weights) -> Weights:
    """The authors' ReXNetV1 names turned into ours; any other naming passes unchanged."""
    if "features.0.weight" not in weights or "output.1.weight" not in weights:
        return weights
    own: Weights = {}
    for name, value in weights.items():
        renamed = _rename(name, weights)
        own[renamed] = value.flatten(1) if renamed == "head.fc.weight" else value
    return own


def _rename(name: str, weights: Weights) -> str:
    """Our name for one of the authors'."""
    place, _, rest = name.removeprefix("features.").partition(".")
    if name.startswith("output.1."):
        return name.replace("output.1", "head.fc")
    if place in ("0", "1"):
        return f"stem.{'conv' if place == '0' else 'bn'}.{rest}"
    if place in (str(LAST_CONV), str(LAST_CONV + 1)):
        return f"features.{sum(STAGE_DEPTHS)}.{'conv' if place == str(LAST_CONV) else 'bn'}.{rest}"
    match = re.fullmatch(r"out\.(\d+)\.(.+)", rest)
    if match is None or not place.isdigit():
        return name
    return f"features.{int(place) - FIRST_BLOCK}.{_layer_name(int(match[1]), match[2], place, weights)}"


def _layer_name(layer: int, rest: str, place: str, weights: Weights) -> str:
    """Our name of layer `layer` in the authors' `out` of one block; what a block has moves its layers."""
    squeezes = f"features.{place}.out.5.fc.0.weight" in weights
    if squeezes and layer == 5:
        for theirs, ours in {"fc.0.": "se.fc1.", "fc.1.": "se.bn.", "fc.3.": "se.fc2."}.items():
            rest = rest.replace(theirs, ours)
        return rest
    expands = f"features.{place}.out.6.weight" in weights or squeezes
    names = ["conv_dw.conv", "conv_dw.bn", "conv_pwl.conv", "conv_pwl.bn"]
    places = [0, 1, 3, 4]
    if expands:
        names = ["conv_exp.conv", "conv_exp.bn", *names]
        places = [0, 1, 3, 4, 7, 8] if squeezes else [0, 1, 3, 4, 6, 7]
    return f"{names[places.index(layer)]}.{rest}" if layer in places else f"{layer}.{rest}"


def _strip_prefixes(name: str) -> str:
    """The name without what DistributedDataParallel, torch.compile and LightningModules put before it."""
    stripped = name
    while stripped.startswith(PREFIXES):
        stripped = stripped.partition(".")[2]
    return stripped


def _classifier_keys(model: nn.Module) -> list[str]:
    """Names of the last layer's tensors in the state of `model`."""
    classifier = model.get_classifier()  # type: ignore[operator]  # ReXNet and every timm network have it
    assert isinstance(classifier, nn.Module)
    prefix = next(name for name, module in model.named_modules() if module is classifier)
    return [f"{prefix}.{name}" for name in classifier.state_dict()]


def _require_same_shapes(weights: Weights, wanted: Mapping[str, Tensor], path: Path, model_name: str) -> None:
    missing, foreign = wanted.keys() - weights.keys(), weights.keys() - wanted.keys()
    other = [key for key in wanted if key in weights and weights[key].shape != wanted[key].shape]
    if not (missing or foreign or other):
        return
    content = recognise(weights)
    if other:
        detail = f"{other[0]} is {tuple(weights[other[0]].shape)} there and {tuple(wanted[other[0]].shape)} here"
    else:
        name = min(missing or foreign)
        detail = f"{len(missing)} tensors are missing and {len(foreign)} unknown, such as {name}"
    raise CheckpointError(f"{path}: holds {content}, which does not fit {model_name}: {detail}")


def recognise(weights: Weights) -> str:
    """What a set of weights in our names is, as words for a message."""
    stem, blocks = weights.get("stem.conv.weight"), []
    for place in range(sum(STAGE_DEPTHS)):
        conv = weights.get(f"features.{place}.conv_pwl.conv.weight")
        blocks.append(conv.shape[0] if conv is not None else None)
    if stem is None or None in blocks:
        return "another network than ReXNetV1"
    for width in PUBLISHED_WIDTHS:
        plan = plan_network(width)
        if [block.out_channels for block in plan.blocks] == blocks and plan.stem_channels == stem.shape[0]:
            return f"a ReXNetV1 of width {width}"
    return f"a ReXNetV1 of unpublished width (stem {stem.shape[0]}, last block {blocks[-1]})"


def _download(tag: str, model_name: str) -> Path:
    """Fetches `timm/NAME.TAG` from the Hugging Face hub into its cache."""
    if not re.fullmatch(r"[\w-]+", tag) or "." in tag:
        raise CheckpointError(f"{tag}: no such weight file")
    from huggingface_hub import hf_hub_download

    repository = f"timm/{model_name.removeprefix('timm/')}.{tag}"
    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except Exception as error:  # the hub, its cache and its transport raise errors of many libraries
        raise CheckpointError(
            f"{tag}: neither a file here nor weights that could be fetched from the hub as {repository}: "
            f"{first_sentence(error)}"
        ) from None
