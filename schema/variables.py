"""Reads the variables of an operation: valid ones by functions made once for their types.

Whatever those stumble over (a value that is missing, of another type, or only to be read in one of GraphQL's more
generous ways) is read anew by graphql-core, whose errors name what is wrong and where.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphql import (
    GraphQLError,
    GraphQLInputType,
    GraphQLSchema,
    OperationDefinitionNode,
    get_variable_values,
    is_input_object_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
)
from graphql.execution.get_variable_signature import GraphQLVariableSignature, get_variable_signature
from graphql.execution.values import VariableValues, VariableValueSource
from graphql.pyutils import Undefined

Read = Callable[[Any], Any]
_AS_IT_IS = {"String": str, "Boolean": bool}


class _Unusual(Exception):
    """For graphql-core to read."""


class Variables:
    """Those that an operation declares."""

    def __init__(self, schema: GraphQLSchema, operation: OperationDefinitionNode) -> None:
        self._schema = schema
        self._declared = operation.variable_definitions or ()
        self._readers: list[tuple[str, GraphQLVariableSignature, Read]] = []
        self._all_are_known = True
        for declared in self._declared:
            signature = get_variable_signature(schema, declared)
            if isinstance(signature, GraphQLError):
                self._all_are_known = False
            else:
                self._readers.append((signature.name, signature, _reader(signature.type, ())))

    def read(self, given: Mapping[str, Any], most_errors: int) -> VariableValues | Sequence[GraphQLError]:
        """Their values; or what is wrong with them."""
        sources: dict[str, VariableValueSource] = {}
        coerced: dict[str, Any] = {}
        try:
            if not self._all_are_known:
                raise _Unusual
            for name, signature, read in self._readers:
                value = given.get(name, Undefined)
                if value is Undefined:
                    if signature.default is not None or is_non_null_type(signature.type):
                        raise _Unusual
                    sources[name] = VariableValueSource(signature)
                else:
                    sources[name] = VariableValueSource(signature, value)
                    coerced[name] = read(value)
        except Exception:
            return get_variable_values(self._schema, self._declared, dict(given), max_errors=most_errors)
        return VariableValues(sources, coerced)


def _reader(type_: GraphQLInputType, around: tuple[str, ...]) -> Read:
    """`around`: the inputs that it is in."""
    if is_non_null_type(type_):
        return _never_null(_reader(type_.of_type, around))
    if is_list_type(type_):
        return _listed(_reader(type_.of_type, around))
    if is_leaf_type(type_):
        return _leaf(type_.coerce_input_value, _AS_IT_IS.get(type_.name))
    if is_input_object_type(type_) and not type_.is_one_of and type_.name not in around:
        return _object(type_, (*around, type_.name))
    return _unusual


def _unusual(value: Any) -> Any:
    raise _Unusual


def _never_null(inner: Read) -> Read:
    def read(value: Any) -> Any:
        if value is None:
            raise _Unusual
        return inner(value)

    return read


def _listed(inner: Read) -> Read:
    def read(value: Any) -> Any:
        if value is None:
            return None
        if type(value) is not list:
            raise _Unusual
        return [inner(item) for item in value]

    return read


def _leaf(coerce: Read, as_it_is: type | None) -> Read:
    def read(value: Any) -> Any:
        if value is None or type(value) is as_it_is:
            return value
        coerced = coerce(value)
        if coerced is Undefined:
            raise _Unusual
        return coerced

    return read


def _object(type_: Any, around: tuple[str, ...]) -> Read:
    fields = [
        (name, field.out_name or name, _reader(field.type, around), _may_be_left_out(field))
        for name, field in type_.fields.items()
    ]
    made = type_.out_type

    def read(value: Any) -> Any:
        if value is None:
            return None
        if type(value) is not dict:
            raise _Unusual
        coerced = {}
        for name, out, read_field, may_be_left_out in fields:
            if name in value:
                coerced[out] = read_field(value[name])
            elif not may_be_left_out:
                raise _Unusual
        if len(coerced) != len(value):
            raise _Unusual
        return made(coerced)

    return read


def _may_be_left_out(field: Any) -> bool:
    """And nothing is put in its place."""
    return field.default is None and field.default_value is Undefined and not is_non_null_type(field.type)
