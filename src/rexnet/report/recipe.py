"""What a run was told to do, and how that differs from the recipe that it is built on."""

import itertools
from typing import Any, NamedTuple

from rexnet.config import Config, dump_config
from rexnet.config.differences import find_changes, has_role
from rexnet.config.load import find_base, load_config
from rexnet.config.section import Role
from rexnet.errors import ConfigError
from rexnet.report.record import RunRecord

BASE_ROOT = "data.root=data"  # a base recipe may leave the folder open


class Difference(NamedTuple):
    """One key whose value is not the base recipe's."""

    key: str
    value: Any
    base: Any


def describe_recipe(record: RunRecord) -> dict[str, Any]:
    """The resolved file, the name of the base recipe (None where it is not known), and what differs from it."""
    base = _load_base(record.environment.get("command"))
    differences = []
    if base is not None:
        changes = find_changes(base[1], record.config)
        differences = [
            Difference(key, new, old) for key, (old, new) in changes.items() if not has_role(key, Role.MECHANICS)
        ]
    return {"text": dump_config(record.config), "base": base and base[0], "differences": differences}


def compare_recipes(records: list[RunRecord]) -> list[tuple[str, list[Any]]]:
    """Every key whose value is not the same in all runs, with its value in each."""
    keys: dict[str, None] = {}
    for record in records[1:]:
        keys |= dict.fromkeys(find_changes(records[0].config, record.config))
    keys = {key: None for key in keys if not has_role(key, Role.MECHANICS)}
    return [(key, [_value_of(record.config, key) for record in records]) for key in keys]


def _value_of(config: Config, key: str) -> Any:
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _load_base(command: Any) -> tuple[str, Config] | None:
    """Name and content of the recipe at the bottom of the `base:` chain of the file that a command names."""
    words = [str(word) for word in command] if isinstance(command, list) else []
    named = [after for word, after in itertools.pairwise(words) if word == "--config"]
    named += [word.partition("=")[2] for word in words if word.startswith("--config=")]
    if not named:
        return None
    try:
        path = find_base(named[-1])
        return path.name, load_config(path, [BASE_ROOT])
    except ConfigError:  # the file is not here any more, or no recipe of its own
        return None
