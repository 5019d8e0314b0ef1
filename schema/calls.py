"""Calls resolvers. How each is to be called is worked out once, where Strawberry works it out with every call.

That is: which of a resolver's parameters are given what, how its arguments become Python's, which scopes it requires,
and which of its refusals become members of its union. What is not known here is left to Strawberry.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLField,
    GraphQLInputType,
    GraphQLResolveInfo,
    GraphQLSchema,
    get_named_type,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
    is_union_type,
)
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.arguments import StrawberryArgument, convert_argument
from strawberry.types.field import StrawberryField

from schema.inputs import MADE_OF_SCALARS
from schema.scopes import RequiresScopes

Arguments = dict[str, Any]
_Convert = Callable[[Any, Any], Any]
"""Of a value, and Strawberry's Info."""


@dataclass(frozen=True)
class Call:
    """How a field is resolved."""

    of: Callable[[Any, GraphQLResolveInfo[Any], Arguments], Any]
    """Of an object, with `info` and arguments as GraphQL has read them: the resolver's answer."""
    is_async: bool | None
    """Whether the answer is to be awaited; None: one has to see."""


def call_of(schema: GraphQLSchema, definition: GraphQLField) -> Call:
    """How to resolve a field."""
    field = strawberry_of(definition)
    resolver = field.base_resolver if isinstance(field, StrawberryField) else None
    if (
        resolver is None
        or field.is_subscription  # its resolver made the stream; of an event there is nothing to ask
        or resolver.parent_parameter
        or resolver.root_parameter
        or not all(type(extension) is RequiresScopes for extension in field.extensions)
    ):
        resolve: Any = definition.resolve
        return Call(lambda source, info, arguments: resolve(source, info, **arguments), is_async=None)
    function: Any = resolver.wrapped_func
    info_class = schema._strawberry_schema.config.info_class  # type: ignore[attr-defined]
    required = [scope for extension in field.extensions for scope in extension.scopes]
    converted = [
        (name, argument.python_name, _conversion(schema, name, argument, definition.args[name]))
        for argument in field.arguments
        for name in [schema._strawberry_schema.config.name_converter.from_argument(argument)]  # type: ignore[attr-defined]
    ]
    wants_info = resolver.info_parameter.name if resolver.info_parameter else None
    handlers = _handlers(schema, definition)
    wants_self = resolver.self_parameter is not None

    def begun(source: Any, info: Any, arguments: Arguments) -> Any:
        named = {python: convert(arguments[name], info) for name, python, convert in converted if name in arguments}
        if required:
            info.context.caller.require(*required)
        if wants_info is not None:
            named[wants_info] = info
        return function(source, **named) if wants_self else function(**named)

    def refused(error: Exception, info: Any) -> Any:
        for handler in handlers:
            if isinstance(error, handler.exception_type):
                return handler.handle(error, field=field, info=info)
        raise error

    async def awaited(source: Any, raw_info: GraphQLResolveInfo[Any], arguments: Arguments) -> Any:
        info = info_class(_raw_info=raw_info, _field=field)
        try:
            return await begun(source, info, arguments)
        except Exception as error:
            return refused(error, info)

    def called(source: Any, raw_info: GraphQLResolveInfo[Any], arguments: Arguments) -> Any:
        info = info_class(_raw_info=raw_info, _field=field)
        try:
            return begun(source, info, arguments)
        except Exception as error:
            return refused(error, info)

    return Call(awaited, is_async=True) if field.is_async else Call(called, is_async=None)


def strawberry_of(made: Any) -> Any:
    """What Strawberry made a part of the schema of; None for GraphQL's own."""
    return made.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)


def _handlers(schema: GraphQLSchema, definition: GraphQLField) -> list[Any]:
    """Those that make members of the field's union."""
    type_ = get_named_type(definition.type)
    members = {strawberry_of(member).origin for member in type_.types} if is_union_type(type_) else set()
    handlers = schema._strawberry_schema.exception_handlers  # type: ignore[attr-defined]
    return [handler for handler in handlers if handler.error_type in members]


def _conversion(
    schema: GraphQLSchema, name: str, argument: StrawberryArgument, definition: GraphQLArgument
) -> _Convert:
    quick = None if argument.is_maybe else _quick_conversion(definition.type)
    if quick is not None:
        return quick
    registry, config = schema._strawberry_schema.schema_converter.scalar_registry, schema._strawberry_schema.config  # type: ignore[attr-defined]
    type_ = argument.type
    return lambda value, info: convert_argument(value, type_, registry, config, info, path=(name,))


def _quick_conversion(type_: GraphQLInputType) -> _Convert | None:
    """None for what Strawberry is to convert."""
    inner: Any = get_nullable_type(type_)
    if is_leaf_type(inner):
        return lambda value, info: value
    if is_list_type(inner):
        item = _quick_conversion(inner.of_type)
        return None if item is None else _listed(item)
    made = MADE_OF_SCALARS.get(strawberry_of(inner).origin)
    return None if made is None else lambda value, info: None if value is None else made(value)


def _listed(item: _Convert) -> _Convert:
    return lambda value, info: None if value is None else [item(each, info) for each in value]
