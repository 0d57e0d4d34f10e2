"""The base class of all config sections, and the types and roles of their keys."""

import os
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo


class Role(Enum):
    """The role of a key in a resumed run, marked where the key is declared: `Annotated[int, Role.MECHANICS]`.

    Keys without a role belong to the recipe: they change only if the user allows it.
    """

    MECHANICS = "does not affect the trained weights, so it may change"
    FIXED = "cannot change, because the optimizer state or the meaning of a step would no longer fit"


class Section(BaseModel):
    """Base of all sections: immutable, without unknown keys and without infinite values."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )


def walk_keys(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yields every dotted key below a section, subsections included."""
    for key, field in section.model_fields.items():
        yield prefix + key, field
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from walk_keys(kind, f"{prefix}{key}.")


def _refuse_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number, not true or false")
    return value


def is_text(field: FieldInfo) -> bool:
    """Returns True if the values of a key are paths or text, which the command line takes as they are written."""
    kinds: tuple[Any, ...] = get_args(field.annotation) or (field.annotation,)
    return {getattr(kind, "__origin__", kind) for kind in kinds} <= {str, Path, type(None)}


def expand_home(path: Any) -> Any:
    """Returns a path, given as text or as `Path`, with the user's home folder for a `~` at its beginning."""
    try:
        return type(path)(os.path.expanduser(str(path).encode().decode()))
    except UnicodeEncodeError:
        raise ValueError("should be UTF-8 text; rename the folder, or make a link to it") from None


FilePath = Annotated[Path, AfterValidator(expand_home)]
Probability = Annotated[float, Field(ge=0, le=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, BeforeValidator(_refuse_bool), Field(ge=1)]
Count = Annotated[int, BeforeValidator(_refuse_bool), Field(ge=0)]
