"""A short training of a small network on images that are already on the device."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from rexnet.errors import DivergenceError
from rexnet.models.depthwise import train_depthwise_in_fp32
from rexnet.models.plan import NetworkPlan
from rexnet.models.rexnet import ActivationName, ReXNet
from rexnet.studies.image_tensors import IMAGE_SIZE, ImageTensors
from rexnet.studies.singular_values import GramMatrix, nuclear_norm
from rexnet.system.device import Device

PAD = 4  # pixels around the image, from which a random crop is taken
EVAL_BATCH = 250


class Recipe(NamedTuple):
    """SGD with Nesterov momentum and a cosine schedule; random flips and shifts."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    activation: ActivationName


class Outcome(NamedTuple):
    """A trained network on the test images."""

    accuracy: float
    """In %."""
    nuclear_norm: float
    """Sum of the singular values of the classifier's inputs (N, 1280)."""


def train_briefly(
    plan: NetworkPlan, recipe: Recipe, train: ImageTensors, test: ImageTensors, classes: int, device: Device, seed: int
) -> Outcome:
    """Trains a network and evaluates it; the seed determines weights, order and augmentation.

    On a CPU with bf16, a step of the smallest networks at batch 32 takes half the time of fp32.

    Raises:
        DivergenceError: the loss is not finite.
    """
    torch.manual_seed(seed)
    model = ReXNet(plan, classes, 0.0, 0.0, 3, recipe.activation, grad_checkpointing=False)
    model = device.place(model)
    if device.accelerator == "cpu" and device.precision == "bf16-mixed":
        train_depthwise_in_fp32(model)
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay, nesterov=True
    )
    steps_of_epoch = len(train.labels) // recipe.batch_size
    steps = recipe.epochs * steps_of_epoch
    mean, std = _moments(train.images)
    for step in range(steps):
        if step % steps_of_epoch == 0:
            order = torch.randperm(len(train.labels)).to(train.labels.device)
        batch = order[step % steps_of_epoch * recipe.batch_size :][: recipe.batch_size]
        images = (_augment(train.images[batch]).float() - mean) / std
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * (1 + math.cos(math.pi * step / steps)) / 2
        with device.autocast():
            logits = model(images.contiguous(memory_format=device.memory_format))
        loss = F.cross_entropy(logits.float(), train.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if not math.isfinite(loss.item()):
        raise DivergenceError(f"the loss of {[block.out_channels for block in plan.blocks]} is not finite; lower --lr")
    return _evaluate(model, test, mean, std, device)


@torch.inference_mode()
def _evaluate(model: ReXNet, test: ImageTensors, mean: Tensor, std: Tensor, device: Device) -> Outcome:
    model.eval()
    gram, correct = GramMatrix(), 0
    for images, labels in zip(test.images.split(EVAL_BATCH), test.labels.split(EVAL_BATCH), strict=True):
        normalized = ((images.float() - mean) / std).contiguous(memory_format=device.memory_format)
        with device.autocast():
            features = model.forward_head(model.forward_features(normalized), pre_logits=True)
            logits = model.head.fc(features)
        gram.add(features)
        correct += int((logits.argmax(1) == labels).sum())
    return Outcome(100 * correct / len(test.labels), nuclear_norm(gram.singular_values()))


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation of each channel (3, 1, 1) in gray levels."""
    values = images.float()
    return values.mean((0, 2, 3)).view(3, 1, 1), values.std((0, 2, 3)).view(3, 1, 1)


def _augment(images: Tensor) -> Tensor:
    """Shifts images (N, 3, 32, 32) by up to 4 pixels, over black, and flips half of them."""
    count, device = len(images), images.device
    top, left = torch.randint(0, 2 * PAD + 1, (2, count, 1), device=device)
    columns = torch.arange(IMAGE_SIZE, device=device).expand(count, -1)
    flipped = torch.rand(count, 1, device=device) < 0.5
    rows, columns = columns + top, torch.where(flipped, columns.flip(1), columns) + left
    padded = F.pad(images, (PAD, PAD, PAD, PAD))
    each = torch.arange(count, device=device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
