"""Pages of a list, by keyset: a cursor names a place between two rows, so rows that arrive meanwhile shift nothing."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID

import orjson
from tortoise.expressions import Q
from tortoise.models import Model
from tortoise.queryset import QuerySet

from models.moment import from_ms, to_ms
from resolvers.errors import FieldErrorCode, ValidationFailed

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
    size = _size_of(request)
    backwards = request.last is not None
    if request.after is not None:
        query = query.filter(_beyond(_place(request.after, "after", order), order, order.descending))
    if request.before is not None:
        query = query.filter(_beyond(_place(request.before, "before", order), order, not order.descending))
    sign = "-" if order.descending != backwards else ""
    columns = [order.column] if order.column == "id" else [order.column, "id"]
    rows = await query.order_by(*(sign + column for column in columns)).limit(size + 1)
    more, rows = len(rows) > size, rows[:size]
    if backwards:
        rows.reverse()
        return Page(rows, request.before is not None, more, order)
    return Page(rows, more, request.after is not None, order)


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
