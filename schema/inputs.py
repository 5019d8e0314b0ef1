"""Left out is not null: reading inputs in which the two differ."""

from typing import Any

import strawberry

from resolvers.errors import FieldErrorCode, FieldProblem, ValidationFailed
from resolvers.unset import UNSET


def kept(given: strawberry.Some[Any] | None) -> Any:
    """What was given, null included; UNSET for what was left out."""
    return UNSET if given is None else given.value


def required(**given: strawberry.Some[Any] | None) -> None:
    """Raises ValidationFailed for what was given as null and cannot be: leaving it out is how it stays."""
    nulls = [name for name, value in given.items() if value is not None and value.value is None]
    if nulls:
        message = "cannot be null; leave it out to keep what stands"
        raise ValidationFailed(FieldProblem((_shown(name),), FieldErrorCode.REQUIRED, message) for name in nulls)


def _shown(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
