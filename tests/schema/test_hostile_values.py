"""Every argument of every root field, with values made to break things: refused or taken, but never a bug of ours.

Made from the schema: each leaf of each argument is filled in turn with each hostile value that its type lets through.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInputType,
    get_nullable_type,
    is_list_type,
    is_non_null_type,
)

from tests.schema.door import Tenant
from tests.schema.everything import document, root_fields

TEXTS = ["", " ", "\0", "a\0b", "\x1b[31m", "é" * 300, "x" * 20_000, "'; DROP TABLE webhook; --", "%_\\", "*", "💩"]
NOWHERE = "7zzzzzzzzzzzzzzzzzzzzzzzzz"
IDS = [*TEXTS[:7], "whk_", "whk_7z", f"whk_8{NOWHERE[1:]}", f"whk_{NOWHERE}", f"WHK_{NOWHERE}", f"org_{NOWHERE}", 17]
CURSORS = [
    *TEXTS[:7],
    "e30",
    "W10",
    "WyJpZCJd",
    "WyJpZCIsbnVsbF0",
    "WyJpZCIsIngiXQ",
    "WyJuYW1lIiwxLDJd",
    "====",
    "MTIz",
]
NUMBERS = [0, -1, 1, 101, 2**31 - 1, -(2**31)]
FRACTIONS = [0, -1.5, 1e308, 1e-308, 0.1]
MOMENTS = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1970-01-01T00:00:00+14:00", "1969-01-01T00:00:00Z"]


def deep(levels: int) -> Any:
    value: Any = None
    for _ in range(levels):
        value = {"deep": value}
    return value


JSONS = [
    True,
    0,
    -1.5,
    2**70,
    {"n": 2**70},
    "",
    "text",
    "17",
    "\0",
    [],
    {},
    [[[]]],
    {"": None},
    {"\0": "\0"},
    {"a": "x" * 300_000},
    deep(200),
]
JSONS += [{"type": "object", "$ref": "https://example.com/"}, {"type": 17}, {"pattern": "("}]
HOSTILE: dict[str, list[Any]] = {
    "String": TEXTS,
    "ID": IDS,
    "Cursor": CURSORS,
    "Int": NUMBERS,
    "Float": FRACTIONS,
    "Boolean": [False],
    "DateTime": MOMENTS,
    "JSON": JSONS,
}
PLAIN: dict[str, Any] = {
    "String": "text",
    "ID": "whk_01jx5s3k9pe8ratq6y2m4c7v0b",
    "Cursor": "WyJpZCJd",
    "Int": 1,
    "Float": 1.0,
    "Boolean": True,
    "DateTime": "2026-11-21T08:00:00Z",
    "JSON": {"a": 1},
}


def plain(type_: GraphQLInputType) -> Any:
    """A value that the type accepts, with everything in it."""
    inner: Any = get_nullable_type(type_)
    if is_list_type(inner):
        return [plain(inner.of_type)]
    if isinstance(inner, GraphQLEnumType):
        return next(iter(inner.values))
    if isinstance(inner, GraphQLInputObjectType):
        fields = list(inner.fields.items())[: 1 if inner.is_one_of else None]
        return {name: plain(field.type) for name, field in fields}
    return PLAIN[inner.name]


def hostile(type_: GraphQLInputType, usual: Any) -> Iterator[Any]:
    """The usual value again and again, each time with one part of it replaced, or left out."""
    inner: Any = get_nullable_type(type_)
    if not is_non_null_type(type_):
        yield None
    if is_list_type(inner):
        yield from ([each] for each in hostile(inner.of_type, usual[0]))
        yield from ([], usual * 2, usual * 101)
    elif isinstance(inner, GraphQLInputObjectType):
        for name in usual:
            field = inner.fields[name]
            yield from (usual | {name: each} for each in hostile(field.type, usual[name]))
            if not is_non_null_type(field.type):
                yield {known: part for known, part in usual.items() if known != name}
    elif not isinstance(inner, GraphQLEnumType):
        yield from HOSTILE[inner.name]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.mark.parametrize(("operation", "name"), [(o, n) for o in ("Query", "Mutation") for n in root_fields(o)])
async def test_no_value_of_an_argument_meets_a_bug(acme: Tenant, operation: str, name: str) -> None:
    token = await acme.door.key(acme.organization, "platform", "*")
    for argument, definition in root_fields(operation)[name].args.items():
        asked = document(operation, name, [argument], depth=0)
        for value in hostile(definition.type, plain(definition.type)):
            answer = await acme.door.ask(asked, token, **{argument: value})
            codes = [error.get("extensions", {}).get("code") for error in answer.get("errors", ())]
            assert not {None, "INTERNAL_SERVER_ERROR"} & set(codes), (argument, value, answer)
