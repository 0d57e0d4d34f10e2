"""Describes pydantic's validation errors to the user: key path, problem, value, and the nearest known key."""

import difflib
import math
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from rexnet.config.schema import Config
from rexnet.config.section import Section, find_subsection, walk_keys

REPLACED = {
    "augmentation.trivialaugment": "removed in 0.2.0; augmentation.randaugment draws several operations",
    "data.cache=ram": "removed in 0.2.0; use disk, with data.cache_folder=/dev/shm/NAME to keep it in memory",
    "optimizer.label_smoothing": "moved to loss.label_smoothing",
    "trainer.histograms": "removed in 0.2.0; log histograms in a callback given to rexnet.train",
    "trainer.model_graph": "removed in 0.2.0; TensorBoard's SummaryWriter.add_graph draws the graph of rexnet.rexnet()",
    "trainer.profile": "removed in 0.2.0; run torch.profiler in a callback given to rexnet.train",
}
"""Keys and values of earlier versions."""


def describe_errors(error: ValidationError) -> str:
    """Returns the number of errors, then one line for each."""
    lines = dict.fromkeys(_describe(details) for details in error.errors())
    number = "one error" if len(lines) == 1 else f"{len(lines)} errors"
    return "\n  ".join([number, *lines])


def shorten(value: Any) -> str:
    """Returns the `repr` of a value, cut after 60 characters."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _describe(details: Any) -> str:
    path, section = _key_path(details["loc"])
    match details["type"]:
        case "extra_forbidden":
            return f"{path}: {REPLACED.get(path) or 'no such key; ' + _suggest(path, section)}"
        case "literal_error" if (setting := f"{path}={details['input']}") in REPLACED:
            return f"{path}: {REPLACED[setting]}"
        case "missing":
            return f"{path}: required, but not set"
        case "value_error":
            found = "" if isinstance(details["input"], (dict, BaseModel)) else f", found {shorten(details['input'])}"
            return f"{path}: {details['ctx']['error']}{found}"
    message = details["msg"][0].lower() + details["msg"][1:]
    return f"{path}: {message}, found {shorten(details['input'])}"


def _key_path(location: Iterable[int | str]) -> tuple[str, type[Section]]:
    """Returns the dotted key and its section; pydantic's names of union members are left out."""
    parts: list[str] = []
    section: type[Section] = Config
    below: type[Section] | None = Config
    for part in location:
        if isinstance(part, int):
            parts.append(str(part))
        elif below is not None:
            parts.append(part)
            section, below = below, find_subsection(below, part)
    return ".".join(parts) or "the file", section


def _suggest(path: str, section: type[Section]) -> str:
    """Names the key that was probably meant, in this section or elsewhere, or else all keys of this section."""
    prefix, dot, key = path.rpartition(".")
    nearest = difflib.get_close_matches(key, section.model_fields, n=1)
    if nearest:
        return f"nearest: {prefix}{dot}{nearest[0]}"
    elsewhere = {name.rpartition(".")[2]: name for name in reversed([name for name, _ in walk_keys(Config)])}
    nearest = difflib.get_close_matches(key, elsewhere, n=1)
    return f"nearest: {elsewhere[nearest[0]]}" if nearest else f"available: {', '.join(section.model_fields)}"
