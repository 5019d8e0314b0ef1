"""Documents that ask for everything, made from the schema itself: a new field is asked for without anybody's doing."""

from collections import defaultdict
from collections.abc import Iterable

from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    build_schema,
    get_named_type,
    is_leaf_type,
    value_from_ast_untyped,
)

from schema.sdl import print_sdl

SCHEMA: GraphQLSchema = build_schema(print_sdl())


def root_fields(operation: str) -> dict[str, GraphQLField]:
    """The fields of Query or Mutation."""
    root = SCHEMA.get_type(operation)
    assert isinstance(root, GraphQLObjectType)
    return dict(root.fields)


def document(operation: str, name: str, arguments: Iterable[str], depth: int = 3) -> str:
    """An operation of one root field, with all that can be selected so many levels deep; arguments as variables."""
    field = root_fields(operation)[name]
    declared = ", ".join(f"${argument}: {field.args[argument].type}" for argument in arguments)
    passed = ", ".join(f"{argument}: ${argument}" for argument in arguments)
    head = f"{operation.lower()}({declared})" if declared else operation.lower()
    return f"{head} {{ {name}{f'({passed})' if passed else ''} {selected(get_named_type(field.type), depth)} }}"


def selected(type_: GraphQLNamedType, depth: int) -> str:
    """Everything of a type, objects down to `depth` levels; of lists in pages two items."""
    if isinstance(type_, GraphQLUnionType | GraphQLInterfaceType):
        members = SCHEMA.get_possible_types(type_)
        types: dict[str, set[str]] = defaultdict(set)
        for member in members:
            for name, field in member.fields.items():
                types[name].add(str(field.type))
        # One name that stands for several types must be given others.
        ambiguous = {name for name, found in types.items() if len(found) > 1}
        parts = [f"... on {member.name} {_fields(member, depth, ambiguous)}" for member in members]
        return f"{{ __typename {' '.join(parts)} }}"
    assert isinstance(type_, GraphQLObjectType)
    return _fields(type_, depth, set())


def _fields(type_: GraphQLObjectType, depth: int, ambiguous: set[str]) -> str:
    parts = ["__typename"]
    for name, field in type_.fields.items():
        named = get_named_type(field.type)
        shown = f"{type_.name}_{name}: {name}" if name in ambiguous else name
        shown += "".join(f"({size}: 2)" for size in ("first", "count") if size in field.args)
        if is_leaf_type(named):
            parts.append(shown)
        elif depth > 0:
            parts.append(f"{shown} {selected(named, depth - 1)}")
    return f"{{ {' '.join(parts)} }}"


def required_scopes(field: GraphQLField) -> list[str]:
    """The one list of scopes in a field's @requiresScopes; empty without it."""
    for directive in (field.ast_node and field.ast_node.directives) or ():
        if directive.name.value == "requiresScopes":
            [scopes] = directive.arguments or ()
            [alternative] = value_from_ast_untyped(scopes.value)
            return list(alternative)
    return []
