"""Pages of a list, by keyset: a cursor names a place between two rows, so rows that arrive meanwhile shift nothing."""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID

import orjson
from tortoise.connection import get_connection
from tortoise.expressions import Q
from tortoise.models import Model
from tortoise.queryset import QuerySet

from models.ids import new_id
from models.moment import from_ms, to_ms
from resolvers.errors import FieldErrorCode, ValidationFailed
from resolvers.validation import is_storable

DEFAULT_SIZE = 20
MAX_SIZE = 100

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Relay's four arguments. Without `first` and `last`: the first 20. Never more than 100."""

    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """By one column, then by id, which makes the order total."""

    column: str = "id"
    descending: bool = True
    alike: str | None = None
    """A column in which all rows of the list agree; it changes nothing but how they are found.

    PostgreSQL likes to walk all rows in the order of their ids until a page is full, and takes seconds when hardly any
    of them belongs to the list. Sorted by this column first, they come from the index of the few.
    """


@dataclass(frozen=True, slots=True)
class Page(Generic[M]):
    """A part of a list, in the list's order."""

    items: Sequence[M] = field(default_factory=list)
    has_next_page: bool = False
    has_previous_page: bool = False
    order: Order = field(default_factory=Order)

    def cursor_of(self, item: M) -> str:
        """The place just behind an item; opaque and URL-safe."""
        value = getattr(item, self.order.column)
        place = [str(item.pk)] if self.order.column == "id" else [_plain(value), str(item.pk)]
        return base64.urlsafe_b64encode(orjson.dumps([self.order.column, *place])).decode().rstrip("=")


async def page(query: QuerySet[M], request: PageRequest, order: Order = Order()) -> Page[M]:
    """One page of a query. Raises ValidationFailed for arguments that make no sense, naming the argument."""
    return _page_of(await _limited(query, request, order), request, order)


async def pages(
    query: QuerySet[M], column: str, keys: Sequence[UUID], request: PageRequest, order: Order = Order()
) -> dict[UUID, Page[M]]:
    """The same page of the rows of each key in a column, latest first, in two statements altogether.

    Each key's page keeps its own limit, and so its own use of an index: they are joined by UNION ALL, which Tortoise
    does not know, for the ids; the rows are then fetched at once.
    """
    if not keys:
        return {}
    any_key = new_id()
    one = _limited(query.filter(having(column, any_key, request, order)), request, order)
    ids = await _ids_of(one, any_key, keys)
    rows = {row.pk: row for row in await query.model.filter(pk__in=[pk for part in ids for pk in part])}
    found: list[list[M]] = [[rows[pk] for pk in part if pk in rows] for part in ids]
    return {key: _page_of(part, request, order) for key, part in zip(keys, found, strict=True)}


def having(column: str, key: UUID, request: PageRequest, order: Order) -> Q:
    """The rows with this key in a column, where the order may say that all are alike in that.

    Then as a range: to sort by what is said to be equal is not to sort to PostgreSQL, and it would walk all rows after
    all. But in a range it cannot jump to a cursor's place, and behind such a place the rows are near.
    """
    as_range = column == order.alike and request.after is None and request.before is None
    told: dict[str, Any] = {f"{column}__gte": key, f"{column}__lte": key} if as_range else {column: key}
    return Q(**told)


def _limited(query: QuerySet[M], request: PageRequest, order: Order) -> QuerySet[M]:
    """The rows of a page, and one more to see whether there is one."""
    if request.after is not None:
        query = query.filter(_beyond(_place(request.after, "after", order), order, order.descending))
    if request.before is not None:
        query = query.filter(_beyond(_place(request.before, "before", order), order, not order.descending))
    sign = "-" if order.descending != (request.last is not None) else ""
    columns = dict.fromkeys(column for column in (order.alike, order.column, "id") if column is not None)
    return query.order_by(*(sign + column for column in columns)).limit(_size_of(request) + 1)


def _page_of(rows: list[M], request: PageRequest, order: Order) -> Page[M]:
    size = _size_of(request)
    more, rows = len(rows) > size, rows[:size]
    if request.last is not None:
        rows.reverse()
        return Page(rows, request.before is not None, more, order)
    return Page(rows, more, request.after is not None, order)


async def _ids_of(query: QuerySet[M], any_key: UUID, keys: Sequence[UUID]) -> list[list[UUID]]:
    """For each key the ids that the query would find with it in the place of `any_key`.

    Tortoise writes the statement for one key alone.
    """
    connection = get_connection("default")
    ids = query.values_list("id")
    ids._choose_db_if_not_chosen()
    ids._make_query()
    sql, parameters = ids.query.get_parameterized_sql()
    stored_key = next(parameter for parameter in parameters if str(parameter) == str(any_key))
    parts: list[str] = []
    values: list[Any] = []
    for i, key in enumerate(keys):
        parts.append(f"SELECT {i} AS part, one.* FROM ({_renumbered(sql, len(values))}) AS one")
        stored = key if isinstance(stored_key, UUID) else str(key)
        values += [stored if parameter == stored_key else parameter for parameter in parameters]
    found: list[list[UUID]] = [[] for _ in keys]
    for row in await connection.execute_query_dict(" UNION ALL ".join(parts), values):
        part, pk = row.values()
        found[part].append(UUID(str(pk)))
    descending = query._orderings[0][1].value == "DESC"
    for part_ids in found:  # UNION ALL keeps the order in practice, but does not promise to
        part_ids.sort(reverse=descending)
    return found


def _renumbered(sql: str, first: int) -> str:
    """PostgreSQL's `$1` parameters, counted on from others; SQLite's are bare question marks."""
    return re.sub(r"\$(\d+)", lambda match: f"${int(match[1]) + first}", sql)


def _size_of(request: PageRequest) -> int:
    if request.first is not None and request.last is not None:
        raise ValidationFailed.of("last", FieldErrorCode.INVALID_FORMAT, "give `first` or `last`, not both")
    name, size = ("last", request.last) if request.last is not None else ("first", request.first)
    if size is None:
        return DEFAULT_SIZE
    if not 0 <= size <= MAX_SIZE:
        raise ValidationFailed.of(name, FieldErrorCode.OUT_OF_RANGE, f"must be between 0 and {MAX_SIZE}")
    return size


def _place(cursor: str, name: str, order: Order) -> tuple[Any, UUID]:
    try:
        column, *place = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        row = UUID(place[-1])
        if column != order.column or len(place) != (1 if column == "id" else 2):
            raise ValueError(column)
        if not is_storable(str(place[0])):
            raise ValueError("no value of ours")
        value = from_ms(place[0]) if column.endswith("_at") else str(place[0])
    except (binascii.Error, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        message = "is not a cursor of this list in this order"
        raise ValidationFailed.of(name, FieldErrorCode.INVALID_FORMAT, message) from error
    return value, row


def _beyond(place: tuple[Any, UUID], order: Order, descending: bool) -> Q:
    value, row = place
    side = "lt" if descending else "gt"
    behind_row: dict[str, Any] = {f"id__{side}": row}
    if order.column == "id":
        return Q(**behind_row)
    tie: dict[str, Any] = {order.column: value, **behind_row}
    behind_value: dict[str, Any] = {f"{order.column}__{side}": value}
    return Q(Q(**tie), Q(**behind_value), join_type="OR")


def _plain(value: Any) -> Any:
    return to_ms(value) if hasattr(value, "tzinfo") else value
