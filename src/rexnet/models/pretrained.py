"""Loads the weights of a file into a network: the backbone as it is, the classifier by the names of its classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rexnet.class_names import match_classes
from rexnet.errors import CheckpointError, first_sentence
from rexnet.models.fetching import fetch_weights
from rexnet.models.naming import Weights
from rexnet.models.recognition import describe_weights
from rexnet.models.weights import WeightFile, read_weights


def load_pretrained(model: nn.Module, source: str, model_name: str, class_names: Sequence[str] | None = None) -> str:
    """Loads the weights of `source` into `model` and returns a sentence about them.

    A classifier for other classes keeps the rows of classes with the same name; the other rows stay as initialized, as
    does the whole head if the file holds a backbone only. The first convolution of a network with other than three
    channels takes the sum over the colors for one channel, and repeats them for more.

    Args:
        model: the network, changed in place.
        source: a file, an address with a checksum, or the tag of weights on the Hugging Face hub (`nav_in1k`).
        model_name: the network's name, for messages and to look up a tag.
        class_names: the classes of `model`; None if unknown.

    Raises:
        CheckpointError: the file is missing, damaged or holds another network.
    """
    path = Path(source)
    if path.is_dir():
        raise CheckpointError(f"{source or 'pretrained'}: is a folder; give one of the weight files in it")
    file = read_weights(path if path.exists() else fetch_weights(source, model_name))
    wanted = model.state_dict()
    weights = dict(file.weights)
    sentence = _fit_classifier(weights, wanted, _classifier_keys(model), file, class_names)
    stem = _fit_stem(weights, wanted)
    _require_same_shapes(weights, wanted, file, model_name)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{file.path}: cannot be taken into {model_name}: {first_sentence(error)}") from None
    return f"Pretrained weights from {file.path}{stem}{sentence}"


def _fit_classifier(
    weights: Weights,
    wanted: Mapping[str, Tensor],
    keys: Sequence[str],
    file: WeightFile,
    class_names: Sequence[str] | None,
) -> str:
    """Gives the classifier in `weights` the rows of `wanted`, and returns words for the result."""
    fitting = [key for key in keys if key in weights and weights[key].shape[1:] == wanted[key].shape[1:]]
    if not any(key in weights for key in keys):
        head = [key for key in wanted if key in keys or key.startswith("head.hidden.")]
        weights |= {key: wanted[key] for key in head if key not in weights}
        return f"; it holds no classifier, a new one for {wanted[keys[0]].shape[0]} classes was initialized."
    if not fitting:  # the shapes are compared later
        return "."
    classes, wanted_classes = weights[fitting[0]].shape[0], wanted[fitting[0]].shape[0]
    pairs = match_classes(class_names or (), file.class_names, classes)
    unmoved = all(row == source for row, source in pairs)
    if classes == wanted_classes and unmoved and (not class_names or not file.class_names or len(pairs) == classes):
        return ", classifier included."
    for key in fitting:
        rows = wanted[key].clone()
        for row, source in pairs:
            rows[row] = weights[key][source]
        weights[key] = rows
    if not pairs:
        return f"; its classifier has {classes} classes, a new one for {wanted_classes} was initialized."
    return (
        f"; its classifier has {classes} classes: {len(pairs)} of the {wanted_classes} here have the same name and "
        f"keep their rows, {wanted_classes - len(pairs)} are new."
    )


def _fit_stem(weights: Weights, wanted: Mapping[str, Tensor]) -> str:
    """Gives a first convolution on RGB images the channels of `wanted`, as timm does, and returns words for it."""
    key = "stem.conv.weight"
    if key not in weights or key not in wanted or weights[key].shape[1:2] != (3,) or wanted[key].shape[1] == 3:
        return ""
    color, channels = weights[key], wanted[key].shape[1]
    if channels == 1:
        weights[key] = color.sum(1, keepdim=True)
    else:
        weights[key] = torch.cat([color] * -(-channels // 3), dim=1)[:, :channels] * (3 / channels)
    return f" (first convolution fitted to {channels} channels)"


def _classifier_keys(model: nn.Module) -> list[str]:
    """Returns the names of the last layer's tensors in the state of `model`."""
    classifier = model.get_classifier()  # type: ignore[operator]  # ReXNet and every timm network have it
    assert isinstance(classifier, nn.Module)
    prefix = next(name for name, module in model.named_modules() if module is classifier)
    return [f"{prefix}.{name}" for name in classifier.state_dict()]


def _require_same_shapes(weights: Weights, wanted: Mapping[str, Tensor], file: WeightFile, model_name: str) -> None:
    missing, foreign = wanted.keys() - weights.keys(), weights.keys() - wanted.keys()
    other = [key for key in wanted if key in weights and weights[key].shape != wanted[key].shape]
    if not (missing or foreign or other):
        return
    if other:
        detail = f"{other[0]} is {tuple(weights[other[0]].shape)} there and {tuple(wanted[other[0]].shape)} here"
    else:
        name = min(missing or foreign)
        detail = f"{len(missing)} tensors are missing and {len(foreign)} unknown, such as {name}"
    asked = f"{model_name} ({describe_weights(wanted)})" if "stem.conv.weight" in wanted else model_name
    raise CheckpointError(f"{file.path}: holds {describe_weights(file.weights)}, which does not fit {asked}: {detail}")
