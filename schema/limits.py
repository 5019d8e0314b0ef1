"""What a document may ask for. Checked before GraphQL's own rules, so that a document made to hurt is refused early.

Each fragment is measured once, however often it is spread: a chain of fragments that each spread the next one twice
would otherwise cost twice as much with each link.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_list_type,
    parse,
    specified_rules,
    validate,
)
from strawberry.extensions import SchemaExtension
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from resolvers.paging import DEFAULT_SIZE
from schema.errors import RequestError

MAX_TOKENS = 2000
"""Of one document. Checked while it is parsed."""
MAX_DEPTH = 12
"""Levels of fields (GraphQL Golden Path, draft of 2026). Introspection is bounded by GraphQL's own rule."""
MAX_ALIASES = 30
"""Of one operation. Each `__schema` and `__type` counts as ten, and what is in it ten times."""
MAX_REPEATS = 20
"""Fields that are merged into one in the answer, as they stand in several fragments: GraphQL's rule that compares them
takes quadratic time."""
MAX_OPERATIONS = 20
MAX_ERRORS = 20
"""Told of one document."""
MAX_PAGES_DEEP = 2
"""Paged lists within paged lists: the deliveries of each webhook, but not the deliveries of each of their events."""
MAX_OBJECTS = 5000
"""That an answer could hold, by the sizes of the pages that are asked for."""

ASSUMED_SIZE = 10
"""Of a list whose size is not asked for."""
ASSUMED_SIZES = {"results": 1000, "buckets": 24}
"""Of those of which more is known: what publishEvents answers, and the slices of statistics."""
_ENOUGH = 1_000_000
"""Where counting stops: numbers that double at each fragment would get very long."""
_MAX_NESTING = 60
_SIZES = ("first", "last", "count")
"""The arguments that say how long a list is."""
_RULES = (*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule)
_WITH_FIELDS = (GraphQLObjectType, GraphQLInterfaceType)
_CACHED_DOCUMENTS = 256
_CACHED_CHARACTERS = 10_000
"""Longer documents are read afresh each time, so that the caches hold at most some megabytes."""


@dataclass(slots=True)
class Measure:
    """How large a selection is."""

    depth: int = 0
    pages_deep: int = 0
    aliases: int = 0
    objects: int = 0
    names: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of each name in the answer: how many fields are merged into it, and the like of the worst name below it."""

    def add(self, other: "Measure") -> None:
        """Takes in what is selected beside it."""
        self.depth = max(self.depth, other.depth)
        self.pages_deep = max(self.pages_deep, other.pages_deep)
        self.aliases = min(self.aliases + other.aliases, _ENOUGH)
        self.objects = min(self.objects + other.objects, _ENOUGH)
        for name, (fields, below) in other.names.items():
            known_fields, known_below = self.names.get(name, (0, 0))
            self.names[name] = min(known_fields + fields, _ENOUGH), min(known_below + below, _ENOUGH)

    @property
    def repeats(self) -> int:
        """How many fields are merged into the worst name."""
        return max((max(counts) for counts in self.names.values()), default=0)


class TooNested(Exception):
    """Deeper than any sensible document, fragments included; measuring stops so that the stack does not run out."""


class Scale:
    """Measures the operations of one document under one set of variables."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self._schema = schema
        self._fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self._variables = variables
        self._measured: dict[str, Measure] = {}
        self._open: set[str] = set()
        self._level = 0
        self.sizes_vary = False
        """Whether a page's size is a variable."""

    def operation(self, node: OperationDefinitionNode) -> Measure:
        """Raises TooNested."""
        return self._selected(node.selection_set, self._schema.get_root_type(node.operation))

    def _selected(self, selection_set: SelectionSetNode, parent: GraphQLNamedType | None) -> Measure:
        """What is selected of one type. What the schema does not know is left to GraphQL's own rules."""
        self._level += 1
        if self._level > _MAX_NESTING:
            raise TooNested
        total = Measure()
        for selection in selection_set.selections:
            match selection:
                case FieldNode():
                    total.add(self._field(selection, parent))
                case InlineFragmentNode():
                    condition = selection.type_condition
                    inner = self._schema.get_type(condition.name.value) if condition else parent
                    total.add(self._selected(selection.selection_set, inner))
                case FragmentSpreadNode():
                    total.add(self._fragment(selection.name.value))
        self._level -= 1
        return total

    def _fragment(self, name: str) -> Measure:
        if name not in self._measured:
            fragment = self._fragments.get(name)
            if fragment is None or name in self._open:
                return Measure()
            self._open.add(name)
            parent = self._schema.get_type(fragment.type_condition.name.value)
            self._measured[name] = self._selected(fragment.selection_set, parent)
        return self._measured[name]

    def _field(self, node: FieldNode, parent: GraphQLNamedType | None) -> Measure:
        known = parent.fields.get(node.name.value) if isinstance(parent, _WITH_FIELDS) else None
        named = get_named_type(known.type) if known else None
        inner = self._selected(node.selection_set, named) if node.selection_set else Measure()
        shown = (node.alias or node.name).value
        measure = Measure(aliases=inner.aliases + bool(node.alias), names={shown: (1, inner.repeats)})
        if node.name.value.startswith("__"):
            measure.aliases = 10 * (1 + inner.aliases) if node.selection_set else measure.aliases
            return measure
        paged, size = _is_connection(named), 1
        if paged:
            size = self._size(node, DEFAULT_SIZE)
        elif known and is_list_type(get_nullable_type(known.type)) and not _is_connection(parent):
            size = self._size(node, ASSUMED_SIZES.get(node.name.value, ASSUMED_SIZE))
        measure.depth = 1 + inner.depth
        measure.pages_deep = inner.pages_deep + paged
        measure.objects = min(size * ((node.selection_set is not None) + inner.objects), _ENOUGH)
        return measure

    def _size(self, node: FieldNode, assumed: int) -> int:
        for argument in node.arguments or ():
            if argument.name.value not in _SIZES:
                continue
            value: Any = None
            if isinstance(argument.value, IntValueNode):
                value = int(argument.value.value)
            elif isinstance(argument.value, VariableNode):
                self.sizes_vary = True
                value = self._variables.get(argument.value.name.value)
            if isinstance(value, int):
                return max(value, 0)
        return assumed


def _is_connection(type_: GraphQLNamedType | None) -> bool:
    return type_ is not None and type_.name.endswith("Connection")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in a document."""

    errors: tuple[GraphQLError, ...]
    operations: int
    sizes_vary: bool = False
    """Whether its size must be judged again with each request's variables."""


def judge(schema: GraphQLSchema, document: DocumentNode) -> Verdict:
    """The limits, and, within them, GraphQL's own rules."""
    operations = sum(isinstance(definition, OperationDefinitionNode) for definition in document.definitions)
    if operations > MAX_OPERATIONS:
        message = f"the document holds {operations} operations where at most {MAX_OPERATIONS} are allowed"
        return Verdict((RequestError(message, "QUERY_TOO_LARGE"),), operations)
    errors, sizes_vary = _beyond_limits(schema, document, {})
    return Verdict(tuple(errors or validate(schema, document, _RULES, MAX_ERRORS)), operations, sizes_vary)


def _beyond_limits(
    schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]
) -> tuple[list[GraphQLError], bool]:
    errors: list[GraphQLError] = []
    sizes_vary = False
    for operation in document.definitions:
        if not isinstance(operation, OperationDefinitionNode):
            continue
        scale = Scale(schema, document, _defaults(operation) | dict(variables))
        try:
            measure = scale.operation(operation)
        except TooNested:
            return [_refusal(operation, f"is nested more than {_MAX_NESTING} levels deep, fragments included")], False
        sizes_vary |= scale.sizes_vary
        for is_, most, what in (
            (measure.depth, MAX_DEPTH, "levels of fields"),
            (measure.pages_deep, MAX_PAGES_DEEP, "paged lists within each other"),
            (measure.aliases, MAX_ALIASES, "aliases (introspection counts tenfold)"),
            (measure.repeats, MAX_REPEATS, "fields merged into one"),
            (measure.objects, MAX_OBJECTS, "objects in the answer; ask for smaller pages"),
        ):
            if is_ > most:
                shown = is_ if is_ < _ENOUGH else f"over {_ENOUGH}"
                errors.append(_refusal(operation, f"asks for {shown} where at most {most} are allowed: {what}"))
    return errors, sizes_vary


def _refusal(operation: OperationDefinitionNode, reason: str) -> GraphQLError:
    return RequestError(f"the {operation.operation.value} {reason}", "QUERY_TOO_LARGE", operation)


def _defaults(operation: OperationDefinitionNode) -> dict[str, Any]:
    return {
        definition.variable.name.value: int(definition.default_value.value)
        for definition in operation.variable_definitions or ()
        if isinstance(definition.default_value, IntValueNode)
    }


def read(text: str) -> DocumentNode:
    """Raises GraphQLSyntaxError."""
    return parse(text, max_tokens=MAX_TOKENS)


read_once = lru_cache(maxsize=_CACHED_DOCUMENTS)(read)


@lru_cache(maxsize=_CACHED_DOCUMENTS)
def judge_once(schema: GraphQLSchema, text: str) -> Verdict:
    """The verdict on a document that was read before. Keyed by its text: comparing syntax trees costs more."""
    return judge(schema, read_once(text))


class Documents(SchemaExtension):
    """Reads, judges and remembers documents."""

    def on_parse(self) -> Iterator[None]:
        execution = self.execution_context
        execution.parse_options["max_tokens"] = MAX_TOKENS
        text = execution.query
        if text is not None and execution.graphql_document is None:
            # What cannot be read is left to Strawberry, which reads it again and answers with the error.
            with suppress(GraphQLError):
                execution.graphql_document = read_once(text) if len(text) <= _CACHED_CHARACTERS else read(text)
        yield

    def on_validate(self) -> Iterator[None]:
        execution, schema = self.execution_context, self.execution_context.schema._schema
        text, document = execution.query, execution.graphql_document
        if document is not None:
            cached = text is not None and len(text) <= _CACHED_CHARACTERS
            verdict = judge_once(schema, text) if cached else judge(schema, document)
            errors = list(verdict.errors)
            if not errors and execution._provided_operation_name is None and verdict.operations > 1:
                # Strawberry would run the first; the specification says that it must not be guessed.
                errors = [RequestError("there are several operations: say which in `operationName`", "BAD_REQUEST")]
            if not errors and verdict.sizes_vary:
                errors, _ = _beyond_limits(schema, document, execution.variables or {})
            execution.pre_execution_errors = errors
        yield
