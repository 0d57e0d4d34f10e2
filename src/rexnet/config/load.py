"""Loads YAML files and command-line overrides into a validated config of a classifier or detector."""

import difflib
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import yaml
from pydantic import ValidationError

from rexnet.config.detection_schema import DetectionConfig
from rexnet.config.schema import Config, RunConfig
from rexnet.config.section import is_text, walk_keys
from rexnet.config.validation_errors import describe_errors
from rexnet.errors import ConfigError

CONFIG_FOLDERS = (Path("configs"), (Path(__file__).parents[1] / "configs").resolve())
"""Folders searched for a config by name: that of the working directory, then that of the package."""

Tree = dict[str, Any]
Overrides = Mapping[str, Any] | Sequence[str]
"""New values by dotted key, or `section.key=value` assignments: paths and text as written, all others in YAML."""

Kind = TypeVar("Kind", bound=RunConfig)

TEXT_KEYS = frozenset(key for task in (Config, DetectionConfig) for key, field in walk_keys(task) if is_text(field))


@overload
def load_config(name: str | Path, overrides: Overrides = ...) -> Config: ...
@overload
def load_config(name: str | Path, overrides: Overrides, kind: type[Kind]) -> Kind: ...
def load_config(name: str | Path, overrides: Overrides = (), kind: type[RunConfig] = Config) -> RunConfig:
    """Loads a YAML file with its bases, applies the overrides and validates the result.

    Args:
        name: path of a YAML file, or its name below `configs/`, with or without `.yaml`.
        overrides: new values.
        kind: the task that the file should configure; `RunConfig`: any.

    Raises:
        ConfigError: another task, or a list of all errors at once, each with its key.
    """
    path = find_config(name)
    return require_kind(parse_any_config(_apply(overrides, _read_tree(path)), str(path)), kind, str(path))


def find_config(name: str | Path) -> Path:
    """Returns the file that `name` refers to: an existing path, else a file below `configs/`.

    Raises:
        ConfigError: there is no such file; the message names the nearest one.
    """
    given = Path(name).expanduser()
    folders = (Path(), *CONFIG_FOLDERS)
    for candidate in (folder / file for folder in folders for file in (given, Path(f"{given}.yaml"))):
        if candidate.is_file():
            return candidate
    shipped = sorted(str(path.relative_to(CONFIG_FOLDERS[-1])) for path in CONFIG_FOLDERS[-1].rglob("*.yaml"))
    nearest = difflib.get_close_matches(given.name, shipped, n=1, cutoff=0.4)
    hint = f"nearest: {nearest[0]}" if nearest else f"available: {', '.join(shipped)}"
    raise ConfigError(f"{name}: no such configuration file, here or in configs/; {hint}")


def parse_config(tree: Mapping[str, Any], source: str) -> Config:
    """Validates the plain values of a classifier's config; `source` names their origin in messages."""
    return require_kind(parse_any_config(tree, source), Config, source)


def parse_any_config(tree: Mapping[str, Any], source: str) -> RunConfig:
    """Validates the plain values of a config: a detector's if it has a section `detector`, else a classifier's."""
    kind = DetectionConfig if "detector" in tree else Config
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {describe_errors(error, kind)}") from None


def require_kind(config: RunConfig, kind: type[Kind], source: str | Path) -> Kind:
    """Returns a config of the given task; another one is a ConfigError."""
    if not isinstance(config, kind):
        found, wanted = (
            ("detector", "classifier") if isinstance(config, DetectionConfig) else ("classifier", "detector")
        )
        raise ConfigError(f"{source}: belongs to a {found}, but a {wanted} is needed here")
    return config


def replace_values(config: Kind, overrides: Overrides) -> Kind:
    """Returns a validated copy of a config with other values."""
    tree = config.model_dump(exclude_unset=True)  # keys that are set explicitly win over those of a timm network
    return require_kind(parse_any_config(_apply(overrides, tree), config.name), type(config), config.name)


def resolve_batch_size(config: Kind, number: int) -> Kind:
    """Returns a config with a number for `data.batch_size: auto`, and learning rates for it; others stay as they are.

    Rates are scaled from 256 images as in timm: in proportion for SGD, by the square root for AdamW.
    """
    if config.data.batch_size != "auto":
        return config
    factor = (number / 256) ** (1.0 if config.optimizer.name == "sgd" else 0.5)
    values = {
        "data.batch_size": number,
        "optimizer.lr": factor * config.optimizer.lr,
        "schedule.warmup_lr": factor * config.schedule.warmup_lr,
        "schedule.min_lr": factor * config.schedule.min_lr,
    }
    return replace_values(config, values)


def merge(base: Tree, change: Tree) -> Tree:
    """Returns `base` updated with `change`: sections are merged key by key, other values replaced."""
    merged = dict(base)
    for key, value in change.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def dump_config(config: RunConfig) -> str:
    """Returns the resolved configuration as YAML, which loads to an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply(overrides: Overrides, tree: Tree) -> Tree:
    changes = overrides.items() if isinstance(overrides, Mapping) else map(_parse_override, overrides)
    for key, value in changes:
        for part in reversed(key.split(".")):
            value = {part: value}
        tree = merge(tree, value)
    return tree


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r}: overrides have the form section.key=value, such as optimizer.lr=0.1")
    key = key.strip()
    if key in TEXT_KEYS:
        return key, None if value in ("", "null") else value
    return key, _parse_yaml(value, source=f"the value of {key}")


def _read_tree(path: Path, variants: Sequence[Path] = ()) -> Tree:
    """Reads a file and the chain of its bases; a file takes precedence over its base."""
    try:
        tree = _parse_yaml(path.read_text(encoding="utf-8"), source=str(path))
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: should contain sections with keys, found {reprlib.repr(tree)}")
    base = tree.pop("base", None)
    if base is None:
        return tree
    if path.resolve() in variants:
        raise ConfigError(f"{path}: `base: {base}` is circular")
    return merge(_read_tree(path.parent / str(base), [*variants, path.resolve()]), tree)


class _StrictLoader(yaml.SafeLoader):
    """Rejects duplicate keys, and numbers that YAML 1.1 would misread."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                _refuse(f"duplicate key {key!r}", node.value[position][0])
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        """Parses a decimal number; YAML 1.1 would read 010 as 8, 1:30 as 90 and 1_0 as 10."""
        if re.fullmatch(r"[-+]?(0[0-9_]+|0[xb].*|.*[:_].*)", node.value):
            _refuse(f"{node.value} is not a plain decimal number", node)
        return self.construct_yaml_int(node) if node.tag.endswith("int") else self.construct_yaml_float(node)


def _refuse(problem: str, node: yaml.Node) -> None:
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


for _kind in ("int", "float"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _StrictLoader.construct_number)


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a stricter SafeLoader
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{source}{where}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from None
