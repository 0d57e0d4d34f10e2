"""Model soups: a network whose weights are the mean of several checkpoints of a run (arXiv 2203.05482)."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rexnet.checkpoints.checkpoint import Trained, load_trained
from rexnet.config import Config
from rexnet.data.augment.batch import normalize
from rexnet.data.augment.transforms import build_train_transform
from rexnet.data.dataset import ImageDataset
from rexnet.data.datasets import load_index
from rexnet.data.loaders import build_loader, build_train_sampler, resolve_loader
from rexnet.data.workers import explained_faults
from rexnet.errors import CheckpointError
from rexnet.runs.checkpoint_files import best_first, checkpoint_folder
from rexnet.system.device import adapt_to_hardware, resolve_device

BATCHNORM_IMAGES = 2048  # training images for the statistics of BatchNorm


def build_soup(run: Path) -> tuple[Trained, str]:
    """Averages the best checkpoints of a run, and returns the network with a remark on its ingredients.

    EMA weights are averaged if there are any. BatchNorm's statistics, which cannot be averaged, are estimated again on
    training images.
    """
    paths = best_first(run)
    if len(paths) < 2:
        raise CheckpointError(f"{run}: a soup needs a run folder with two of its best checkpoints, not {len(paths)}")
    soup = average([load_trained(path) for path in paths])
    remark = f"mean of {len(paths)} checkpoints ({', '.join(path.stem for path in paths)})"
    return soup._replace(
        path=checkpoint_folder(run) / f"top{len(paths)}", temperature=None, threshold=None, metrics={}
    ), remark


def average(ingredients: Sequence[Trained]) -> Trained:
    """Returns the mean of networks of one architecture, computed in float64."""
    first = ingredients[0]
    states = [trained.model.state_dict() for trained in ingredients]
    model = copy.deepcopy(first.model)
    model.load_state_dict(
        {name: torch.stack([state[name].cpu().double() for state in states]).mean(0) for name in states[0]}
    )
    estimate_batchnorm(model, first.config)
    return first._replace(model=model)


def estimate_batchnorm(model: nn.Module, config: Config) -> None:
    """Sets BatchNorm's statistics, in place, to the mean over batches of augmented training images.

    The images are the first ones of the first epoch, so that the result is reproducible. Dropout and drop-path are off.
    The network moves to the evaluation device and computes there in float32.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    data, trainer = config.data, adapt_to_hardware(config.trainer)
    device = resolve_device(trainer)
    device.place(model.eval())
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    index, seen = load_index(data, "train"), 0
    transform = build_train_transform(data, config.augmentation, config.training_sizes[-1:])
    dataset = ImageDataset(index, transform, config.seed)
    loader = build_loader(dataset, build_train_sampler(config, index), resolve_loader(data, trainer))
    with explained_faults([dataset], data.worker_timeout), torch.inference_mode():
        for batch in loader:
            model(normalize(batch.images.to(device.torch_device), data.mean, data.std, device.channels_last))
            seen += len(batch.images)
            if seen >= BATCHNORM_IMAGES:
                break
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
