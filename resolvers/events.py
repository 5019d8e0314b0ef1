"""Events: publishing them, and finding what was published."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from tortoise.queryset import QuerySet

from models.event import Event
from models.event_pattern import MAX_LENGTH, is_event_name
from models.ids import Prefix
from models.ledger import NewEvent
from models.moment import from_ms
from resolvers import validation
from resolvers.caller import Caller, Scope
from resolvers.errors import FieldErrorCode, FieldProblem, ValidationFailed
from resolvers.inputs import EventDraft, MomentRange
from resolvers.lookup import one_of, own
from resolvers.paging import Page, PageRequest, page
from resolvers.publisher import Prepared

_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class WrittenEvent:
    """An event as it was just written: what its row says, without the cost of a row."""

    id: UUID
    organization_id: UUID
    type: str
    occurred_at: datetime
    received_at: datetime
    body: bytes
    data_offset: int

    @property
    def data(self) -> bytes:
        """The data alone, as JSON bytes."""
        return self.body[self.data_offset : -1]

    @classmethod
    def of(cls, event: NewEvent) -> "WrittenEvent":
        return cls(
            event.id,
            event.organization_id,
            event.type,
            from_ms(event.occurred_at),
            from_ms(event.received_at),
            event.body,
            event.data_offset,
        )


@dataclass(frozen=True, slots=True)
class Published:
    """`duplicate`: the idempotency key had been used, and this is the event of then."""

    event: Event | WrittenEvent
    matched_webhook_count: int
    duplicate: bool


async def publish(caller: Caller, draft: EventDraft) -> Published:
    """Publishes one event; returns once it is stored with its deliveries.

    Raises ValidationFailed, IdempotencyConflict, Forbidden.
    """
    try:
        [published] = await publish_many(caller, [draft])
    except ValidationFailed as failed:
        raise ValidationFailed(FieldProblem(p.path[1:], p.code, p.message) for p in failed.fields) from None
    return published


async def publish_many(caller: Caller, drafts: Sequence[EventDraft]) -> list[Published]:
    """Publishes all of them, or none. The paths of problems begin with the event's index.

    Raises ValidationFailed, IdempotencyConflict, Forbidden.
    """
    caller.require(Scope.EVENTS_PUBLISH)
    desk = caller.desk
    most = desk.limits.max_events_per_publish
    if not drafts:
        raise ValidationFailed.of((), FieldErrorCode.TOO_SHORT, "give at least one event")
    if len(drafts) > most:
        raise ValidationFailed.of((), FieldErrorCode.TOO_MANY, f"at most {most} events at once")
    now = from_ms(desk.clock())
    prepared: list[Prepared] = []
    problems: list[FieldProblem] = []
    for i, draft in enumerate(drafts):
        result = prepare(draft, now, desk.limits.max_payload_bytes)
        if isinstance(result, Prepared):
            prepared.append(result)
        else:
            problems += [problem.under(str(i)) for problem in result]
    if problems:
        raise ValidationFailed(problems)
    stored = await desk.publisher.publish(caller.organization_id, prepared)
    repeats = [one.event_id for one in stored if one.event is None]
    known = await _rows(caller, repeats) if repeats else {}
    return [
        Published(
            known[one.event_id] if one.event is None else WrittenEvent.of(one.event),
            one.matched_webhook_count,
            duplicate=one.event is None,
        )
        for one in stored
    ]


async def get(caller: Caller, id: str) -> Event:
    """Raises NotFound, Forbidden."""
    caller.require(Scope.EVENTS_READ)
    return await own(caller, Event.all(), Prefix.EVENT, id)


async def list_(
    caller: Caller, request: PageRequest, *, types: Sequence[str] | None = None, received: MomentRange | None = None
) -> Page[Event]:
    """One page of what was published, the latest first, without tests. Raises ValidationFailed, Forbidden."""
    caller.require(Scope.EVENTS_READ)
    query: QuerySet[Event] = Event.filter(organization_id=caller.organization_id, is_test=False)
    if types is not None:
        query = one_of(query, "type", types)
    if received is not None and received.since is not None:
        query = query.filter(received_at__gte=received.since)
    if received is not None and received.until is not None:
        query = query.filter(received_at__lt=received.until)
    return await page(query, request)


async def by_ids(caller: Caller, ids: Sequence[UUID]) -> dict[UUID, Event]:
    """Those of them that are the caller's."""
    caller.require(Scope.EVENTS_READ)
    return await _rows(caller, ids)


async def _rows(caller: Caller, ids: Sequence[UUID]) -> dict[UUID, Event]:
    rows = await Event.filter(id__in=list(ids), organization_id=caller.organization_id)
    return {row.id: row for row in rows}


def prepare(draft: EventDraft, now: datetime, most_bytes: int) -> Prepared | list[FieldProblem]:
    """The event ready to be stored, or all that is wrong with it but for what the catalogue says."""
    problems = []
    if not is_event_name(draft.type):
        message = f"must be words joined by dots or slashes, such as order.created, at most {MAX_LENGTH} characters"
        problems.append(FieldProblem(("type",), FieldErrorCode.INVALID_FORMAT, message))
    data = validation.as_json(draft.data)
    if data is None:
        problems.append(FieldProblem(("data",), FieldErrorCode.INVALID_FORMAT, "cannot be written as JSON"))
    elif len(data) > most_bytes:
        message = f"must be at most {most_bytes} bytes as JSON, and is {len(data)}"
        problems.append(FieldProblem(("data",), FieldErrorCode.TOO_LARGE, message))
    occurred_at = draft.occurred_at or now
    if occurred_at.tzinfo is None or not _EARLIEST <= occurred_at < _LATEST:
        message = "must be a moment with a time zone between the years 2000 and 2200"
        problems.append(FieldProblem(("occurredAt",), FieldErrorCode.OUT_OF_RANGE, message))
    problems += validation.idempotency_key_problems(draft.idempotency_key)
    if problems or data is None:
        return problems
    return Prepared(draft.type, data, occurred_at.astimezone(UTC), draft.idempotency_key)
