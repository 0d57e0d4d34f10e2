"""Which run goes on, with which recipe: its own, or one that differs where that may be and was asked for."""

import difflib
from collections.abc import Collection, Sequence
from pathlib import Path

from rexnet.config import Config, load_config
from rexnet.config.differences import Changes, find_changes, flatten, has_role
from rexnet.config.section import Role
from rexnet.errors import ConfigError
from rexnet.runs.checkpoint_files import LAST, checkpoint_folder
from rexnet.runs.run_folder import CONFIG_FILE, find_run_folders


def load_run_config(
    run: Path, overrides: Sequence[str] = (), allowed: Collection[str] = (), config: str | None = None
) -> Config:
    """The configuration of an earlier run, by its folder or a checkpoint in it, to go on with it.

    Args:
        run: the folder or checkpoint.
        overrides: assignments that win over the file.
        allowed: keys of the recipe that may differ from those of the run.
        config: a file to take in place of the run's own `config.yaml`.

    Raises:
        ConfigError: no `config.yaml` there, or the recipe would be another one.
    """
    if not run.exists():
        raise ConfigError(f"{run}: there is no such run folder or checkpoint to go on with")
    path = (run if run.is_dir() else run.parent.parent) / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"{run}: is not a run to go on with: {path} is missing")
    old, wanted = load_config(path), load_config(config or path, overrides)
    require_same_recipe(_with_same_preprocessing(old, wanted), wanted, allowed, run)
    return wanted


def _with_same_preprocessing(old: Config, new: Config) -> Config:
    """`old` as to preprocessing like `new`, where the network brings its own: a file leaves it out, a run has it.

    `training.resume` compares again once both have it.
    """
    if new.model.name == "rexnet" or not new.model.own_preprocessing:
        return old
    data = old.data.model_copy(update={"mean": new.data.mean, "std": new.data.std})
    return old.model_copy(update={"data": data, "eval_transform": new.eval_transform})


def find_newest_run(runs_dir: Path) -> Path:
    """The run folder below `runs_dir` whose configuration was written last: what `--resume auto` means.

    Raises:
        ConfigError: there is none; nothing is ever begun from scratch in its place.
    """
    runs = find_run_folders(runs_dir)
    if not runs:
        raise ConfigError(f"{runs_dir}: holds no run to go on with; name another folder by trainer.runs_dir")
    return runs[-1]


def require_same_recipe(old: Config, new: Config, allowed: Collection[str], run: Path) -> None:
    """Refuses to go on with another recipe than the one that a run began with.

    Raises:
        ConfigError: with every changed key that is not among `allowed`, or that cannot change at all.
    """
    changes = find_changes(old, new)
    known = flatten(old) | flatten(new)
    for key in allowed:
        if not any(is_below(name, [key]) for name in known):
            near = difflib.get_close_matches(key, known, n=1)
            raise ConfigError(f"--allow-change {key}: no such key{f'; nearest: {near[0]}' if near else ''}")
    fixed = [key for key in changes if has_role(key, Role.FIXED)]
    if fixed:
        raise ConfigError(
            f"{run}: {_words(changes, fixed)} cannot change within a run; begin a new one from its weights with "
            f"--config and model.pretrained={checkpoint_folder(run) / LAST if run.is_dir() else run}"
        )
    free = [key for key in changes if has_role(key, Role.MECHANICS) or is_below(key, allowed) or _extends(key, changes)]
    refused = [key for key in changes if key not in free]
    if refused:
        flags = " ".join(f"--allow-change {key}" for key in refused)
        raise ConfigError(f"{run}: goes on with its recipe, but {_words(changes, refused)}; if it should, add {flags}")


def describe_longer_run(old: Config, new: Config, step: int, rates: tuple[float, float]) -> str | None:
    """What another length means for a run that goes on at `step`, where the rate goes from the first to the second."""
    before, after = old.schedule, new.schedule
    if before == after:
        return None
    text = f"The run now has {after.total_epochs} epochs instead of {before.total_epochs}"
    if before.model_copy(update={"cooldown_epochs": after.cooldown_epochs}) == after:
        return f"{text}: the cool-down at learning rate {after.min_lr:g} lasts {after.cooldown_epochs} epochs"
    return (
        f"{text}, and the cosine ends after epoch {after.epochs} instead of {before.epochs}: at step {step} the "
        f"learning rate goes from {rates[0]:.4g} to {rates[1]:.4g}"
    )


def _extends(key: str, changes: Changes) -> bool:
    """Whether a change only appends epochs, so that no step of before would have been another."""
    return key == "schedule.cooldown_epochs" and changes[key][1] > changes[key][0]


def is_below(key: str, sections: Collection[str]) -> bool:
    """Whether a dotted key is one of `sections`, or lies in one."""
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _words(changes: Changes, keys: Sequence[str]) -> str:
    return ", ".join(f"{key} goes from {changes[key][0]} to {changes[key][1]}" for key in keys)
