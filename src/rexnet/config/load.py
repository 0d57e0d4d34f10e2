"""Loads YAML files and command-line overrides into a validated `Config`."""

import difflib
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rexnet.config.schema import Config
from rexnet.config.validation_errors import describe_errors, shorten
from rexnet.errors import ConfigError

CONFIG_FOLDERS = (Path("configs"), (Path(__file__).parents[1] / "configs").resolve())
"""Folders searched for a config by name: that of the working directory, then that of the package."""
LARGEST_FILE = 1 << 20  # bytes

Tree = dict[str, Any]
Overrides = Mapping[str, Any] | Sequence[str]
"""New values by dotted key, or `section.key=value` assignments with YAML values."""


def load_config(name: str | Path, overrides: Overrides = ()) -> Config:
    """Loads a YAML file with its bases, applies the overrides and validates the result.

    Args:
        name: path of a YAML file, or its name below `configs/`, with or without `.yaml`.
        overrides: values that take precedence over the file.

    Raises:
        ConfigError: lists all errors at once, each with its key.
    """
    path = find_config(name)
    tree = functools.reduce(merge, reversed(_read_chain(path).values()))
    return parse_config(_apply(overrides, tree), source=str(path))


def find_config(name: str | Path) -> Path:
    """Returns the file that `name` refers to: an existing path, else a file below `configs/`.

    Raises:
        ConfigError: there is no such file; the message names the nearest one.
    """
    given = Path(name)
    folders = (Path(), *CONFIG_FOLDERS)
    for candidate in (folder / file for folder in folders for file in (given, Path(f"{given}.yaml"))):
        if candidate.is_file():
            return candidate
    shipped = sorted(str(path.relative_to(CONFIG_FOLDERS[-1])) for path in CONFIG_FOLDERS[-1].rglob("*.yaml"))
    nearest = difflib.get_close_matches(given.name, shipped, n=1, cutoff=0.4)
    hint = f"nearest: {nearest[0]}" if nearest else f"available: {', '.join(shipped)}"
    raise ConfigError(f"{name}: no such configuration file, here or in configs/; {hint}")


def find_base(name: str | Path) -> Path:
    """Returns the last file in the chain of `base:` lines that starts at a configuration.

    Raises:
        ConfigError: a file of the chain is missing or malformed, or the chain is circular.
    """
    *_, last = _read_chain(find_config(name))
    return last


def parse_config(tree: Mapping[str, Any], source: str) -> Config:
    """Validates plain values; `source` names their origin in error messages.

    Raises:
        ConfigError: lists all errors.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {describe_errors(error)}") from None


def replace_values(config: Config, overrides: Overrides) -> Config:
    """Returns a validated copy of a config with other values.

    Raises:
        ConfigError: the values do not fit.
    """
    tree = config.model_dump(exclude_unset=True)  # keys that are set explicitly win over those of a timm network
    return parse_config(_apply(overrides, tree), source=config.name)


def parse_override(text: str) -> Tree:
    """Parses `a.b=1` into `{"a": {"b": 1}}`.

    Raises:
        ConfigError: the text is not an assignment, or its value is not valid YAML.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"{text!r}: overrides have the form section.key=value, such as optimizer.lr=0.1")
    return _nest(keys, _parse_yaml(value, source=f"the value of {path}"))


def merge(base: Tree, change: Tree) -> Tree:
    """Returns `base` updated with `change`: sections are merged key by key, other values replaced."""
    merged = dict(base)
    for key, value in change.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def dump_config(config: Config) -> str:
    """Returns the resolved configuration as YAML, which loads to an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply(overrides: Overrides, tree: Tree) -> Tree:
    if isinstance(overrides, Mapping):
        changes = [_nest(key.split("."), value) for key, value in overrides.items()]
    else:
        changes = [parse_override(text) for text in overrides]
    return functools.reduce(merge, changes, tree)


def _nest(keys: Sequence[str], value: Any) -> Tree:
    for key in reversed(keys):
        value = {key: value}
    return dict(value)


def _read_chain(path: Path) -> dict[Path, Tree]:
    """Reads a file and the chain of its bases; each file maps to the values that it sets itself."""
    chain: dict[Path, Tree] = {}
    while True:
        chain[path] = _read_file(path)
        base = chain[path].pop("base", None)
        if base is None:
            return chain
        following = path.parent / str(base)
        if not following.is_file():
            raise ConfigError(f"{path}: `base: {base}` is not a file ({following})")
        if following.resolve() in [file.resolve() for file in chain]:
            raise ConfigError(f"{path}: `base: {base}` is circular")
        path = following


def _read_file(path: Path) -> Tree:
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ConfigError(f"{path}: too large for a configuration file ({size:,} bytes)")
    try:
        tree = _parse_yaml(path.read_text(encoding="utf-8"), source=str(path))
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: should contain sections with keys, found {shorten(tree)}")
    return tree


class _StrictLoader(yaml.SafeLoader):
    """Rejects duplicate keys, aliases, and numbers that YAML 1.1 would misread."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not supported", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                mark = node.value[position][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", mark)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        """Parses a decimal number; YAML 1.1 would read 010 as 8, 1:30 as 90 and 1_0 as 10."""
        text = str(node.value)
        if re.fullmatch(r"[-+]?(0[0-9_]+|0[xb].*|.*[:_].*)", text):
            problem = f"{text} is not a plain decimal number"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        if node.tag.endswith("int"):
            return self.construct_yaml_int(node)
        return self.construct_yaml_float(node)


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
