"""The schema as text: it is the file beside it, it is what was designed, and it says of everything what it is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    build_schema,
    print_ast,
    specified_directives,
)

import schema
from schema.sdl import print_sdl

PRINTED = Path(schema.__file__).with_name("schema.graphql")
TARGET = build_schema((Path(__file__).parent / "target.graphql").read_text())
OURS = build_schema(print_sdl())

ON_PURPOSE = {
    # A key that lacks `admin` loses this field, not the rest of its answer.
    ("Query.apiKeys", "[ApiKey!]! @requiresScopes(scopes: [[admin]])", "[ApiKey!] @requiresScopes(scopes: [[admin]])"),
    # Turning a DISABLED webhook on again may meet the limit.
    (
        "UpdateWebhookResult",
        "Forbidden NotFound RevisionConflict UpdateWebhookPayload ValidationFailed",
        "Forbidden LimitExceeded NotFound RevisionConflict UpdateWebhookPayload ValidationFailed",
    ),
    # Who is limited can see by how much.
    ("Viewer.rateLimit", "nothing", "RateLimit"),
    ("RateLimit", "nothing", "fields"),
    ("RateLimit.perSecond", "nothing", "Int!"),
    ("RateLimit.burst", "nothing", "Int!"),
    ("RateLimit.remaining", "nothing", "Int!"),
    # What leads from one kind of thing to another needs the scope of that other kind.
    ("Webhook.stats", "DeliveryStats", "DeliveryStats @requiresScopes(scopes: [[webhooks:read]])"),
    ("Webhook.deliveries", "DeliveryConnection", "DeliveryConnection @requiresScopes(scopes: [[deliveries:read]])"),
    ("Event.deliveries", "DeliveryConnection", "DeliveryConnection @requiresScopes(scopes: [[deliveries:read]])"),
    ("Delivery.event", "Event", "Event @requiresScopes(scopes: [[events:read]])"),
    ("Delivery.webhook", "Webhook", "Webhook @requiresScopes(scopes: [[webhooks:read]])"),
    ("Replay.webhook", "Webhook", "Webhook @requiresScopes(scopes: [[webhooks:read]])"),
    ("AttemptRequest.body", "String", "String @requiresScopes(scopes: [[events:read]])"),
}
"""Where we differ from the design, as (what, designed, built)."""


def test_the_printed_schema_is_the_file_beside_it() -> None:
    """After a change on purpose: `python -m schema.sdl > schema/schema.graphql`."""
    assert PRINTED.read_text() == print_sdl()


def test_the_schema_is_what_was_designed() -> None:
    designed, built = dict(_facts(TARGET)), dict(_facts(OURS))
    differences = {
        (what, designed.get(what, "nothing"), built.get(what, "nothing"))
        for what in designed.keys() | built.keys()
        if designed.get(what) != built.get(what)
    }
    assert differences == ON_PURPOSE


def test_everything_says_what_it_is() -> None:
    silent = [name for name, thing in _things(OURS) if not (thing.description or "").strip()]
    assert silent == []


def test_descriptions_are_sentences() -> None:
    unfinished = [name for name, thing in _things(OURS) if thing.description[-1] not in ".:`…"]
    assert unfinished == []


def _facts(schema: GraphQLSchema) -> Iterator[tuple[str, str]]:
    """What a client relies on, one by one: kinds, types, arguments, defaults, members, values, directives."""
    for type_ in schema.type_map.values():
        if type_.name.startswith("__") or type_.name in ("String", "Int", "Float", "Boolean", "ID"):
            continue
        match type_:
            case GraphQLUnionType():
                yield type_.name, " ".join(sorted(member.name for member in type_.types))
            case GraphQLEnumType():
                yield type_.name, " ".join(type_.values)
            case GraphQLObjectType() | GraphQLInterfaceType():
                yield type_.name, " ".join(["fields", *(interface.name for interface in type_.interfaces)])
                for name, field in type_.fields.items():
                    yield f"{type_.name}.{name}", " ".join([str(field.type), *_directives(field)])
                    for argument_name, argument in field.args.items():
                        yield f"{type_.name}.{name}({argument_name})", f"{argument.type}{_default(argument)}"
            case GraphQLInputObjectType():
                yield type_.name, "one of" if type_.is_one_of else "input"
                for name, field in type_.fields.items():
                    yield f"{type_.name}.{name}", f"{field.type}{_default(field)}"
            case _:
                yield type_.name, f"scalar {getattr(type_, 'specified_by_url', None)}"


def _directives(field: Any) -> list[str]:
    return [print_ast(node).replace('"', "") for node in field.ast_node.directives or ()]


def _default(field: Any) -> str:
    value = field.ast_node.default_value
    return f" = {print_ast(value)}" if value else ""


def _things(schema: GraphQLSchema) -> Iterator[tuple[str, Any]]:
    """Everything that can have a description and is ours."""
    for directive in schema.directives:
        if directive.name not in {specified.name for specified in specified_directives}:
            yield f"@{directive.name}", directive
    for type_ in schema.type_map.values():
        if not type_.name.startswith("__") and type_.name not in ("String", "Int", "Float", "Boolean", "ID"):
            yield type_.name, type_
            yield from _parts(type_)


def _parts(type_: GraphQLNamedType) -> Iterator[tuple[str, Any]]:
    for name, part in (getattr(type_, "fields", None) or getattr(type_, "values", None) or {}).items():
        yield f"{type_.name}.{name}", part
        for argument_name, argument in getattr(part, "args", {}).items():
            # A mutation's one argument is described by its type.
            if argument_name != "input":
                yield f"{type_.name}.{name}({argument_name})", argument
