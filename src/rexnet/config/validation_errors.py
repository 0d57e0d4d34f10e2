"""Describes pydantic's validation errors to the user: key path, problem, value, and the nearest known key."""

import difflib
import functools
import reprlib
from typing import Any

from pydantic import BaseModel, ValidationError

from rexnet.config.section import Section, walk_keys

NAME = "letters, digits, '.', '_' and '-'"
FORMS = {
    "model.name": "rexnet, timm/NAME or one of {mobilenet_v1,mobilenet_v2,resnet50,vgg16}_rex",
    "name": NAME,
    "trainer.run_name": NAME,
}
REMOVED = {"augmentation.trivialaugment", "trainer.histograms", "trainer.model_graph", "trainer.profile"}


def describe_errors(error: ValidationError, schema: type[Section]) -> str:
    """Returns the number of errors in values of a schema, then one line for each."""
    keys = _keys_of(schema)
    lines = dict.fromkeys(_describe(details, keys) for details in error.errors())
    number = "one error" if len(lines) == 1 else f"{len(lines)} errors"
    return "\n  ".join([number, *lines])


@functools.cache
def _keys_of(schema: type[Section]) -> list[str]:
    return [key for key, _ in walk_keys(schema)]


def _describe(details: Any, keys: list[str]) -> str:
    parts: list[str] = []
    sections = {key.rpartition(".")[0] for key in keys}
    for part in details["loc"]:
        if isinstance(part, int) or ".".join(parts) in sections:  # not pydantic's name of a member of a union
            parts.append(str(part))
    path = ".".join(parts) or "the file"
    found = "" if isinstance(details["input"], (dict, BaseModel)) else f", found {reprlib.repr(details['input'])[:60]}"
    match details["type"]:
        case "extra_forbidden":
            problem = (
                "removed in 0.2.0; see the changelog" if path in REMOVED else f"no such key; {_suggest(path, keys)}"
            )
            return f"{path}: {problem}"
        case "missing":
            return f"{path}: required, but not set"
        case "path_type" | "string_type":
            return f"{path}: should be text{'' if details['input'] is None else ', in quotes in a YAML file'}{found}"
        case "string_pattern_mismatch":
            return f"{path}: should be {FORMS[path]}{found}"
        case "tuple_type":
            return f"{path}: should be a list, such as [a, b]{found}"
        case "value_error":
            return f"{path}: {details['ctx']['error']}{found}"
    return f"{path}: {details['msg'][0].lower()}{details['msg'][1:]}{found}"


def _suggest(path: str, keys: list[str]) -> str:
    """Names the key that was probably meant, in the same section or elsewhere, or else all keys of the section."""
    section, _, key = path.rpartition(".")
    siblings = [name for name in keys if name.rpartition(".")[0] == section]
    for names in (siblings, keys):
        name_of = {name.rpartition(".")[2]: name for name in reversed(names)}
        nearest = difflib.get_close_matches(key, name_of, n=1)
        if nearest:
            return f"nearest: {name_of[nearest[0]]}"
    return f"available: {', '.join(siblings)}"
