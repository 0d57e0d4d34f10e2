"""Where in an image a network sees a class: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391), by captum."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rexnet.data.augment.batch import normalize
from rexnet.errors import ConfigError
from rexnet.evaluation.error_grid import captions_of, view_images
from rexnet.evaluation.results import Result
from rexnet.figures.image_grid import layout_grid, picture_row, save_image_grid
from rexnet.metrics.predictions import Predictions
from rexnet.metrics.statistics import least_sure, most_wrong

STRENGTH = 0.55  # of the heat map over the image


def require_captum() -> None:
    """Refuses to begin without the package.

    Raises:
        ConfigError: it is not installed.
    """
    if find_spec("captum") is None:
        raise ConfigError("--heatmaps: needs the package captum: pip install captum")


def write_heatmaps(path: Path, result: Result, count: int) -> None:
    """Writes a PNG: the most wrong images (then the least sure), and over each the heat of two classes.

    Args:
        path: of the picture.
        result: what was measured.
        count: number of images.

    Raises:
        ConfigError: captum is not installed, the classifier is an export, or the file cannot be written.
    """
    require_captum()
    network = result.network
    if network is None:
        raise ConfigError(f"--heatmaps: {result.model} is an exported graph without gradients; take its checkpoint")
    predictions = result.predictions
    positions = choose_positions(predictions, count)
    images, data = view_images(result, positions), result.config.data
    device = next(network.parameters()).device
    inputs = normalize(torch.from_numpy(images).to(device), data.mean, data.std)
    named, truth = (torch.from_numpy(rows[positions]) for rows in (predictions.logits.argmax(1), predictions.labels))
    rows = [
        picture_row("Image", "with its classes", images, captions_of(result, positions)),
        picture_row("Heat", "of the named class", lay_over(images, grad_cam(network, inputs, named))),
        picture_row("Heat", "of the right class", lay_over(images, grad_cam(network, inputs, truth))),
    ]
    save_image_grid(layout_grid(rows, f"{result.model}: what speaks for a class (Grad-CAM)"), path)


def choose_positions(predictions: Predictions, count: int) -> np.ndarray:
    """Positions of the most wrong images, then of the least sure of the others."""
    in_turn = [*most_wrong(predictions, count).tolist(), *least_sure(predictions, 2 * count).tolist()]
    return np.array(list(dict.fromkeys(in_turn))[:count], np.int64)


def grad_cam(network: nn.Module, images: Tensor, classes: Tensor) -> np.ndarray:
    """Heat of one class for each normalised image (N, 3, H, W): float32 (N, H, W), each from 0 to its maximum 1.

    It is taken at the last maps of the network, before they are pooled.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    parameters = [parameter for parameter in network.parameters() if not parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(True)
    cam = LayerGradCam(network, last_maps(network, images[:1]))
    heat = cam.attribute(images, classes.to(images.device), relu_attributions=True)
    for parameter in parameters:
        parameter.requires_grad_(False)
    heat = LayerAttribution.interpolate(heat.detach(), tuple(images.shape[2:]), "bilinear")[:, 0]
    return np.asarray((heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-12)).float().cpu())


def last_maps(network: nn.Module, image: Tensor) -> nn.Module:
    """The last layer to give maps of more than one pixel for an image (1, 3, H, W).

    Raises:
        ConfigError: there is none, for an image as small as this.
    """
    layers: list[nn.Module] = []

    def note(layer: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            layers.append(layer)

    leaves = [module for module in network.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(note) for module in leaves]
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    if not layers:
        raise ConfigError("--heatmaps: this network has no maps of more than one pixel at this image size")
    return layers[-1]


def lay_over(images: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Images uint8 (N, H, W, 3) under their heat (N, H, W), from dark to bright."""
    from matplotlib import colormaps

    colours = 255 * colormaps["inferno"](heat)[..., :3]
    return np.asarray(np.round(STRENGTH * colours + (1 - STRENGTH) * images), np.uint8)
