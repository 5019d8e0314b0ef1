"""Runs operations by plans (schema/plan.py), which are kept with their documents; what has none, graphql-core runs."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from graphql import (
    DirectiveNode,
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    Visitor,
    visit,
)
from graphql.execution import MiddlewareManager
from graphql.execution.collect_fields import FragmentDetails
from graphql.execution.values import VariableValues
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from schema.plan import Plan, Run, Unplanned
from schema.variables import Variables

_KEPT = 128
"""Operations, the latest used. A plan takes some hundred kilobytes at most (plan.MAX_FIELDS)."""
_ANSWERS_KEPT = 8
"""Of an operation's conditions."""


class PlannedExecutor(StrawberryGraphQLCoreExecutionContext):
    """What graphql-core is to execute with, by Strawberry's `execution_context_class`."""

    _known: "_Operation | None" = None

    @classmethod
    def build(  # type: ignore[override]
        cls,
        schema: GraphQLSchema,
        document: DocumentNode,
        root_value: Any = None,
        context_value: Any = None,
        raw_variable_values: dict[str, Any] | None = None,
        operation_name: str | None = None,
        field_resolver: Any = None,
        type_resolver: Any = None,
        subscribe_field_resolver: Any = None,
        max_coercion_errors: int = 50,
        enable_early_execution: bool = False,
        middleware: MiddlewareManager | None = None,
        *others: Any,
        **named: Any,
    ) -> Any:
        """Something to execute, or a list of errors: as graphql-core's."""
        known = None
        if not (middleware and middleware.middlewares):
            known = _operations.find(schema, document, operation_name)
        if known is not None and known.node.operation is not OperationType.SUBSCRIPTION:
            variables = known.variables.read(raw_variable_values or {}, max_coercion_errors)
            if not isinstance(variables, VariableValues):
                return variables
            run = known.run(schema, variables, root_value, context_value, named.get("operation_extensions"))
            if run is not None:
                return run
        built = super().build(
            schema,
            document,
            root_value,
            context_value,
            raw_variable_values,
            operation_name,
            field_resolver,
            type_resolver,
            subscribe_field_resolver,
            max_coercion_errors,
            enable_early_execution,
            middleware,
            *others,
            **named,
        )
        if isinstance(built, cls):
            built._known = known
        return built

    def build_per_event_executor(self, payload: Any) -> Any:
        """For the next event of a stream."""
        run = None
        if self._known is not None:
            extensions = self.operation_extensions
            run = self._known.run(self.schema, self.variable_values, payload, self.context_value, extensions)
        return run or super().build_per_event_executor(payload)


class _Operation:
    """What is known of one operation of a document."""

    def __init__(
        self, schema: GraphQLSchema, node: OperationDefinitionNode, fragments: Mapping[str, FragmentDefinitionNode]
    ) -> None:
        self.node = node
        self.variables = Variables(schema, node)
        self._definitions = dict(fragments)
        self._fragments = {name: FragmentDetails(fragment) for name, fragment in fragments.items()}
        self._conditions = sorted(_conditions([node, *fragments.values()]))
        self._plans: dict[tuple[Any, ...], Plan | None] = {}

    def run(
        self, schema: GraphQLSchema, variables: VariableValues, root: Any, context: Any, extensions: Any
    ) -> Run | None:
        """A run; None for what has no plan."""
        plan = self._plan(schema, variables)
        if plan is None:
            return None
        return Run(plan, schema, self.node, self._definitions, variables, root, context, extensions)

    def _plan(self, schema: GraphQLSchema, variables: VariableValues) -> Plan | None:
        answers = tuple([variables.coerced.get(name) for name in self._conditions])
        try:
            return self._plans[answers]
        except KeyError:
            pass
        if len(self._plans) == _ANSWERS_KEPT:
            self._plans.clear()
        try:
            plan = Plan(schema, self.node, self._fragments, variables)
        except (Unplanned, RecursionError):
            plan = None
        self._plans[answers] = plan
        return plan


class _Operations:
    """Those of the latest documents. A document is known by its identity, and held so that another cannot take it."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, str | None], tuple[DocumentNode, _Operation | None]] = OrderedDict()

    def find(self, schema: GraphQLSchema, document: DocumentNode, name: str | None) -> _Operation | None:
        """None for what graphql-core is to refuse, or to run by itself."""
        key = id(document), name
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
            return found[1]
        operation = _planned(schema, document, name)
        self._known[key] = document, operation
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return operation


_operations = _Operations()
"""Of this process. There is one schema."""


def _planned(schema: GraphQLSchema, document: DocumentNode, name: str | None) -> _Operation | None:
    operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    if name is not None:
        operations = [each for each in operations if each.name and each.name.value == name]
    fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}
    if len(operations) != 1 or any(fragment.variable_definitions for fragment in fragments.values()):
        return None
    return _Operation(schema, operations[0], fragments)


class _Conditions(Visitor):
    """Gathers the variables that decide what is selected."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def enter_directive(self, node: DirectiveNode, *_: Any) -> None:
        values = (argument.value for argument in node.arguments or ())
        self.names |= {value.name.value for value in values if isinstance(value, VariableNode)}


def _conditions(definitions: list[OperationDefinitionNode | FragmentDefinitionNode]) -> set[str]:
    gathered = _Conditions()
    for definition in definitions:
        visit(definition, gathered)
    return gathered.names
