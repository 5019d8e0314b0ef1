"""What a document may ask for. Checked before GraphQL's own rules, so that a document made to hurt is refused early.

Each fragment is measured once, however often it is spread: a chain of fragments that each spread the next one twice
would otherwise cost twice as much with each link.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from graphql import (
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
    parse,
    specified_rules,
    type_from_ast,
    validate,
)
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from resolvers.paging import DEFAULT_SIZE
from schema.errors import RequestError

MAX_CHARACTERS = 65_536
"""Of one document: what is long belongs into variables. Checked before it is read."""
MAX_TOKENS = 2000
"""Of one document. Checked while it is read."""
MAX_COMMENTS = 500
MAX_DEPTH = 12
"""Levels of fields (GraphQL Golden Path, draft of 2026). Introspection is bounded by GraphQL's own rule."""
MAX_ALIASES = 30
"""Of one operation. Each `__schema` and `__type` counts as ten, and what is in it ten times."""
MAX_REPEATS = 20
"""Fields that are merged into one in the answer, as they stand in several fragments: GraphQL's rule that compares them
takes quadratic time."""
MAX_OPERATIONS = 20
MAX_DIRECTIVES = 100
MAX_LITERALS = 250
"""Values that stand in the document itself: each mistake among them has GraphQL print all that is around it."""
MAX_VALUES = 6000
"""In the variables, data of type JSON aside: a thousand events with everything that one can have are five thousand."""
MAX_ERRORS = 10
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
PARSING: Any = {"max_source_length": MAX_CHARACTERS, "max_lexical_tokens": MAX_TOKENS, "max_comments": MAX_COMMENTS}
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
    """Measures one document under one set of variables."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self._schema = schema
        self._fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self._variables = variables
        self._measured: dict[str, Measure] = {}
        self._open: set[str] = set()
        self._level = 0
        self.directives = 0
        self.literals = 0
        self.unknown: list[GraphQLError] = []
        """Fields that the schema does not have, up to one more than are told."""
        self.sizes_vary = False
        """Whether a page's size is a variable."""

    def operation(self, node: OperationDefinitionNode) -> Measure:
        """Raises TooNested."""
        self._level = 0
        self._weigh(node.directives)
        for definition in node.variable_definitions or ():
            self._weigh(definition.directives)
            if definition.default_value is not None:
                self._weigh_value(definition.default_value)
        return self._selected(node.selection_set, self._schema.get_root_type(node.operation))

    def unreached(self) -> Sequence[str]:
        """The fragments that no operation leads to."""
        return [name for name in self._fragments if name not in self._measured]

    def _note_unknown(self, node: FieldNode, parent: GraphQLNamedType) -> None:
        if len(self.unknown) <= MAX_ERRORS:
            message = f"Cannot query field '{node.name.value}' on type '{parent.name}'."
            self.unknown.append(_invalid(message, node))

    def _weigh(self, directives: Iterable[DirectiveNode] | None) -> None:
        for directive in directives or ():
            self.directives += 1
            for argument in directive.arguments or ():
                self._weigh_value(argument.value)

    def _weigh_value(self, value: ValueNode) -> None:
        """The parser has bounded how deeply they are nested."""
        self.literals += 1
        if isinstance(value, ListValueNode):
            for item in value.values:
                self._weigh_value(item)
        elif isinstance(value, ObjectValueNode):
            for part in value.fields:
                self._weigh_value(part.value)

    def _selected(self, selection_set: SelectionSetNode, parent: GraphQLNamedType | None) -> Measure:
        """What is selected of one type. What the schema does not know is left to GraphQL's own rules."""
        self._level += 1
        if self._level > _MAX_NESTING:
            raise TooNested
        total = Measure()
        for selection in selection_set.selections:
            self._weigh(selection.directives)
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
            self._weigh(fragment.directives)
            parent = self._schema.get_type(fragment.type_condition.name.value)
            self._measured[name] = self._selected(fragment.selection_set, parent)
        return self._measured[name]

    def _field(self, node: FieldNode, parent: GraphQLNamedType | None) -> Measure:
        known = parent.fields.get(node.name.value) if isinstance(parent, _WITH_FIELDS) else None
        named = get_named_type(known.type) if known else None
        if parent is not None and known is None and not node.name.value.startswith("__"):
            self._note_unknown(node, parent)
        for argument in node.arguments or ():
            self._weigh_value(argument.value)
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
                value = _int_of(argument.value)
            elif isinstance(argument.value, VariableNode):
                self.sizes_vary = True
                value = self._variables.get(argument.value.name.value)
            if isinstance(value, int):
                return max(value, 0)
        return assumed


def _int_of(node: IntValueNode) -> int:
    """Longer ones Python would not convert; they are no Int either."""
    return int(node.value) if len(node.value) < 20 else _ENOUGH


def _is_connection(type_: GraphQLNamedType | None) -> bool:
    return type_ is not None and type_.name.endswith("Connection")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in a document."""

    errors: tuple[GraphQLError, ...]
    operations: int
    sizes_vary: bool = False
    """Whether its size must be judged again with each request's variables."""
    inputs: tuple[tuple[str, Any], ...] = ()
    """The variables that may hold many values, and their types."""


def judge(schema: GraphQLSchema, document: DocumentNode) -> Verdict:
    """The limits, and, within them, GraphQL's own rules."""
    operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    scale = Scale(schema, document, _defaults(operations))
    errors = list(_disorder(document, len(operations))) or list(_beyond_limits(scale, operations))
    if not errors:
        errors += (_invalid(f"Fragment '{name}' is never used.") for name in scale.unreached()[:MAX_ERRORS])
    if not errors and len(scale.unknown) > MAX_ERRORS:
        errors = scale.unknown  # GraphQL's own rule would look for the likeliest name for each
    errors = errors or validate(schema, document, _RULES, MAX_ERRORS)
    return Verdict(tuple(errors), len(operations), scale.sizes_vary, () if errors else _inputs(schema, operations))


def _disorder(document: DocumentNode, operations: int) -> Iterator[GraphQLError]:
    """What is not measured must not be there: GraphQL's rules look at everything, some of them in quadratic time."""
    if operations > MAX_OPERATIONS:
        message = f"the document holds {operations} operations where at most {MAX_OPERATIONS} are allowed"
        yield RequestError(message, "QUERY_TOO_LARGE")
    fragments = [d.name.value for d in document.definitions if isinstance(d, FragmentDefinitionNode)]
    if len(fragments) > len(set(fragments)):
        yield _invalid("There can be only one fragment of a name.")
    if operations + len(fragments) < len(document.definitions):
        yield _invalid("A document holds operations and fragments, and nothing else.")


def _invalid(message: str, node: FieldNode | None = None) -> GraphQLError:
    return RequestError(message, "GRAPHQL_VALIDATION_FAILED", node)


def _beyond_limits(scale: Scale, operations: Iterable[OperationDefinitionNode]) -> Iterator[GraphQLError]:
    for operation in operations:
        try:
            measure = scale.operation(operation)
        except TooNested:
            yield _refusal(operation, f"is nested more than {_MAX_NESTING} levels deep, fragments included")
            return
        for is_, most, what in (
            (measure.depth, MAX_DEPTH, "levels of fields"),
            (measure.pages_deep, MAX_PAGES_DEEP, "paged lists within each other"),
            (measure.aliases, MAX_ALIASES, "aliases (introspection counts tenfold)"),
            (measure.repeats, MAX_REPEATS, "fields merged into one"),
            (measure.objects, MAX_OBJECTS, "objects in the answer; ask for smaller pages"),
        ):
            if is_ > most:
                shown = is_ if is_ < _ENOUGH else f"over {_ENOUGH}"
                yield _refusal(operation, f"asks for {shown} where at most {most} are allowed: {what}")
    for is_, most, what in (
        (scale.directives, MAX_DIRECTIVES, "directives"),
        (scale.literals, MAX_LITERALS, "values; pass them as variables"),
    ):
        if is_ > most:
            message = f"the document holds {is_} where at most {most} are allowed: {what}"
            yield RequestError(message, "QUERY_TOO_LARGE")


def _refusal(operation: OperationDefinitionNode, reason: str) -> GraphQLError:
    return RequestError(f"the {operation.operation.value} {reason}", "QUERY_TOO_LARGE", operation)


def _defaults(operations: Iterable[OperationDefinitionNode]) -> dict[str, int]:
    """Those that a size may have; the largest, where several operations call a variable the same."""
    found: dict[str, int] = {}
    for operation in operations:
        for definition in operation.variable_definitions or ():
            if isinstance(definition.default_value, IntValueNode):
                name, value = definition.variable.name.value, _int_of(definition.default_value)
                found[name] = max(value, found.get(name, value))
    return found


def _inputs(schema: GraphQLSchema, operations: Iterable[OperationDefinitionNode]) -> tuple[tuple[str, Any], ...]:
    found: list[tuple[str, Any]] = [
        (definition.variable.name.value, type_from_ast(schema, definition.type))
        for operation in operations
        for definition in operation.variable_definitions or ()
    ]
    return tuple((name, type_) for name, type_ in found if not is_leaf_type(get_nullable_type(type_)))


def judge_request(
    schema: GraphQLSchema, document: DocumentNode, verdict: Verdict, variables: Mapping[str, Any]
) -> Sequence[GraphQLError]:
    """What is to be said of a valid document with these variables."""
    left = MAX_VALUES
    for name, type_ in verdict.inputs:
        left -= _values_in(variables.get(name), type_, left)
    if left < 0:
        message = f"the variables hold more than {MAX_VALUES} values: send them in several requests"
        return [RequestError(message, "QUERY_TOO_LARGE")]
    if not verdict.sizes_vary:
        return ()
    operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    return list(_beyond_limits(Scale(schema, document, _defaults(operations) | dict(variables)), operations))


def _values_in(value: Any, type_: Any, most: int) -> int:
    """How many values there are for GraphQL to look at. Stops beyond `most`."""
    count, waiting = 1, [(value, type_)]
    while waiting and count <= most:
        value, type_ = waiting.pop()
        type_ = get_nullable_type(type_)
        if isinstance(value, list) and is_list_type(type_):
            if len(value) > most:
                return most + 1
            count += len(value)
            waiting += [(item, type_.of_type) for item in value]
        elif isinstance(value, dict) and isinstance(type_, GraphQLInputObjectType):
            if len(value) > most:
                return most + 1
            count += len(value)
            waiting += [(value[name], inner) for name, inner in _holding_many(type_) if name in value]
    return count


@cache
def _holding_many(type_: GraphQLInputObjectType) -> tuple[tuple[str, Any], ...]:
    """The fields of an input that may hold more than one value, and their types."""
    return tuple((name, f.type) for name, f in type_.fields.items() if not is_leaf_type(get_nullable_type(f.type)))


@dataclass(slots=True)
class Known:
    """A document that was read before."""

    document: DocumentNode
    verdict: Verdict | None = None


class Library:
    """The latest documents, as they were read and judged. Keyed by their text: comparing syntax trees costs more."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Known] = OrderedDict()
        self.read = 0
        """Documents that were read and not known."""
        self.judged = 0

    def __len__(self) -> int:
        return len(self._known)

    def find(self, text: str) -> Known | None:
        known = self._known.get(text)
        if known is not None:
            self._known.move_to_end(text)
        return known

    def keep(self, text: str, document: DocumentNode) -> Known:
        """Remembers it, unless it is very long."""
        self.read += 1
        known = Known(document)
        if len(text) <= _CACHED_CHARACTERS:
            self._known[text] = known
            if len(self._known) > _CACHED_DOCUMENTS:
                self._known.popitem(last=False)
        return known

    def verdict(self, schema: GraphQLSchema, known: Known) -> Verdict:
        if known.verdict is None:
            self.judged += 1
            known.verdict = judge(schema, known.document)
        return known.verdict


library = Library()
"""Of this process. There is one schema."""


def document_of(text: str) -> DocumentNode:
    """Read once, if it is not very long. Raises GraphQLSyntaxError."""
    known = library.find(text) or library.keep(text, parse(text, **PARSING))
    return known.document
