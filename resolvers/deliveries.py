"""Deliveries and their attempts: what became of each event for each webhook."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from tortoise.expressions import Q
from tortoise.functions import Count
from tortoise.queryset import QuerySet

from models import tally
from models.attempt import Attempt, AttemptOutcome
from models.delivery import OPEN, Delivery, DeliveryStatus
from models.event import Event
from models.ids import Prefix
from models.ledger import StoredEvent
from models.webhook import PayloadEnvelope, Webhook
from resolvers.caller import Caller, Scope
from resolvers.inputs import DeliveryFilter
from resolvers.lookup import one_of, own
from resolvers.paging import Order, Page, PageRequest, having, page, pages
from workers.envelopes import body_for

_CURL_BODY_MOST = 20_000
_TROUBLE = (
    Q(last_outcome__not=AttemptOutcome.SUCCESS),
    Q(completed_at__isnull=False) | Q(last_outcome__isnull=False),
)
"""To the letter the condition of the indexes `delivery_trouble…`: no success, and ended or tried."""


async def get(caller: Caller, id: str) -> Delivery:
    """Raises NotFound, Forbidden."""
    caller.require(Scope.DELIVERIES_READ)
    return await own(caller, Delivery.all(), Prefix.DELIVERY, id)


async def list_(
    caller: Caller,
    filter: DeliveryFilter,
    request: PageRequest,
    *,
    webhook_id: UUID | None = None,
    event_id: UUID | None = None,
) -> Page[Delivery]:
    """One page of deliveries, the latest first. Raises ValidationFailed for the page's arguments, Forbidden."""
    caller.require(Scope.DELIVERIES_READ)
    order = _order(filter, of_webhook=webhook_id is not None)
    rows = _filtered(caller, filter, None, event_id)
    if webhook_id is not None:
        rows = rows.filter(having("webhook_id", webhook_id, request, order))
    return await page(rows, request, order)


async def count(
    caller: Caller, filter: DeliveryFilter, *, webhook_id: UUID | None = None, event_id: UUID | None = None
) -> int:
    """How many deliveries a filter finds. Known at once by state (`models.tally`), else counted row by row."""
    caller.require(Scope.DELIVERIES_READ)
    if _asks_for_states_alone(filter) and event_id is None:
        states = _states(filter)
        if webhook_id is None:
            return await tally.count(caller.organization_id, states)
        return (await tally.counts(caller.organization_id, states, [webhook_id])).get(webhook_id, 0)
    return await _filtered(caller, filter, webhook_id, event_id).count()


async def pages_of_webhooks(
    caller: Caller, webhooks: Sequence[UUID], filter: DeliveryFilter, request: PageRequest
) -> dict[UUID, Page[Delivery]]:
    """The same page of each webhook's deliveries, in two statements however many webhooks there are."""
    caller.require(Scope.DELIVERIES_READ)
    return await pages(
        _filtered(caller, filter, None, None), "webhook_id", webhooks, request, _order(filter, of_webhook=True)
    )


async def pages_of_events(caller: Caller, events: Sequence[UUID], request: PageRequest) -> dict[UUID, Page[Delivery]]:
    """The same page of each event's deliveries, in two statements however many events there are."""
    caller.require(Scope.DELIVERIES_READ)
    return await pages(_filtered(caller, DeliveryFilter(), None, None), "event_id", events, request)


async def counts_of_webhooks(caller: Caller, webhooks: Sequence[UUID], filter: DeliveryFilter) -> dict[UUID, int]:
    """How many deliveries a filter finds for each webhook."""
    caller.require(Scope.DELIVERIES_READ)
    if _asks_for_states_alone(filter):
        return dict.fromkeys(webhooks, 0) | await tally.counts(caller.organization_id, _states(filter), webhooks)
    rows = _filtered(caller, filter, None, None).filter(webhook_id__in=list(webhooks))
    return await _counts(rows, "webhook_id", webhooks)


async def counts_of_events(caller: Caller, events: Sequence[UUID]) -> dict[UUID, int]:
    """How many deliveries each event has."""
    caller.require(Scope.DELIVERIES_READ)
    rows = _filtered(caller, DeliveryFilter(), None, None).filter(event_id__in=list(events))
    return await _counts(rows, "event_id", events)


async def bodies_of(caller: Caller, deliveries: Sequence[UUID]) -> dict[UUID, bytes]:
    """What each delivery's receiver is sent, byte for byte; those whose event or webhook is gone are absent."""
    caller.require(Scope.DELIVERIES_READ)
    rows = await Delivery.filter(id__in=list(deliveries), organization_id=caller.organization_id)
    events = {e.id: e for e in await Event.filter(id__in=list({row.event_id for row in rows}))}
    webhooks = Webhook.filter(id__in=list({row.webhook_id for row in rows}))
    envelopes = {found[0]: found[1] for found in await webhooks.values_list("id", "envelope")}
    return {
        row.id: sent_body(events[row.event_id], envelopes[row.webhook_id])
        for row in rows
        if row.event_id in events and row.webhook_id in envelopes
    }


async def by_ids(caller: Caller, ids: Sequence[UUID]) -> dict[UUID, Delivery]:
    """Those of them that are the caller's."""
    caller.require(Scope.DELIVERIES_READ)
    rows = await Delivery.filter(id__in=list(ids), organization_id=caller.organization_id)
    return {row.id: row for row in rows}


async def attempts_of(caller: Caller, deliveries: Sequence[UUID]) -> dict[UUID, list[Attempt]]:
    """Each delivery's attempts, oldest first."""
    caller.require(Scope.DELIVERIES_READ)
    found: dict[UUID, list[Attempt]] = {delivery_id: [] for delivery_id in deliveries}
    rows = Attempt.filter(delivery_id__in=list(deliveries), organization_id=caller.organization_id)
    for attempt in await rows.order_by("number", "id"):
        found[attempt.delivery_id].append(attempt)
    return found


async def attempt(caller: Caller, id: str) -> Attempt:
    """Raises NotFound, Forbidden."""
    caller.require(Scope.DELIVERIES_READ)
    return await own(caller, Attempt.all(), Prefix.ATTEMPT, id)


def sent_body(event: Event, envelope: PayloadEnvelope) -> bytes:
    """What a webhook with this envelope is sent for an event, byte for byte."""
    return body_for(envelope, StoredEvent(event.id, event.type, bytes(event.body), event.data_offset))


def curl(url: str, headers: Sequence[tuple[str, str]], body: str | None) -> str:
    """A command that sends the same request again, to be pasted into a shell."""
    skipped = {"host", "content-length"}
    parts = ["curl", "-i", "-X", "POST", shlex.quote(url)]
    parts += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers if name.lower() not in skipped]
    if body is not None and len(body) <= _CURL_BODY_MOST:
        parts.append(f"--data-binary {shlex.quote(body)}")
    elif body is not None:
        parts.append("--data-binary @body.json")
    return " ".join(parts)


async def _counts(rows: QuerySet[Delivery], column: str, keys: Sequence[UUID]) -> dict[UUID, int]:
    found = await rows.annotate(n=Count("id")).group_by(column).values_list(column, "n")
    return dict.fromkeys(keys, 0) | {UUID(str(row[0])): row[1] for row in found}


def _asks_for_states_alone(filter: DeliveryFilter) -> bool:
    return replace(filter, status=None) == DeliveryFilter()


def _asks_for_what_is_open(filter: DeliveryFilter) -> bool:
    return filter.status is not None and set(filter.status).issubset(OPEN)


def _asks_for_trouble(filter: DeliveryFilter) -> bool:
    """Whether nothing that succeeded can be among it."""
    return (
        (filter.status is not None and set(filter.status) <= {DeliveryStatus.DEAD_LETTERED, DeliveryStatus.CANCELED})
        or (filter.outcome is not None and AttemptOutcome.SUCCESS not in filter.outcome)
        or (filter.status_code_gte is not None and filter.status_code_gte >= 300)
        or (filter.status_code_lte is not None and filter.status_code_lte < 200)
    )


def _order(filter: DeliveryFilter, *, of_webhook: bool) -> Order:
    if _asks_for_what_is_open(filter):
        return Order(alike="completed_at")
    return Order(alike="webhook_id") if of_webhook else Order()


def _states(filter: DeliveryFilter) -> set[DeliveryStatus]:
    return set(DeliveryStatus if filter.status is None else filter.status)


def _small(number: int) -> int:
    """The nearest number that the column's 16 bits can be compared with; no status comes near their ends."""
    return min(max(number, -(2**15)), 2**15 - 1)


def _filtered(
    caller: Caller, filter: DeliveryFilter, webhook_id: UUID | None, event_id: UUID | None
) -> QuerySet[Delivery]:
    query = Delivery.filter(organization_id=caller.organization_id)
    if webhook_id is not None:
        query = query.filter(webhook_id=webhook_id)
    if event_id is not None:
        query = query.filter(event_id=event_id)
    if filter.status is not None:
        query = query.filter(status__in=list(filter.status))
        if set(filter.status) == {DeliveryStatus.DEAD_LETTERED}:
            query = query.filter(dead_at__isnull=False)  # has an index of its own
        elif _asks_for_what_is_open(filter):
            query = query.filter(completed_at__isnull=True)  # the same
    if _asks_for_trouble(filter):
        query = query.filter(*_TROUBLE)  # the same
    if filter.trigger is not None:
        query = query.filter(trigger__in=list(filter.trigger))
    if filter.event_types is not None:
        query = one_of(query, "event_type", filter.event_types)
    if filter.outcome is not None:
        query = query.filter(last_outcome__in=list(filter.outcome))
    if filter.status_code_gte is not None:
        query = query.filter(last_status_code__gte=_small(filter.status_code_gte))
    if filter.status_code_lte is not None:
        query = query.filter(last_status_code__lte=_small(filter.status_code_lte))
    if filter.created.since is not None:
        query = query.filter(created_at__gte=filter.created.since)
    if filter.created.until is not None:
        query = query.filter(created_at__lt=filter.created.until)
    return query
