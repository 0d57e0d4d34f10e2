"""Trains a small network briefly on images that are already on the device, without loader workers."""

import math
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from rexnet.config.data_schema import SourceConfig
from rexnet.data.datasets.by_name import load_index
from rexnet.data.datasets.download import download_dataset
from rexnet.data.sources.decode import decode
from rexnet.errors import DataError, DivergenceError
from rexnet.models.depthwise import train_depthwise_in_fp32
from rexnet.models.plan import NetworkPlan
from rexnet.models.rexnet import ActivationName, ReXNet
from rexnet.studies.candidates import IMAGE_SIZE
from rexnet.studies.singular_values import GramMatrix
from rexnet.system.device import Device

PAD = 4  # pixels on each side of an image before the random crop
EVAL_BATCH = 250
DataName = Literal["folder", "cifar10", "cifar100"]


class Recipe(NamedTuple):
    """Hyperparameters of SGD with Nesterov momentum, a cosine schedule, and random flips and shifts."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    activation: ActivationName


class Images(NamedTuple):
    """A split: pixels uint8 (N, 3, 32, 32) and labels int64 (N,)."""

    pixels: Tensor
    labels: Tensor


def load_images(name: DataName, root: Path, count: int | None, device: torch.device) -> tuple[Images, Images, int]:
    """Returns the training images, the test images and the number of classes.

    `count` limits the training images; None: all. CIFAR is downloaded into `root` if it is missing.

    Raises:
        DataError: the data set is missing, damaged or cannot be downloaded, or an image is not 32 x 32 pixels.
    """
    if name == "folder":
        if not root.is_dir():
            raise DataError(f"--data: {root} does not exist; it should have class folders in train/ and test/")
        indices = [load_index(SourceConfig(dataset="folder", root=root), split) for split in ("train", "val")]
        classes = indices[0].class_names
        splits = [([_decode(each.read(i), each.name(i)) for i in range(len(each))], each.labels) for each in indices]
    else:
        from torchvision.datasets import CIFAR10, CIFAR100

        download_dataset(name, root)
        try:
            parts = [(CIFAR10 if name == "cifar10" else CIFAR100)(root, train=train) for train in (True, False)]
        except RuntimeError:
            raise DataError(f"{root}: its {name} is damaged; delete it to download it again") from None
        splits, classes = [(part.data, part.targets) for part in parts], parts[0].classes
    loaded = []
    for images, labels in splits:
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:count]
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        loaded.append(Images(pixels[order].to(device), torch.as_tensor(labels)[order].to(device)))
        count = None  # all test images
    return loaded[0], loaded[1], len(classes)


def train_briefly(
    plan: NetworkPlan, recipe: Recipe, train: Images, test: Images, classes: int, device: Device, seed: int
) -> tuple[float, float]:
    """Trains a network; the seed determines weights, sample order and augmentation.

    Returns:
        Accuracy on the test images in percent, and the nuclear norm of their features (N, 1280).

    Raises:
        DivergenceError: the loss is not finite.
    """
    torch.manual_seed(seed)
    model = ReXNet(plan, classes, 0.0, 0.0, 3, recipe.activation, grad_checkpointing=False)
    device.place(model)
    if device.accelerator == "cpu" and device.precision == "bf16-mixed":
        train_depthwise_in_fp32(model)  # 1.9 times as fast in setting a
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay, nesterov=True
    )
    mean, std = (statistic(train.pixels.float(), (0, 2, 3)).view(3, 1, 1) for statistic in (torch.mean, torch.std))
    steps = len(train.labels) // recipe.batch_size
    orders = [torch.randperm(len(train.labels)) for _ in range(recipe.epochs)]
    batches = (batch for order in orders for batch in torch.split(order, recipe.batch_size)[:steps])
    for step, batch in enumerate(batches):
        images = (_augment(train.pixels[batch]).float() - mean) / std
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * (1 + math.cos(math.pi * step / (steps * recipe.epochs))) / 2
        with device.autocast():
            logits = model(images.contiguous(memory_format=device.memory_format))
        loss = F.cross_entropy(logits.float(), train.labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    if not math.isfinite(loss.item()):
        widths = "-".join(str(block.out_channels) for block in plan.blocks)
        raise DivergenceError(f"the loss of the network {widths} is not finite; lower --lr")
    gram, correct = GramMatrix(), 0
    with torch.inference_mode(), device.autocast():
        for pixels, labels in zip(*(torch.split(each, EVAL_BATCH) for each in test), strict=True):
            images = ((pixels.float() - mean) / std).contiguous(memory_format=device.memory_format)
            features = model.eval().forward_head(model.forward_features(images), pre_logits=True)
            correct += int((model.head.fc(features).argmax(1) == labels).sum())
            gram.add(features)
    return 100 * correct / len(test.labels), float(gram.singular_values().sum())


def _decode(content: bytes, name: str) -> np.ndarray:
    image = decode(content, name)
    if image.shape[:2] != (IMAGE_SIZE, IMAGE_SIZE):
        raise DataError(f"{name}: is {image.shape[1]} x {image.shape[0]} pixels; the study needs 32 x 32")
    return image


def _augment(images: Tensor) -> Tensor:
    """Shifts images (N, 3, 32, 32) by up to 4 pixels, padded with black, and flips each with probability 0.5."""
    count, device = len(images), images.device
    top, left = torch.randint(0, 2 * PAD + 1, (2, count, 1), device=device)
    positions = torch.arange(IMAGE_SIZE, device=device).expand(count, -1)
    flips = torch.rand(count, 1, device=device) < 0.5
    rows, columns = positions + top, torch.where(flips, positions.flip(1), positions) + left
    padded = F.pad(images, (PAD, PAD, PAD, PAD)).permute(0, 2, 3, 1)
    each = torch.arange(count, device=device)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
