"""Left out is not null: reading inputs in which the two differ."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import strawberry

from resolvers.errors import FieldErrorCode, FieldProblem, ValidationFailed
from resolvers.unset import UNSET

Input = TypeVar("Input")


def kept(given: strawberry.Some[Any] | None) -> Any:
    """What was given, null included; UNSET for what was left out."""
    return UNSET if given is None else given.value


MADE_OF_SCALARS: dict[type, Callable[[Mapping[str, Any]], Any]] = {}
"""Inputs that are made of what GraphQL has read, without a second look at each part; and how."""


def made_of_scalars(input_type: type[Input]) -> type[Input]:
    """For an input whose fields are scalars."""
    definition: Any = input_type.__strawberry_definition__  # type: ignore[attr-defined]
    names = [(field.python_name, _shown(field.python_name)) for field in definition.fields]

    def made(given: Mapping[str, Any]) -> Input:
        return input_type(**{name: given.get(shown) for name, shown in names})

    MADE_OF_SCALARS[input_type] = made
    return input_type


def required(**given: strawberry.Some[Any] | None) -> None:
    """Raises ValidationFailed for what was given as null and cannot be: leaving it out is how it stays."""
    nulls = [name for name, value in given.items() if value is not None and value.value is None]
    if nulls:
        message = "cannot be null; leave it out to keep what stands"
        raise ValidationFailed(FieldProblem((_shown(name),), FieldErrorCode.REQUIRED, message) for name in nulls)


def _shown(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
