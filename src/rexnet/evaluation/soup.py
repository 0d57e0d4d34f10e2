"""One network from several checkpoints of a run: the mean of their weights (model soups, arXiv 2203.05482)."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
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
from rexnet.system.device import resolve_accelerator, set_up_arithmetic, use_channels_last, with_available_hardware
from rexnet.system.terminal import progress_bar

SoupKind = Literal["soup", "greedy-soup"]
SOUPS: tuple[SoupKind, ...] = ("soup", "greedy-soup")
BATCHNORM_IMAGES = 2048  # training images that BatchNorm's statistics are estimated from

Score = Callable[[Trained], float]


def build_soup(run: Path, kind: SoupKind, score: Score) -> tuple[Trained, str]:
    """The mean of a run's best checkpoints, and a line on what is in it.

    Averaged weights are taken where there are any. BatchNorm's statistics, which no mean gives, are estimated anew from
    training images.

    Args:
        run: the run folder.
        kind: `soup` takes all of the best that the run kept; `greedy-soup` adds them from the best downwards, each only
            if the score does not fall.
        score: the accuracy on validation images.

    Raises:
        CheckpointError: `run` is no run folder, or has fewer than two of the best checkpoints.
        DataError: the training images are not there.
    """
    paths = best_first(run) if run.is_dir() else []
    if len(paths) < 2:
        raise CheckpointError(
            f"{run}: only a run folder with two or more of its best checkpoints can be averaged, this has {len(paths)}"
        )
    loaded = {path: load_trained(path) for path in paths}
    taken, trained = _choose(loaded, score) if kind == "greedy-soup" else (paths, average(list(loaded.values())))
    listed = ", ".join(path.stem for path in taken)
    remark = f"mean of {len(taken)} of {len(paths)} checkpoints ({listed})"
    if kind == "greedy-soup":
        remark += ", chosen on the validation images"
    return trained._replace(path=checkpoint_folder(run) / f"top{len(paths)}", temperature=None, metrics={}), remark


def _choose(loaded: Mapping[Path, Trained], score: Score) -> tuple[list[Path], Trained]:
    """The greedy recipe: a checkpoint stays if the mean with it is at least as good as without."""
    first, *others = loaded
    taken, mean = [first], loaded[first]
    best = score(mean)
    for path in others:
        trial = average([loaded[one] for one in (*taken, path)])
        value = score(trial)
        if value >= best:
            taken, mean, best = [*taken, path], trial, value
    return taken, mean


def average(ingredients: Sequence[Trained]) -> Trained:
    """The mean of networks of one architecture; a single one is returned as it is.

    The mean is taken in float64. Counters are those of the first.
    """
    first = ingredients[0]
    if len(ingredients) == 1:
        return first
    states = [trained.model.state_dict() for trained in ingredients]
    mean = {name: _mean([state[name] for state in states]) for name in states[0]}
    model = copy.deepcopy(first.model)
    model.load_state_dict(mean)
    estimate_batchnorm(model, first.config)
    return first._replace(model=model)


def _mean(values: list[Tensor]) -> Tensor:
    if not values[0].is_floating_point():
        return values[0]
    return torch.stack([value.cpu().double() for value in values]).mean(0).to(values[0].dtype)


def estimate_batchnorm(model: nn.Module, config: Config) -> None:
    """Sets BatchNorm's statistics, in place, to the mean over batches of augmented training images.

    The first images of the first epoch are taken, so that it gives the same each time; the rest of the network, with
    dropout and drop-path, is as in evaluation. The network computes, and stays, where and as evaluation has it, but in
    float32.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    config = with_available_hardware(config)
    accelerator, channels_last = resolve_accelerator(config.trainer), use_channels_last(config.trainer)
    set_up_arithmetic(config.trainer, accelerator)
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    model.eval().to(device).to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
        norm.train()
    index, data, seen = load_index(config.data, "train"), config.data, 0
    dataset = ImageDataset(index, build_train_transform(data, config.augmentation), config.seed)
    loader = build_loader(dataset, build_train_sampler(config, index), resolve_loader(data, config.trainer))
    bar = progress_bar(min(BATCHNORM_IMAGES, len(index)), " images", desc="BatchNorm of the mean", leave=False)
    with bar, explained_faults([dataset], config.data.worker_timeout), torch.inference_mode():
        for batch in loader:
            model(normalize(batch.images.to(device), data.mean, data.std, channels_last))
            seen += len(batch.images)
            bar.update(len(batch.images))
            if seen >= BATCHNORM_IMAGES:
                break
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
