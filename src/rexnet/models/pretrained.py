"""Loads the weights of a file into a network: the backbone as it is, the classifier by the names of its classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from rexnet.class_names import match_classes
from rexnet.errors import CheckpointError
from rexnet.models.fetching import fetch_weights
from rexnet.models.naming import Weights
from rexnet.models.weights import WeightFile, read_weights


def load_pretrained(model: nn.Module, source: str, model_name: str, class_names: Sequence[str] | None = None) -> str:
    """Loads the weights of `source` into `model` and returns a sentence about them.

    A classifier for other classes keeps the rows of classes with the same name; the other rows stay as initialized, as
    does the whole head if the file holds a backbone only. `source` is a file, or a source of `fetch_weights`.

    Raises:
        CheckpointError: the file is missing, damaged or holds another network.
    """
    path = Path(source)
    if path.is_dir():
        raise CheckpointError(f"{source or 'pretrained'}: is a folder; give one of the weight files in it")
    file = read_weights(path if path.exists() else fetch_weights(source, model_name))
    wanted = model.state_dict()
    weights = dict(file.weights)
    if any(name.startswith("backbone.body.") for name in weights):
        raise CheckpointError(
            f"{file.path}: holds a detector; give it as detector.weights, or give a classifier's weights"
        )
    sentence = _fit_classifier(weights, wanted, _classifier_keys(model), file, class_names)
    load_complete(model, weights, file.path, f"network than {model_name}")
    return f"Pretrained weights from {file.path}{sentence}"


def load_complete(model: nn.Module, weights: Weights, path: Path, other: str) -> None:
    """Loads weights that should have all tensors of a network and no more.

    Raises:
        CheckpointError: the file at `path` holds another one; `other` says than which.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        problem = str(error).splitlines()[1].strip()  # PyTorch lists all of them, after a heading
        raise CheckpointError(f"{path}: holds another {other}: {problem[:200]}") from None


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
    if not fitting:  # PyTorch will compare the shapes
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


def _classifier_keys(model: nn.Module) -> list[str]:
    """Returns the names of the last layer's tensors in the state of `model`."""
    classifier = model.get_classifier()  # type: ignore[operator]  # ReXNet and every timm network have it
    assert isinstance(classifier, nn.Module)
    prefix = next(name for name, module in model.named_modules() if module is classifier)
    return [f"{prefix}.{name}" for name in classifier.state_dict()]
