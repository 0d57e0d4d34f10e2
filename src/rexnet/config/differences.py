"""How two configs differ, and which of their keys belong to the recipe."""

import functools
from typing import Any, get_args

from pydantic import BaseModel

from rexnet.config.schema import Config
from rexnet.config.section import Role

Changes = dict[str, tuple[Any, Any]]
"""Old and new value by dotted key; None for a key that one config lacks."""


def find_changes(old: Config, new: Config) -> Changes:
    """Returns every key that differs, with both values."""
    before, after = flatten(old), flatten(new)
    keys = [*before, *(key for key in after if key not in before)]
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def flatten(config: Config) -> dict[str, Any]:
    """Returns the JSON values of a config by dotted key."""
    return _flatten(config.model_dump(mode="json"), "")


def recipe_of(config: Config) -> dict[str, Any]:
    """Returns the flattened config without its mechanics: equal recipes with equal seeds train the same network."""
    return {key: value for key, value in flatten(config).items() if not has_role(key, Role.MECHANICS)}


def has_role(key: str, role: Role) -> bool:
    """Returns True if a dotted key, or a section that contains it, is marked with `role` in the schema."""
    return any(key == marked or key.startswith(f"{marked}.") for marked in keys_with(role))


@functools.cache
def keys_with(role: Role) -> frozenset[str]:
    """Returns the dotted keys that the schema marks with `role`."""
    return frozenset(_find_marked(Config, role, ""))


def _find_marked(section: type[BaseModel], role: Role, prefix: str) -> list[str]:
    found = []
    for name, field in section.model_fields.items():
        if role in field.metadata:
            found.append(prefix + name)
        for candidate in (field.annotation, *get_args(field.annotation)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                found += _find_marked(candidate, role, f"{prefix}{name}.")
    return found


def _flatten(tree: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
