"""The preprocessing of a network: its input transform and the classes of its logits."""

from collections.abc import Sequence
from typing import NamedTuple

from rexnet.config.data_schema import Interpolation
from rexnet.config.schema import Config


class Preprocessing(NamedTuple):
    """The values that evaluation, prediction and exports need besides the weights.

    Checkpoints and exported files carry them; for a network of timm they come from its pretrained config.
    """

    image_size: int
    """Side of the square network input, in pixels."""
    crop_pct: float
    """The short side is resized to image_size / crop_pct before the center crop."""
    interpolation: Interpolation
    """Resampling filter of that resize."""
    mean: tuple[float, float, float]
    """Channel means of RGB scaled to 0..1."""
    std: tuple[float, float, float]
    """Channel standard deviations of RGB scaled to 0..1."""
    class_names: tuple[str, ...]
    """Name of each logit, in order."""


def resolve_preprocessing(config: Config, class_names: Sequence[str]) -> Preprocessing:
    """Returns the preprocessing of a training config for these classes."""
    data, view = config.data, config.eval_transform
    return Preprocessing(data.image_size, view.crop_pct, view.interpolation, data.mean, data.std, tuple(class_names))
