"""What an operation selects, worked out once: a tree of functions, one for each selected field.

graphql-core asks of every value anew what its type is, which of its fields are selected, and what may be awaited. A
plan has asked before, and then answers as graphql-core's executor does: what is selected, how values are coerced, and
where errors are is still found by graphql-core's own functions.

Plans know what Strawberry's schemas are like: attributes of objects are values and nothing to wait for, lists are
there at once, and a class is one type. Whatever is beyond that is Unplanned, and left to graphql-core.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from types import CoroutineType
from typing import Any

from graphql import (
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLAbstractType,
    GraphQLError,
    GraphQLField,
    GraphQLLeafType,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    get_argument_values,
    is_abstract_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
    located_error,
)
from graphql.execution.collect_fields import FieldDetails, FragmentDetails, collect_fields, collect_subfields
from graphql.execution.executor import CollectedErrors, Executor, invalid_return_type_error
from graphql.execution.values import VariableValues
from graphql.pyutils import Path, Undefined, gather_with_cancel, is_iterable
from graphql.type.definition import GraphQLResolveInfoHelpers
from strawberry.execution.is_awaitable import optimized_is_awaitable
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types.field import StrawberryField

from schema.calls import Arguments, Call, call_of, strawberry_of

MAX_FIELDS = 1000
"""Of one plan, so that the plans that are kept take some megabytes at most."""

Selection = Callable[["Run", Any, Path | None], Any]
"""Answers with what is selected of an object: a dict, or a coroutine that makes it."""
Completion = Callable[["Run", Any, Path], Any]
"""Answers with a resolved value as it is told, or with a coroutine that does. Raises what is wrong with it."""


class Unplanned(Exception):
    """The operation has something that plans do not know."""


class Plan:
    """Of one operation, with its conditions (@skip, @include) answered in one way."""

    def __init__(
        self,
        schema: GraphQLSchema,
        operation: OperationDefinitionNode,
        fragments: dict[str, FragmentDetails],
        variables: VariableValues,
    ) -> None:
        """`variables`: those of any run in which the conditions are answered in this way. Raises Unplanned."""
        self._schema = schema
        self._operation = operation
        self._fragments = fragments
        self._left = MAX_FIELDS
        root = schema.get_root_type(operation.operation)
        if root is None or operation.directives:
            raise Unplanned
        found = collect_fields(schema, fragments, variables, root, operation)
        if operation.operation is OperationType.MUTATION and len(found.grouped_field_set) > 1:
            self.select = self._serially(self._steps(root, found.grouped_field_set, variables))
        else:
            self.select = self._together(self._steps(root, found.grouped_field_set, variables))

    def _steps(
        self, parent: GraphQLObjectType, groups: Mapping[str, list[FieldDetails]], variables: VariableValues
    ) -> list[tuple[str, Selection]]:
        return [(key, self._step(parent, key, group, variables)) for key, group in groups.items()]

    def _together(self, steps: Sequence[tuple[str, Selection]]) -> Selection:
        """Fields that wait do so at the same time."""

        def select(run: Run, source: Any, path: Path | None) -> Any:
            told: dict[str, Any] = {}
            waiting: list[str] = []
            try:
                for key, step in steps:
                    told[key] = value = step(run, source, path)
                    if type(value) is CoroutineType:
                        waiting.append(key)
            except Exception:
                _let_end([told[key] for key in waiting])
                raise
            return _when_there(told, waiting) if waiting else told

        return select

    def _serially(self, steps: Sequence[tuple[str, Selection]]) -> Selection:
        """Each field waits for the one before it: the fields of a mutation."""

        async def select(run: Run, source: Any, path: Path | None) -> Any:
            told: dict[str, Any] = {}
            for key, step in steps:
                value = step(run, source, path)
                told[key] = await value if type(value) is CoroutineType else value
            return told

        return select

    # ── a field ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _step(
        self, parent: GraphQLObjectType, key: str, group: list[FieldDetails], variables: VariableValues
    ) -> Selection:
        self._left -= 1
        name = group[0].node.name.value
        definition = self._schema.get_field(parent, name)
        if definition is None or self._left < 0:
            raise Unplanned
        if any(details.defer_usage or details.fragment_variable_values for details in group):
            raise Unplanned
        if name == "__typename":
            return lambda run, source, path: parent.name
        field = _Field(parent, key, group, definition)
        leaf = _leaf_of(definition.type)
        read = field.attribute
        if read is not None and leaf is not None:
            return _leaf_read(field, read, leaf)
        completed = self._completion(definition.type, field, variables)
        if read is not None:
            return _object_read(field, read, completed)
        return _resolved(field, call_of(self._schema, definition), completed)

    # ── a value ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _completion(self, type_: GraphQLOutputType, field: "_Field", variables: VariableValues) -> Completion:
        if is_non_null_type(type_):
            return _never_null(self._completion(type_.of_type, field, variables), field)
        if is_list_type(type_):
            return _listed(self._completion(type_.of_type, field, variables), field, type_.of_type)
        if is_leaf_type(type_):
            return _leaf(type_)
        if is_abstract_type(type_):
            return self._abstract(type_, field, variables)
        if is_object_type(type_):
            return self._object(type_, field, variables)
        raise Unplanned

    def _object(self, type_: GraphQLObjectType, field: "_Field", variables: VariableValues) -> Completion:
        groups = collect_subfields(
            self._schema, self._fragments, variables, self._operation, type_, field.group
        ).grouped_field_set
        select = self._together(self._steps(type_, groups, variables))
        is_of_type = _is_of_type(type_)
        if is_of_type is None:
            return lambda run, value, path: None if value is None else select(run, value, path)
        fitting: set[type] = set()

        def complete(run: Run, value: Any, path: Path) -> Any:
            if value is None:
                return None
            if type(value) not in fitting:
                if not is_of_type(value, run.info(field, path)):
                    raise invalid_return_type_error(type_, value, field.group)
                fitting.add(type(value))
            return select(run, value, path)

        return complete

    def _abstract(self, type_: GraphQLAbstractType, field: "_Field", variables: VariableValues) -> Completion:
        resolve_type = type_.resolve_type
        if resolve_type is None:
            raise Unplanned
        possible = {each.name: self._object(each, field, variables) for each in self._schema.get_possible_types(type_)}
        known: dict[type, Completion] = {}

        def complete(run: Run, value: Any, path: Path) -> Any:
            if value is None:
                return None
            completion = known.get(type(value))
            if completion is None:
                info = run.info(field, path)
                name = resolve_type(value, info, type_)
                found = Executor.ensure_valid_runtime_type(run, name, type_, field.group, info, value)  # type: ignore[arg-type]
                completion = known[type(value)] = possible[found.name]
            return completion(run, value, path)

        return complete


class _Field:
    """One selected field: what every run of it needs."""

    def __init__(
        self, parent: GraphQLObjectType, key: str, group: list[FieldDetails], definition: GraphQLField
    ) -> None:
        """Raises Unplanned."""
        self.parent = parent
        self.key = key
        self.group = group
        self.nodes: list[FieldNode] = [details.node for details in group]
        self.definition = definition
        if definition.resolve is None:
            raise Unplanned
        self.required = is_non_null_type(definition.type)
        self.called = f"{parent}.{self.nodes[0].name.value}"

    def at(self, path: Path | None) -> Path:
        """Where it is, under an object."""
        return Path(path, self.key, self.parent.name)

    @property
    def attribute(self) -> Callable[[Any], Any] | None:
        """Reads it off its object, where that is all there is to do."""
        known = strawberry_of(self.definition)
        if isinstance(known, StrawberryField) and known.is_basic_field and known.default_resolver is getattr:
            return attrgetter(known.python_name)
        return None

    def arguments(self) -> Callable[[VariableValues], dict[str, Any]]:
        """Reads its arguments. What that raises is a GraphQLError."""
        node, definition = self.nodes[0], self.definition
        if not definition.args:
            return lambda variables: {}

        def whatever(variables: VariableValues) -> dict[str, Any]:
            return get_argument_values(definition, node, variables)

        values = {argument.name.value: argument.value for argument in node.arguments or ()}
        left_out = [argument for name, argument in definition.args.items() if name not in values]
        if not all(isinstance(value, VariableNode) for value in values.values()):
            return whatever
        if any(is_non_null_type(each.type) or each.default or each.default_value is not Undefined for each in left_out):
            return whatever
        taken = [
            (definition.args[name].out_name or name, value.name.value, is_non_null_type(definition.args[name].type))
            for name, value in values.items()
            if isinstance(value, VariableNode)
        ]

        def of_variables(variables: VariableValues) -> dict[str, Any]:
            coerced, read = variables.coerced, {}
            for out, name, required in taken:
                value = coerced.get(name)
                if value is None and (required or name not in coerced):
                    return whatever(variables)
                read[out] = value
            return read

        return of_variables


def _leaf_read(field: _Field, read: Callable[[Any], Any], type_: GraphQLLeafType) -> Selection:
    complete = _never_null(_leaf(type_), field) if field.required else _leaf(type_)
    as_it_is = str if type_.name in ("String", "ID") else None

    def step(run: Run, source: Any, path: Path | None) -> Any:
        try:
            value = read(source)
            return value if type(value) is as_it_is else complete(run, value, path)  # type: ignore[arg-type]
        except Exception as error:
            return run.failed(error, field, field.at(path), required=field.required)

    return step


def _object_read(field: _Field, read: Callable[[Any], Any], complete: Completion) -> Selection:
    def step(run: Run, source: Any, path: Path | None) -> Any:
        here = field.at(path)
        try:
            completed = complete(run, read(source), here)
        except Exception as error:
            return run.failed(error, field, here, required=field.required)
        return run.guarded(completed, field, here) if type(completed) is CoroutineType else completed

    return step


def _resolved(field: _Field, call: Call, complete: Completion) -> Selection:
    arguments = field.arguments()

    async def awaited(run: Run, value: Any, here: Path) -> Any:
        try:
            completed = complete(run, _not_an_error(await value), here)
            return await completed if type(completed) is CoroutineType else completed
        except Exception as error:
            return run.failed(error, field, here, required=field.required)

    async def called(run: Run, source: Any, info: GraphQLResolveInfo[Any], given: Arguments, here: Path) -> Any:
        """Makes the coroutine when there is somebody to await it: what waits beside an error may never begin."""
        return await awaited(run, call.of(source, info, given), here)

    def step(run: Run, source: Any, path: Path | None) -> Any:
        here = field.at(path)
        try:
            info, given = run.info(field, here), arguments(run.variable_values)
            if call.is_async:
                return called(run, source, info, given, here)
            value = call.of(source, info, given)
            if optimized_is_awaitable(value):
                return awaited(run, value, here)
            completed = complete(run, _not_an_error(value), here)
        except Exception as error:
            return run.failed(error, field, here, required=field.required)
        return run.guarded(completed, field, here) if type(completed) is CoroutineType else completed

    return step


def _never_null(inner: Completion, field: _Field) -> Completion:
    def complete(run: Run, value: Any, path: Path) -> Any:
        completed = inner(run, value, path)
        if completed is None:
            raise TypeError(f"Cannot return null for non-nullable field {field.called}.")
        return completed

    return complete


def _leaf(type_: GraphQLLeafType) -> Completion:
    coerce = type_.coerce_output_value

    def complete(run: Run, value: Any, path: Path) -> Any:
        if value is None:
            return None
        told = coerce(_not_an_error(value))
        return Executor.complete_leaf_value(type_, value) if told is None or told is Undefined else told

    return complete


def _listed(inner: Completion, field: _Field, item_type: GraphQLOutputType) -> Completion:
    required = is_non_null_type(item_type)

    def complete(run: Run, value: Any, path: Path) -> Any:
        if value is None:
            return None
        if not is_iterable(value):
            raise GraphQLError(f"Expected Iterable, but did not find one for field '{field.called}'.")
        told: list[Any] = []
        waiting: list[int] = []
        for index, item in enumerate(value):
            here = Path(path, index, None)
            try:
                completed = inner(run, item, here)
                if type(completed) is CoroutineType:
                    completed = run.guarded(completed, field, here, required=required)
                    waiting.append(index)
            except Exception as error:
                try:
                    completed = run.failed(error, field, here, required=required)
                except GraphQLError:
                    _let_end([told[each] for each in waiting])
                    raise
            told.append(completed)
        return _when_there(told, waiting) if waiting else told

    return complete


def _leaf_of(type_: GraphQLOutputType) -> GraphQLLeafType | None:
    inner = type_.of_type if is_non_null_type(type_) else type_
    return inner if is_leaf_type(inner) else None


def _is_of_type(type_: GraphQLObjectType) -> Callable[[Any, GraphQLResolveInfo[Any]], Any] | None:
    """Strawberry's own check, which goes by the class. Raises Unplanned for a type with a check of its own."""
    known = strawberry_of(type_)
    if type_.is_type_of is not None and (known is None or known.is_type_of is not None):
        raise Unplanned
    return type_.is_type_of


def _not_an_error(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


# ── what waits ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def _when_there(told: Any, waiting: Sequence[Any]) -> Any:
    """Puts what was waited for in the place of what waits, in a dict or a list.

    When one fails, the others are not cancelled, and end by themselves: what is cancelled before it began is a
    coroutine that was never awaited, and Python complains of each.
    """
    if len(waiting) == 1:
        told[waiting[0]] = await told[waiting[0]]
    else:
        for place, value in zip(waiting, await asyncio.gather(*[told[each] for each in waiting]), strict=True):
            told[place] = value
    return told


_ending: set["asyncio.Future[Any]"] = set()
"""Kept, as the event loop forgets what nobody waits for."""


def _let_end(coroutines: Sequence[Any]) -> None:
    """What waits beside an error ends by itself; its own errors are not told."""
    awaitable = [each for each in coroutines if optimized_is_awaitable(each)]
    if awaitable:
        ending = asyncio.gather(*awaitable, return_exceptions=True)
        _ending.add(ending)
        ending.add_done_callback(_ending.discard)


async def _gathered(values: Sequence[Any]) -> list[Any]:
    return await gather_with_cancel(*values)


_HELPERS = GraphQLResolveInfoHelpers(gather=_gathered, track=_let_end)


# ── a run ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Run:
    """One execution of a plan, in the place of graphql-core's executor. Not to be run twice."""

    is_awaitable = staticmethod(optimized_is_awaitable)
    abort_signal = None
    async_helpers = _HELPERS

    def __init__(
        self,
        plan: Plan,
        schema: GraphQLSchema,
        operation: OperationDefinitionNode,
        fragment_definitions: dict[str, FragmentDefinitionNode],
        variable_values: VariableValues,
        root_value: Any,
        context_value: Any,
        operation_extensions: dict[str, Any] | None,
    ) -> None:
        self.schema = schema
        self.operation = operation
        self.fragment_definitions = fragment_definitions
        self.variable_values = variable_values
        self.root_value = root_value
        self.context_value = context_value
        self.operation_extensions = operation_extensions
        self._plan = plan
        self._errors = CollectedErrors()

    def execute_operation(self, serially: bool | None = None) -> Any:
        """The ExecutionResult, or a coroutine that makes it."""
        try:
            data = self._plan.select(self, self.root_value, None)
        except GraphQLError as error:
            return self._result_without_data(error)
        return self._result_of(data) if type(data) is CoroutineType else self._result(data)

    def info(self, field: _Field, path: Path) -> GraphQLResolveInfo[Any]:
        """What a resolver may ask about where it is."""
        return StrawberryGraphQLCoreExecutionContext.build_resolve_info(
            self,  # type: ignore[arg-type]
            field.definition,
            field.nodes,
            field.parent,
            path,
        )

    def failed(self, error: Exception, field: _Field, path: Path, *, required: bool) -> Any:
        """Null in the place of a value, and an error beside the data. Raises it on when the value must be there."""
        located = located_error(error, field.nodes, path.as_list())
        if required:
            raise located
        self._errors.add(located, path)
        return None

    async def guarded(self, completed: Any, field: _Field, path: Path, *, required: bool | None = None) -> Any:
        """Waits for a value, and does as `failed` says when it fails."""
        try:
            return await completed
        except Exception as error:
            return self.failed(error, field, path, required=field.required if required is None else required)

    async def _result_of(self, data: Any) -> ExecutionResult:
        try:
            return self._result(await data)
        except GraphQLError as error:
            return self._result_without_data(error)

    def _result_without_data(self, error: GraphQLError) -> ExecutionResult:
        self._errors.add(error, None)
        return self._result(None)

    def _result(self, data: dict[str, Any] | None) -> ExecutionResult:
        return ExecutionResult(data, self._errors.errors or None)
