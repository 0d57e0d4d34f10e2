"""From bytes to the network's input, on the device and for the whole batch: scaling, erasing, mixup and CutMix.

Positions and shares are drawn on the CPU from the batch's seed, so that no step waits for the device; only noise is
drawn there.
"""

import functools
import math
import random

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from rexnet.config.data_schema import AugmentationConfig

ERASED_AREA = (0.02, 1 / 3)  # smallest and largest share of the image, as in timm
ERASED_RATIO = (0.3, 1 / 0.3)
ERASE_ATTEMPTS = 10


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...], channels_last: bool = True) -> Tensor:
    """uint8 (N, H, W, 3) as float32 (N, 3, H, W) with the given channel statistics."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    pixels = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=layout)
    return pixels.sub_(_per_channel(mean, images.device)).div_(_per_channel(std, images.device))


@functools.cache  # else each batch would wait for two small copies to the device
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).mul_(255).view(1, -1, 1, 1)


def augment_batch(
    images: Tensor, labels: Tensor, config: AugmentationConfig, classes: int, seed: int, epoch: int = 0
) -> tuple[Tensor, Tensor]:
    """Erases and mixes normalised images (N, 3, H, W); labels (N,) become shares (N, classes) where images mix.

    Mixing is that of timm's `Mixup` in its mode `batch`: one choice and one share for the whole batch.
    """
    draw = random.Random(seed)
    if config.erase_prob > 0:
        erase(images, config.erase_prob, config.erase_mode, draw, config.erase_count)
    mixes = config.mix_epochs is None or epoch < config.mix_epochs
    if mixes and (config.mixup > 0 or config.cutmix > 0) and draw.random() < config.mix_prob:
        use_cutmix = config.cutmix > 0 and (config.mixup == 0 or draw.random() < config.cutmix_share)
        mix = cutmix if use_cutmix else mixup
        return mix(images, labels, config.cutmix if use_cutmix else config.mixup, classes, draw)
    return images, labels


def erase(images: Tensor, probability: float, mode: str, draw: random.Random, most: int = 1) -> None:
    """Random erasing (arXiv 1708.04896) in place: rectangles of each chosen image become noise or the mean.

    Args:
        images: normalised, (N, 3, H, W); the mean colour is 0.
        probability: share of images that are chosen.
        mode: `pixel` for normal noise, `const` for the mean colour.
        draw: source of the choice and of the rectangles.
        most: largest number of rectangles in an image; where more than one is drawn, each is as much smaller.
    """
    height, width = images.shape[2:]
    generator = torch.Generator(images.device).manual_seed(draw.getrandbits(63))
    for image in images:
        if draw.random() >= probability:
            continue
        count = draw.randint(1, most) if most > 1 else 1
        for _ in range(count):
            rectangle = _draw_rectangle(height, width, draw, count)
            if rectangle is None:
                continue
            top, left, rows, columns = rectangle
            area = image[:, top : top + rows, left : left + columns]
            if mode == "pixel":
                area.normal_(generator=generator)
            else:
                area.zero_()


def mixup(images: Tensor, labels: Tensor, alpha: float, classes: int, draw: random.Random) -> tuple[Tensor, Tensor]:
    """Mixup (arXiv 1710.09412): each image blended with its mirror in the batch, one share for all."""
    share = draw.betavariate(alpha, alpha)
    return images.lerp(images.flip(0), 1.0 - share), _mix_labels(labels, share, classes)


def cutmix(images: Tensor, labels: Tensor, alpha: float, classes: int, draw: random.Random) -> tuple[Tensor, Tensor]:
    """CutMix (arXiv 1905.04899): a rectangle of each image comes from its mirror in the batch; labels share by area."""
    height, width = images.shape[2:]
    side = math.sqrt(1.0 - draw.betavariate(alpha, alpha))
    rows, columns = int(height * side), int(width * side)
    middle, centre = draw.randrange(height), draw.randrange(width)
    top, bottom = np.clip((middle - rows // 2, middle + (rows + 1) // 2), 0, height).tolist()
    left, right = np.clip((centre - columns // 2, centre + (columns + 1) // 2), 0, width).tolist()
    images[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
    share = 1.0 - (bottom - top) * (right - left) / (height * width)
    return images, _mix_labels(labels, share, classes)


def _mix_labels(labels: Tensor, share: float, classes: int) -> Tensor:
    own = F.one_hot(labels, classes).to(torch.float32)
    return own * share + own.flip(0) * (1.0 - share)


def _draw_rectangle(height: int, width: int, draw: random.Random, count: int) -> tuple[int, int, int, int] | None:
    """Top, left, height and width of a rectangle inside the image, or None when no attempt fits."""
    for _ in range(ERASE_ATTEMPTS):
        area = draw.uniform(*ERASED_AREA) * height * width / count
        ratio = math.exp(draw.uniform(math.log(ERASED_RATIO[0]), math.log(ERASED_RATIO[1])))
        rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < rows < height and 0 < columns < width:
            return draw.randint(0, height - rows), draw.randint(0, width - columns), rows, columns
    return None
