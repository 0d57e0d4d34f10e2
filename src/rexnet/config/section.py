"""What all sections of a configuration have in common."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]


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
