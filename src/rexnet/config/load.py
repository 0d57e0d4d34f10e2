"""From YAML files and command-line overrides to a checked `Config`."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from rexnet.config.schema import Config
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
    """The file that `name` means: a path as it is, else the same below `configs/`."""
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
    """The file at the end of the `base:` lines that start at a configuration; itself where it has none."""
    path = find_config(name)
    _read_with_bases(path, seen=())  # says what is wrong with the chain
    while base := _parse_yaml(path.read_text(encoding="utf-8"), source=str(path)).get("base"):
        path = path.parent / str(base)
    return path


def parse_config(tree: Mapping[str, Any], source: str) -> Config:
    """A checked configuration from plain values; `source` names their origin in errors."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        faults = dict.fromkeys(_describe(fault) for fault in error.errors())
        raise ConfigError("\n  ".join([f"{source}: {_count(len(faults))}", *faults])) from None


def parse_override(text: str) -> Tree:
    """`a.b=1` as the tree `{"a": {"b": 1}}`."""
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
        raise ConfigError(f"{path}: should hold `section:` lines with keys below, not {_shorten(tree)}")
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


def _count(faults: int) -> str:
    return "one fault" if faults == 1 else f"{faults} faults"


def _describe(fault: Any) -> str:
    """One line for one pydantic fault: key path, what is wrong, what was found."""
    path, section = _key_path(fault["loc"])
    match fault["type"]:
        case "extra_forbidden":
            return f"{path}: no such key{_nearest(path, section)}"
        case "missing":
            return f"{path}: required, but not set"
        case "value_error":
            found = "" if isinstance(fault["input"], (dict, BaseModel)) else f", found {_shorten(fault['input'])}"
            return f"{path}: {fault['ctx']['error']}{found}"
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{path}: {message}, found {_shorten(fault['input'])}"


def _key_path(location: Iterable[int | str]) -> tuple[str, type[BaseModel]]:
    """The dotted key and the section it stands in, without pydantic's names of union members."""
    section: type[BaseModel] = Config
    parts: list[str] = []
    for part in location:
        if isinstance(part, int):
            parts.append(str(part))
        elif part in section.model_fields:
            parts.append(part)
            section = _section_of(section, part) or section
        elif not parts or _section_of_path(parts) is not None:
            parts.append(part)
    return ".".join(parts) or "the file", section


def _section_of(section: type[BaseModel], key: str) -> type[BaseModel] | None:
    annotation = section.model_fields[key].annotation
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _section_of_path(parts: Sequence[str]) -> type[BaseModel] | None:
    section: type[BaseModel] | None = Config
    for part in parts:
        if section is None or part not in section.model_fields:
            return None
        section = _section_of(section, part)
    return section


def _nearest(path: str, section: type[BaseModel]) -> str:
    """A hint at the key that was probably meant: in this section, else anywhere."""
    prefix, _, key = path.rpartition(".")
    here = difflib.get_close_matches(key, section.model_fields, n=1, cutoff=0.6)
    if here:
        return f"; nearest: {prefix}.{here[0]}" if prefix else f"; nearest: {here[0]}"
    everywhere = {name.rpartition(".")[2]: name for name in reversed(_all_keys(Config))}
    match = difflib.get_close_matches(key, everywhere, n=1, cutoff=0.6)
    if match:
        return f"; nearest: {everywhere[match[0]]}"
    return f"; there are {', '.join(section.model_fields)}"


def _all_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for key in section.model_fields:
        keys.append(prefix + key)
        below = _section_of(section, key)
        keys += _all_keys(below, f"{prefix}{key}.") if below else []
    return keys


def _shorten(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
