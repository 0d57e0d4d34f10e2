"""Resumes a run: finds the checkpoint, checks that it fits, and applies a changed recipe to its state."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from rexnet.checkpoints.checkpoint import parse_entry, read_checkpoint
from rexnet.checkpoints.durable import remove_stale_temporaries
from rexnet.config import RunConfig, dump_config
from rexnet.config.differences import recipe_of
from rexnet.data.datasets.index import Split
from rexnet.data.sources.image_files import join_names
from rexnet.errors import CheckpointError, ConfigError
from rexnet.models.weights import ENTRY
from rexnet.runs.checkpoint_files import checkpoint_folder, newest_first
from rexnet.runs.image_list import Listed, describe_changes
from rexnet.runs.resume_rules import describe_new_schedule, require_same_recipe
from rexnet.runs.run_folder import CONFIG_FILE
from rexnet.system.atomic_files import atomic_write
from rexnet.training.optim import build_optimizer
from rexnet.training.schedule import build_schedule
from rexnet.training.training_module import TrainingModule

log = logging.getLogger(__name__)


class Resumed(NamedTuple):
    """The checkpoint from which a run resumes."""

    checkpoint: Path
    folder: Path
    step: int
    config: RunConfig
    class_names: tuple[str, ...]
    steps_per_epoch: int | None
    tensors: dict[str, tuple[torch.Size, torch.dtype]]
    """Shape and type of each tensor of the module."""
    damaged: tuple[Path, ...] = ()
    """Newer checkpoints that cannot be read."""


class ChangedRecipe(Callback):
    """Applies a changed recipe: optimizer and schedule would restore their old values from the checkpoint."""

    def __init__(self, old: RunConfig) -> None:
        self.old = old

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        old, new = self.old, pl_module.config
        if (old.optimizer, old.schedule) == (new.optimizer, new.schedule):
            return
        step = checkpoint["global_step"]
        optimizer = build_optimizer(pl_module.model, new.optimizer)
        schedule = build_schedule(new.schedule, new.optimizer.lr, pl_module.steps_per_epoch)
        peaks = [group["lr"] for group in optimizer.param_groups]
        rates = [peak * schedule(step) for peak in peaks]
        state = checkpoint["lr_schedulers"][0]
        text = describe_new_schedule(old.schedule, new.schedule, step, (state["_last_lr"][-1], rates[-1]))
        state.update(base_lrs=peaks, lr_lambdas=[None] * len(peaks), _last_lr=rates)
        restored = checkpoint["optimizer_states"][0]["param_groups"]
        for group, wanted, rate in zip(restored, optimizer.param_groups, rates, strict=True):
            values = {key: value for key, value in wanted.items() if key not in ("params", "fused")}
            group.update(values, lr=rate, initial_lr=wanted["lr"])
        if text:
            log.info(text)


def find_resumed(path: Path) -> Resumed:
    """Reads the checkpoint to resume from: the given file, or the newest readable one of a run folder."""
    faults: dict[Path, str] = {}
    for file in newest_first(path) if path.is_dir() else [path]:
        try:
            content = read_checkpoint(file)
        except CheckpointError as error:
            faults[file] = str(error)
            continue
        step, steps_per_epoch = content["global_step"], content[ENTRY].get("steps_per_epoch")
        if faults:
            log.warning(f"{'; '.join(faults.values())}; resuming from {file.name} (step {step}) instead")
        config, names, _ = parse_entry(content[ENTRY], file)
        tensors = {name: (value.shape, value.dtype) for name, value in content["state_dict"].items()}
        return Resumed(file, file.parent.parent, step, config, names, steps_per_epoch, tensors, tuple(faults))
    raise CheckpointError("; ".join(faults.values()) or f"{path}: has no checkpoint to resume from")


def require_resumable(resumed: Resumed, module: TrainingModule, allowed: Collection[str] = ()) -> None:
    """Raises an error unless a module can continue from a checkpoint; keys in `allowed` may differ from its recipe."""
    path, new, step, steps = resumed.checkpoint, module.config, resumed.step, module.steps_per_epoch
    require_same_recipe(resumed.config, new, allowed, resumed.folder)
    wanted = {name: (value.shape, value.dtype) for name, value in module.state_dict().items()}
    names = resumed.tensors.keys() | wanted.keys()
    other = [name for name in names if resumed.tensors.get(name) != wanted.get(name)]
    if other:
        raise CheckpointError(
            f"{path}: cannot be resumed with this configuration: {len(other)} tensors differ, such as {min(other)}"
        )
    if resumed.steps_per_epoch is None:
        raise CheckpointError(f"{path}: has no position in training; it can be evaluated, but not resumed")
    if resumed.steps_per_epoch != steps:
        raise ConfigError(
            f"data.root: {new.data.root} gives {steps} steps an epoch, but the run at {path} began with "
            f"{resumed.steps_per_epoch}; it can only resume with the training images that it began with"
        )
    if resumed.config.trainer.accumulate != new.trainer.accumulate and step % steps:
        raise ConfigError(
            f"trainer.accumulate: can change only at the end of an epoch, but {path} is at step {step} in epochs of "
            f"{steps}; see the other files there"
        )
    if step > new.schedule.total_epochs * steps:
        raise ConfigError(
            f"schedule.epochs: {new.schedule.total_epochs} with the cool-down, but {path} has already trained "
            f"{step // steps}"
        )


def require_same_data(
    resumed: Resumed, class_names: Sequence[str], indexes: Mapping[Split, Listed], allowed: Collection[str] = ()
) -> None:
    """Rejects other classes than those of the run and, unless `allowed` has `data`, other images."""
    if resumed.class_names != tuple(class_names):
        new, old = set(class_names) - set(resumed.class_names), set(resumed.class_names) - set(class_names)
        raise ConfigError(
            f"{resumed.folder}: the classes of the data differ from its own in name or order (new: "
            f"{join_names(sorted(new))}; missing: {join_names(sorted(old))}), so labels would change their meaning; "
            f"restore them, or start a new run with --config and model.pretrained={resumed.checkpoint}"
        )
    text = "; ".join(f"{split}: {change}" for split, change in describe_changes(resumed.folder, indexes).items())
    effect = "further samples follow the new list, and results before and after are not for the same images"
    if text and "data" not in allowed:
        raise ConfigError(
            f"{resumed.folder}: its images have changed: {text}; restore them, or add --allow-change data: {effect}"
        )
    if text:
        log.warning(f"{resumed.folder}: resumes with other images: {text}; {effect}")


def repair_run(resumed: Resumed, module: TrainingModule) -> None:
    """Renames damaged checkpoints and those after the resumed one, deletes leftovers, and writes down a new recipe."""
    checkpoints, files = checkpoint_folder(resumed.folder), newest_first(resumed.folder)
    newer = files[: files.index(resumed.checkpoint)] if resumed.checkpoint in files else [*resumed.damaged]
    for file in newer:
        file.rename(file.with_name(f"{file.name}.{'damaged' if file in resumed.damaged else 'superseded'}"))
    stale = remove_stale_temporaries(checkpoints)
    if stale:
        log.info(f"{checkpoints}: deleted {', '.join(stale)}, left by a process that was killed")
    if recipe_of(resumed.config) != recipe_of(module.config):
        before = f"config-until-step{resumed.step}.yaml"
        for name, content in {before: resumed.config, CONFIG_FILE: module.config}.items():
            with atomic_write(resumed.folder / name) as temporary:
                temporary.write_text(dump_config(content), encoding="utf-8")
