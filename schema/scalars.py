"""The scalars beside GraphQL's own. They check form alone: what a value means is checked by the resolvers, whose
refusals are typed and name the field; a scalar's refusal fails the whole request."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NewType, TypeAlias

import orjson
import strawberry
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

from models.moment import rfc_3339
from resolvers.validation import as_json

if TYPE_CHECKING:
    JSON: TypeAlias = Any
    Cursor: TypeAlias = str
else:
    JSON = NewType("JSON", object)
    Cursor = NewType("Cursor", str)


def _read_moment(text: Any) -> datetime:
    if not isinstance(text, str):
        raise GraphQLError("DateTime must be a string such as 2026-11-21T08:15:30.250Z")
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise GraphQLError("DateTime must be RFC 3339 with a time zone, such as 2026-11-21T08:15:30.250Z")


def _shown_json(value: Any) -> orjson.Fragment:
    """Written here and not with the whole answer: only so do integers of more than 64 bits pass unharmed."""
    return value if isinstance(value, orjson.Fragment) else orjson.Fragment(as_json(value) or b"null")


def _read_cursor(text: Any) -> str:
    if not isinstance(text, str):
        raise GraphQLError("Cursor must be a string")
    return text


SCALARS: dict[object, ScalarDefinition] = {
    datetime: strawberry.scalar(
        name="DateTime",
        description=(
            "A moment, as RFC 3339 text. Answers are in UTC with milliseconds, such as `2026-11-21T08:15:30.250Z`; "
            "input may have any offset, but must have one."
        ),
        specified_by_url="https://scalars.graphql.org/andimarek/date-time",
        serialize=rfc_3339,
        parse_value=_read_moment,
    ),
    JSON: strawberry.scalar(
        name="JSON",
        description="Any JSON value: object, list, string, number, boolean or null. Pass it as a variable, as it is.",
        specified_by_url="https://datatracker.ietf.org/doc/html/rfc8259",
        serialize=_shown_json,
        parse_value=lambda value: value,
    ),
    Cursor: strawberry.scalar(
        name="Cursor",
        description=(
            "A place in a list. Opaque and URL-safe; take it from `pageInfo` or an edge and hand it back as `after` or "
            "`before` with the same filter and order. It marks a place between two items, not a count, so items that "
            "arrive meanwhile shift nothing."
        ),
        serialize=str,
        parse_value=_read_cursor,
    ),
}
"""For `StrawberryConfig.scalar_map`. Python's `datetime` is DateTime wherever it stands in an annotation."""
