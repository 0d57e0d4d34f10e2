"""How two configurations differ."""

from typing import Any

from rexnet.config.schema import Config

Changes = dict[str, tuple[Any, Any]]
"""By dotted key, the value of before and that of now; None where there is none."""


def find_changes(old: Config, new: Config) -> Changes:
    """Every key that differs, with both values."""
    before, after = flatten(old), flatten(new)
    keys = [*before, *(key for key in after if key not in before)]
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def flatten(config: Config) -> dict[str, Any]:
    """Every key of a configuration, with dots between its sections, and its value as JSON knows it."""
    return _flatten(config.model_dump(mode="json"), "")


def _flatten(tree: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
