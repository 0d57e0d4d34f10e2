"""The base class of all config sections, and the types and roles of their keys."""

from enum import Enum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]


class Role(Enum):
    """What a key means to a run, marked where the key is declared: `Annotated[int, Role.MECHANICS]`.

    Keys without a role belong to the recipe: a resumed run changes them only on request.
    """

    MECHANICS = "does not change what a step computes, so that a resumed run may change it freely"
    FIXED = "cannot change within a run, since the state of the optimizer or the meaning of a step would not fit"


def _refuse_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number, not true or false")
    return value


PositiveFloat = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, BeforeValidator(_refuse_bool), Field(ge=1)]
Count = Annotated[int, BeforeValidator(_refuse_bool), Field(ge=0)]


class Section(BaseModel):
    """Base of all sections: unknown keys, infinities and later changes are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )
