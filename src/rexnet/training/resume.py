"""Going on with a run: which checkpoint, whether it fits, and what a changed recipe means for its state."""

import json
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from rexnet.checkpoints.checkpoint import read_checkpoint
from rexnet.checkpoints.durable import remove_stale_temporaries
from rexnet.config import Config, dump_config, parse_config
from rexnet.config.differences import recipe_of
from rexnet.errors import CheckpointError, ConfigError
from rexnet.models.weights import ENTRY
from rexnet.runs.checkpoint_files import checkpoint_folder, newest_first
from rexnet.runs.resume_rules import describe_longer_run, require_same_recipe
from rexnet.runs.run_folder import CONFIG_FILE
from rexnet.system.atomic_files import atomic_write
from rexnet.training.module import Classifier
from rexnet.training.optim import build_optimizer
from rexnet.training.schedule import build_schedule

log = logging.getLogger(__name__)


class Resumed(NamedTuple):
    """What a run goes on from."""

    checkpoint: Path
    folder: Path
    step: int
    stored: Config
    """The recipe that it was made with."""
    damaged: tuple[Path, ...] = ()
    """Newer checkpoints that are not whole."""


class ChangedRecipe(Callback):
    """Lets a changed recipe act: optimisers and schedules would take their old values out of the checkpoint."""

    def __init__(self, stored: Config) -> None:
        self.stored = stored

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        assert isinstance(pl_module, Classifier)
        old, new = self.stored, pl_module.config
        if (old.optimizer, old.schedule) == (new.optimizer, new.schedule):
            return
        step = checkpoint["global_step"]
        optimizer = build_optimizer(pl_module.model, new.optimizer)
        schedule = build_schedule(new.schedule, new.optimizer.lr, pl_module.steps_per_epoch)
        peaks = [group["lr"] for group in optimizer.param_groups]
        rates = [peak * schedule(step) for peak in peaks]
        state = checkpoint["lr_schedulers"][0]
        text = describe_longer_run(old.schedule, new.schedule, step, (state["_last_lr"][-1], rates[-1]))
        state.update(base_lrs=peaks, lr_lambdas=[None] * len(peaks), _last_lr=rates)
        groups = zip(checkpoint["optimizer_states"][0]["param_groups"], optimizer.param_groups, rates, strict=True)
        for restored, wanted, rate in groups:
            values = {key: value for key, value in wanted.items() if key not in ("params", "fused")}
            restored.update(values, lr=rate, initial_lr=wanted["lr"])
        if text:
            log.info(text)


def resume_from(path: Path, module: Classifier, allowed: Collection[str] = ()) -> Resumed:
    """The checkpoint to go on from, checked against the network and the recipe; in a run folder the newest whole one.

    Args:
        path: a run folder or a checkpoint in it.
        module: the network and the recipe to go on with.
        allowed: keys of the recipe that may differ.

    Raises:
        CheckpointError: nothing there, nothing whole, or of another network.
        ConfigError: the recipe differs.
    """
    checkpoint, content, damaged = _read_newest(path) if path.is_dir() else (path, read_checkpoint(path), [])
    folder = checkpoint.parent.parent
    stored = parse_config(json.loads(content[ENTRY]["config"]), source=f"the configuration in {checkpoint}")
    require_same_recipe(stored, module.config, allowed, path)
    _require_same_tensors(content["state_dict"], module, checkpoint)
    _require_position(stored, module, content, checkpoint)
    return Resumed(checkpoint, folder, content["global_step"], stored, tuple(damaged))


def repair_run(resumed: Resumed, config: Config) -> None:
    """Makes the folder of a run that is about to go on its own again, once no other process trains in it.

    What killed processes left behind is deleted, damaged checkpoints are put aside under another name, and a changed
    recipe is written down.
    """
    for file in resumed.damaged:
        file.rename(file.with_name(f"{file.name}.damaged"))
    checkpoints = checkpoint_folder(resumed.folder)
    stale = remove_stale_temporaries(checkpoints)
    if stale:
        log.info(f"{checkpoints}: deleted {', '.join(stale)}, left by a process that was killed")
    if recipe_of(resumed.stored) != recipe_of(config):
        before = f"config-until-step{resumed.step}.yaml"
        for name, content in {before: resumed.stored, CONFIG_FILE: config}.items():
            with atomic_write(resumed.folder / name) as temporary:
                temporary.write_text(dump_config(content), encoding="utf-8")


def _read_newest(run: Path) -> tuple[Path, dict[str, Any], list[Path]]:
    """The newest checkpoint of a run folder that is whole, its content, and newer ones that are not."""
    damaged: list[Path] = []
    faults: list[str] = []
    for file in newest_first(run):
        try:
            content = read_checkpoint(file)
        except CheckpointError as error:
            faults.append(str(error))
            damaged.append(file)
            continue
        if faults:
            log.warning(f"{'; '.join(faults)}; going on from {file.name} (step {content['global_step']}) instead")
        return file, content, damaged
    raise CheckpointError("; ".join(faults) or f"{run}: holds no checkpoint to go on from")


def _require_same_tensors(state: dict[str, torch.Tensor], module: Classifier, path: Path) -> None:
    wanted = module.state_dict()
    other = list(state.keys() ^ wanted.keys())
    for name in state.keys() & wanted.keys():
        if (state[name].shape, state[name].dtype) != (wanted[name].shape, wanted[name].dtype):
            other.append(name)
    if other:
        raise CheckpointError(
            f"{path}: cannot be resumed with this configuration: {len(other)} tensors differ, such as {min(other)}"
        )


def _require_position(stored: Config, module: Classifier, content: dict[str, Any], path: Path) -> None:
    """Refuses another count of steps an epoch, and other parts of a step in the middle of an epoch."""
    new, step = module.config, content["global_step"]
    steps_per_epoch = content[ENTRY].get("steps_per_epoch")
    if steps_per_epoch is None:
        raise CheckpointError(f"{path}: was written by an earlier version; it can be evaluated, but not resumed")
    if steps_per_epoch != module.steps_per_epoch:
        raise ConfigError(
            f"data.root: {new.data.root} gives {module.steps_per_epoch} steps an epoch, but the run at {path} began "
            f"with {steps_per_epoch}; it goes on only with the training images that it began with"
        )
    if stored.trainer.accumulate != new.trainer.accumulate and step % module.steps_per_epoch:
        raise ConfigError(
            f"trainer.accumulate: can change at an epoch's end only, but {path} is of step {step} in epochs of "
            f"{module.steps_per_epoch}; see the other files there"
        )
    if step > new.schedule.total_epochs * module.steps_per_epoch:
        raise ConfigError(
            f"schedule.epochs: {new.schedule.total_epochs} with the cool-down, but {path} has trained "
            f"{step // module.steps_per_epoch} already"
        )
