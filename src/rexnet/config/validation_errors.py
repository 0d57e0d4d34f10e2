"""What pydantic finds wrong with a configuration, in words: key path, fault, value, and the key that was meant."""

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from rexnet.config.schema import Config


def describe_faults(error: ValidationError) -> str:
    """How many faults there are, and each on a line of its own."""
    faults = dict.fromkeys(_describe(fault) for fault in error.errors())
    number = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
    return "\n  ".join([number, *faults])


def _describe(fault: Any) -> str:
    """One line for one pydantic fault: key path, what is wrong, what was found."""
    path, section = _key_path(fault["loc"])
    match fault["type"]:
        case "extra_forbidden":
            return f"{path}: no such key{_nearest(path, section)}"
        case "missing":
            return f"{path}: required, but not set"
        case "value_error":
            found = "" if isinstance(fault["input"], (dict, BaseModel)) else f", found {shorten(fault['input'])}"
            return f"{path}: {fault['ctx']['error']}{found}"
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{path}: {message}, found {shorten(fault['input'])}"


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


def shorten(value: Any) -> str:
    """A value as Python writes it, cut where it is long."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
