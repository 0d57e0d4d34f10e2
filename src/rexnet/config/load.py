"""From YAML files and command-line overrides to a checked `Config`."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rexnet.config.schema import Config
from rexnet.config.validation_errors import describe_faults, shorten
from rexnet.errors import ConfigError

CONFIG_FOLDERS = (Path("configs"), (Path(__file__).parents[1] / "configs").resolve())
"""Where a name is looked up: below the working directory, then in the package, where a link leads to the checkout's."""
LARGEST_FILE = 1 << 20

Tree = dict[str, Any]


def load_config(name: str | Path, overrides: Sequence[str] = ()) -> Config:
    """A checked configuration from a YAML file, its bases and `section.key=value` overrides.

    Args:
        name: path of a YAML file, or its name below `configs/`, with or without `.yaml`.
        overrides: assignments that win over the file; values are read as YAML.

    Raises:
        ConfigError: naming every fault at once, each with its key path.
    """
    path = find_config(name)
    tree = _read_with_bases(path, seen=())
    for override in overrides:
        tree = merge(tree, parse_override(override))
    return parse_config(tree, source=str(path))


def find_config(name: str | Path) -> Path:
    """The file that `name` means: a path as it is, else the same below `configs/`.

    Raises:
        ConfigError: there is no such file; named with the nearest that there is.
    """
    given = Path(name)
    folders = (Path(), *CONFIG_FOLDERS)
    for candidate in (folder / file for folder in folders for file in (given, Path(f"{given}.yaml"))):
        if candidate.is_file():
            return candidate
    shipped = sorted(str(file.relative_to(folder)) for folder in CONFIG_FOLDERS[-1:] for file in folder.rglob("*.yaml"))
    nearest = difflib.get_close_matches(given.name, shipped, n=1, cutoff=0.4) or shipped
    hint = f"; there is {', '.join(nearest)}" if nearest else ""
    raise ConfigError(f"{name}: no such configuration file, neither here nor in configs/{hint}")


def find_base(name: str | Path) -> Path:
    """The file at the end of the `base:` lines that start at a configuration; itself where it has none.

    Raises:
        ConfigError: a file on the way is missing or malformed, or the lines lead in a circle.
    """
    path = find_config(name)
    _read_with_bases(path, seen=())  # raises, before the loop below would not end
    while base := _parse_yaml(path.read_text(encoding="utf-8"), source=str(path)).get("base"):
        path = path.parent / str(base)
    return path


def parse_config(tree: Mapping[str, Any], source: str) -> Config:
    """A checked configuration from plain values; `source` names their origin in errors.

    Raises:
        ConfigError: with all faults.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {describe_faults(error)}") from None


def parse_override(text: str) -> Tree:
    """`a.b=1` as the tree `{"a": {"b": 1}}`.

    Raises:
        ConfigError: it is no assignment, or its value no YAML.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"{text!r} on the command line should read section.key=value, as in optimizer.lr=0.1")
    tree: Any = _parse_yaml(value, source=f"the value of {path}")
    for key in reversed(keys):
        tree = {key: tree}
    return dict(tree)


def merge(base: Tree, change: Tree) -> Tree:
    """`base` with the values of `change`: sections key by key, everything else replaced."""
    merged = dict(base)
    for key, value in change.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML; loading this text gives the same run."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_with_bases(path: Path, seen: tuple[Path, ...]) -> Tree:
    if path.resolve() in seen:
        chain = " -> ".join(str(file) for file in (*seen, path.resolve()))
        raise ConfigError(f"{path}: `base:` leads back to itself: {chain}")
    if path.stat().st_size > LARGEST_FILE:
        raise ConfigError(f"{path}: {path.stat().st_size:,} bytes are too many for a configuration file")
    try:
        text = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
    tree = _parse_yaml(text, source=str(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: should hold `section:` lines with keys below, not {shorten(tree)}")
    base = tree.pop("base", None)
    if base is None:
        return tree
    base_path = path.parent / str(base)
    if not base_path.is_file():
        raise ConfigError(f"{path}: its `base: {base}` is not a file ({base_path})")
    return merge(_read_with_bases(base_path, seen=(*seen, path.resolve())), tree)


class _StrictLoader(yaml.SafeLoader):
    """YAML's plain values, without what surprises: duplicate keys, aliases, and numbers not written in tens."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not used here", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                mark = node.value[position][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands there twice", mark)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        """A number; YAML 1.1 reads 010 as 8, 1:30 as 90 and 1_0 as 10."""
        text = str(node.value)
        if re.fullmatch(r"[-+]?(0[0-9_]+|0[xb].*|.*[:_].*)", text):
            problem = f"{text} is not how a number is written here; put it in plain decimal digits"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        if node.tag.endswith("int"):
            return self.construct_yaml_int(node)
        return self.construct_yaml_float(node)


for _kind in ("int", "float"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _StrictLoader.construct_number)


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader with two more refusals
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{source}{where}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from None
