"""Decides which run is resumed, and how its config may differ from the one that it started with."""

from collections.abc import Collection, Sequence
from pathlib import Path

from rexnet.config import Config, RunConfig, load_config
from rexnet.config.differences import Changes, find_changes, flatten, has_role, is_below
from rexnet.config.load import Overrides, resolve_batch_size
from rexnet.config.schema import ScheduleConfig
from rexnet.config.section import Role
from rexnet.errors import ConfigError, nearest
from rexnet.runs.checkpoint_files import LAST, checkpoint_folder
from rexnet.runs.run_folder import CONFIG_FILE


def load_run_config(
    run: Path, overrides: Overrides = (), allowed: Collection[str] = (), config: str | None = None
) -> RunConfig:
    """Loads the config with which a run, or a checkpoint in its folder, is resumed: its own, or the file `config`.

    Raises:
        ConfigError: the run has no `config.yaml`, or the recipe differs in other keys.
    """
    path = (run.parent.parent if run.is_file() else run) / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"{run}: is not a run that can be resumed: {path} is missing")
    old, wanted = load_config(path, (), RunConfig), load_config(config or path, overrides, RunConfig)
    wanted = resolve_batch_size(wanted, old.data.step_images)
    if wanted.model.is_of_timm and wanted.model.own_preprocessing:
        # A run stores the preprocessing of its timm network, a file leaves it out; training compares both once adopted.
        data = old.data.model_copy(update={"mean": wanted.data.mean, "std": wanted.data.std})
        changes = {"eval_transform": wanted.eval_transform} if isinstance(wanted, Config) else {}
        old = old.model_copy(update={"data": data, **changes})
    require_same_recipe(old, wanted, allowed, run)
    return wanted


def require_same_recipe(old: RunConfig, new: RunConfig, allowed: Collection[str], run: Path) -> None:
    """Refuses to resume a run with another recipe.

    Raises:
        ConfigError: with every changed key that is not among `allowed` or cannot change at all.
    """
    changes, known = find_changes(old, new), flatten(old) | flatten(new)
    for key in allowed:
        if not any(is_below(name, [key]) for name in known):
            raise ConfigError(f"--allow-change {key}: no such key{nearest(key, known)}")
    fixed = [key for key in changes if has_role(key, Role.FIXED)]
    if fixed:
        raise ConfigError(
            f"{run}: {_in_words(changes, fixed)} cannot change within a run; start a new one from its weights with "
            f"--config and model.pretrained={checkpoint_folder(run) / LAST if run.is_dir() else run}"
        )
    recipe = [key for key in changes if not has_role(key, Role.MECHANICS) and not _keeps_steps(key, changes)]
    if refused := [key for key in recipe if not is_below(key, allowed)]:
        flags = " ".join(f"--allow-change {key}" for key in refused)
        raise ConfigError(
            f"{run}: resumes with its own recipe, but {_in_words(changes, refused)}; to allow it, add {flags}"
        )


def describe_new_schedule(before: ScheduleConfig, after: ScheduleConfig, step: int, rates: tuple[float, float]) -> str:
    """Describes a change of the schedule at `step`, where the learning rate goes from the first to the second rate."""
    if before == after:
        return ""
    old, new = before.model_dump(), after.model_dump()
    changes = ", ".join(f"schedule.{key}={new[key]} instead of {old[key]}" for key in new if new[key] != old[key])
    change = f"goes from {rates[0]:.4g} to {rates[1]:.4g}" if rates[0] != rates[1] else f"stays at {rates[1]:.4g}"
    return f"The run now has {changes}: at step {step} the learning rate {change}"


def _keeps_steps(key: str, changes: Changes) -> bool:
    """Returns True if a change leaves all steps as they were; `auto` and null keep what a run has settled on."""
    old, new = changes[key]
    settles = {"trainer.accumulate": "auto", "distillation.teacher_sha256": None}
    return (key == "schedule.cooldown_epochs" and new > old) or (key in settles and new == settles[key])


def _in_words(changes: Changes, keys: Sequence[str]) -> str:
    return ", ".join(f"{key} goes from {changes[key][0]} to {changes[key][1]}" for key in keys)
