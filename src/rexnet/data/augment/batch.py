"""Transforms of whole batches on the device: normalization, random erasing, mixup and CutMix.

Positions and ratios are drawn on the CPU from the seed of the batch, so that no step waits for the device; only noise
is drawn there.
"""

import functools
import itertools
import math
import random

import numpy as np
import torch
from torch import Tensor

from rexnet.config.data_schema import AugmentationConfig

ERASED_AREA = (0.02, 1 / 3)  # smallest and largest fraction of the image, as in timm
ERASED_RATIO = (0.3, 1 / 0.3)
ERASE_ATTEMPTS = 10


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...], channels_last: bool = True) -> Tensor:
    """Converts uint8 (N, H, W, 3) to float32 (N, 3, H, W), normalized by channel mean and standard deviation."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    pixels = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=layout)
    return pixels.sub_(_per_channel(mean, images.device)).div_(_per_channel(std, images.device))


@functools.cache  # saves two small copies to the device for each batch
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).mul_(255).view(1, -1, 1, 1)


def augment_batch(
    images: Tensor, labels: Tensor, config: AugmentationConfig, classes: int, seed: int, epoch: int = 0
) -> tuple[Tensor, Tensor]:
    """Erases and mixes normalized images (N, 3, H, W); if mixed, labels (N,) become soft targets (N, classes).

    Mixes like timm's `Mixup` in mode `batch`: one method and one ratio for the whole batch.
    """
    rng = random.Random(seed)
    if config.erase_prob > 0:
        erase(images, config.erase_prob, config.erase_mode, rng, config.erase_count)
    mixes = config.mix_epochs is None or epoch < config.mix_epochs
    if mixes and (config.mixup > 0 or config.cutmix > 0) and rng.random() < config.mix_prob:
        use_cutmix = config.cutmix > 0 and (config.mixup == 0 or rng.random() < config.cutmix_share)
        mix = cutmix if use_cutmix else mixup
        return mix(images, labels, config.cutmix if use_cutmix else config.mixup, classes, rng)
    return images, labels


def erase(images: Tensor, probability: float, mode: str, rng: random.Random, max_count: int = 1) -> None:
    """Erases rectangles of some normalized images (N, 3, H, W) in place: random erasing (arXiv 1708.04896).

    They become normal noise in the mode `pixel`, and 0, the mean color, in `const`. All rectangles of an image together
    have the area of one. The device does the same few operations for any number of images.
    """
    height, width = images.shape[2:]
    generator = torch.Generator(images.device).manual_seed(rng.getrandbits(63))
    drawn = []
    for number in range(len(images)):
        if rng.random() < probability:
            count = rng.randint(1, max_count) if max_count > 1 else 1
            rectangles = [_draw_edges(height, width, rng, count) for _ in range(count)]
            drawn.append([number, *itertools.chain(*rectangles, [0] * 4 * (max_count - count))])
    if not drawn:
        return
    on_gpu = images.device.type == "cuda"
    numbers = torch.tensor(drawn, pin_memory=on_gpu).to(images.device, non_blocking=True)
    chosen, edges = numbers[:, 0], numbers[:, 1:].view(len(drawn), max_count, 4, 1)
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    in_rows = (edges[:, :, 0] <= rows) & (rows < edges[:, :, 1])
    in_columns = (edges[:, :, 2] <= columns) & (columns < edges[:, :, 3])
    inside = (in_rows[..., None] & in_columns[:, :, None]).any(1, keepdim=True)
    kept = images[chosen]
    new = torch.randn(kept.shape, generator=generator, device=images.device) if mode == "pixel" else 0.0
    images.index_copy_(0, chosen, torch.where(inside, new, kept))


def mixup(images: Tensor, labels: Tensor, alpha: float, classes: int, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Mixup (arXiv 1710.09412): blends each image with its mirror in the batch, with one ratio for all."""
    own = rng.betavariate(alpha, alpha)
    return images.lerp(images.flip(0), 1.0 - own), _mix_labels(labels, own, classes)


def cutmix(images: Tensor, labels: Tensor, alpha: float, classes: int, rng: random.Random) -> tuple[Tensor, Tensor]:
    """CutMix (arXiv 1905.04899): copies a rectangle from the image's mirror in the batch; labels mix by area."""
    height, width = images.shape[2:]
    side = math.sqrt(1.0 - rng.betavariate(alpha, alpha))
    rows, columns = int(height * side), int(width * side)
    y, x = rng.randrange(height), rng.randrange(width)
    top, bottom = np.clip((y - rows // 2, y + (rows + 1) // 2), 0, height).tolist()
    left, right = np.clip((x - columns // 2, x + (columns + 1) // 2), 0, width).tolist()
    images[:, :, top:bottom, left:right] = images[:, :, top:bottom, left:right].flip(0)
    own = 1.0 - (bottom - top) * (right - left) / (height * width)
    return images, _mix_labels(labels, own, classes)


def _mix_labels(labels: Tensor, own: float, classes: int) -> Tensor:
    targets = torch.zeros(len(labels), classes, device=labels.device).scatter_(1, labels[:, None], 1.0)
    return targets * own + targets.flip(0) * (1.0 - own)


def _draw_edges(height: int, width: int, rng: random.Random, count: int) -> tuple[int, int, int, int]:
    """Draws top, bottom, left and right of a rectangle inside the image; all are 0 if no attempt fits."""
    for _ in range(ERASE_ATTEMPTS):
        area = rng.uniform(*ERASED_AREA) * height * width / count
        ratio = math.exp(rng.uniform(math.log(ERASED_RATIO[0]), math.log(ERASED_RATIO[1])))
        rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < rows < height and 0 < columns < width:
            top, left = rng.randint(0, height - rows), rng.randint(0, width - columns)
            return top, top + rows, left, left + columns
    return 0, 0, 0, 0
