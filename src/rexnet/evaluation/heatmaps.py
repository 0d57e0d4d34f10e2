"""Heat maps of the evidence for a class in an image: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391), by captum."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rexnet.data.augment.batch import normalize
from rexnet.errors import ConfigError
from rexnet.evaluation.error_grid import caption_images, view_images
from rexnet.evaluation.results import Result
from rexnet.figures.image_grid import layout_grid, picture_row, save_image_grid
from rexnet.metrics.predictions import Predictions
from rexnet.metrics.statistics import least_sure, most_wrong

OPACITY = 0.55  # of the heat map over the image


def require_captum() -> None:
    """Raises ConfigError if captum is not installed."""
    if find_spec("captum") is None:
        raise ConfigError("--heatmaps: needs the package captum: pip install captum")


def write_heatmaps(path: Path, result: Result, count: int) -> None:
    """Writes a PNG of `count` images, the most wrong ones first, with heat maps of the predicted and the true class.

    Raises:
        ConfigError: captum is not installed, the classifier is an exported graph, or the file cannot be written.
    """
    require_captum()
    model, predictions = result.model, result.predictions
    if model.network is None:
        raise ConfigError(f"--heatmaps: {model.name} is an exported graph without gradients; use its checkpoint")
    positions = choose_positions(predictions, count)
    images = view_images(result, positions)
    pixels = torch.from_numpy(images).to(model.device.torch_device)
    inputs = normalize(pixels, model.preprocessing.mean, model.preprocessing.std)
    predicted, truth = (
        torch.from_numpy(rows[positions]) for rows in (predictions.logits.argmax(1), predictions.labels)
    )
    rows = [
        picture_row("Image", "with its classes", images, caption_images(result, positions)),
        picture_row("Heat map", "predicted class", overlay(images, grad_cam(model.network, inputs, predicted))),
        picture_row("Heat map", "true class", overlay(images, grad_cam(model.network, inputs, truth))),
    ]
    save_image_grid(layout_grid(rows, f"{model.name}: evidence for a class (Grad-CAM)"), path)


def choose_positions(predictions: Predictions, count: int) -> np.ndarray:
    """Returns the positions of the most wrong images, followed by the least sure of the others."""
    in_order = [*most_wrong(predictions, count).tolist(), *least_sure(predictions, 2 * count).tolist()]
    return np.array(list(dict.fromkeys(in_order))[:count], np.int64)


def grad_cam(network: nn.Module, images: Tensor, classes: Tensor) -> np.ndarray:
    """Returns the heat of one class per normalized image (N, 3, H, W), float32 (N, H, W), scaled to a maximum of 1.

    It is computed on the last feature maps before pooling.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    cam = LayerGradCam(network, last_maps(network, images[:1]))
    heat = cam.attribute(images, classes.to(images.device), relu_attributions=True)
    for parameter in frozen:
        parameter.requires_grad_(False)
    heat = LayerAttribution.interpolate(heat.detach(), tuple(images.shape[2:]), "bilinear")[:, 0]
    return np.asarray((heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-12)).float().cpu())


def last_maps(network: nn.Module, image: Tensor) -> nn.Module:
    """Returns the last layer whose output for an image (1, 3, H, W) has more than one pixel.

    Raises:
        ConfigError: there is none at this image size.
    """
    layers: list[nn.Module] = []

    def record(layer: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            layers.append(layer)

    leaves = [module for module in network.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(record) for module in leaves]
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    if not layers:
        raise ConfigError("--heatmaps: this network has no feature map of more than one pixel at this image size")
    return layers[-1]


def overlay(images: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Returns images uint8 (N, H, W, 3) under a colored layer of their heat (N, H, W)."""
    from matplotlib import colormaps

    colors = 255 * colormaps["inferno"](heat)[..., :3]
    return np.asarray(np.round(OPACITY * colors + (1 - OPACITY) * images), np.uint8)
