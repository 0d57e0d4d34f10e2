"""Compares configs key by key and tells recipe from mechanics."""

import functools
from collections.abc import Collection
from typing import Any

from rexnet.config.detection_schema import DetectionConfig
from rexnet.config.schema import Config, RunConfig
from rexnet.config.section import Role, walk_keys

Changes = dict[str, tuple[Any, Any]]
"""Old and new value by dotted key; None for a key that one config lacks."""


def find_changes(old: RunConfig, new: RunConfig) -> Changes:
    """Returns every key that differs, with both values."""
    before, after = flatten(old), flatten(new)
    return {key: (before.get(key), after.get(key)) for key in before | after if before.get(key) != after.get(key)}


def flatten(config: RunConfig) -> dict[str, Any]:
    """Returns the JSON values of a config by dotted key."""
    return _flatten(config.model_dump(mode="json"), "")


def recipe_of(config: RunConfig) -> dict[str, Any]:
    """Returns the flattened config without its mechanics: equal recipes with equal seeds train the same network."""
    return {key: value for key, value in flatten(config).items() if not has_role(key, Role.MECHANICS)}


def has_role(key: str, role: Role) -> bool:
    """Returns True if the schema marks a dotted key, or a section that contains it, with `role`."""
    return is_below(key, keys_with(role))


def is_below(key: str, sections: Collection[str]) -> bool:
    """Returns True if a dotted key is one of `sections` or lies in one."""
    return any(key == section or key.startswith(f"{section}.") for section in sections)


@functools.cache
def keys_with(role: Role) -> frozenset[str]:
    """Returns the dotted keys that the schema marks with `role`."""
    tasks = (Config, DetectionConfig)
    return frozenset(key for task in tasks for key, field in walk_keys(task) if role in field.metadata)


def _flatten(tree: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
