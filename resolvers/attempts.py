"""Attempts as a list of their own, the latest first: how old callers look at what was delivered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from tortoise.connection import get_connection

from models.attempt import Attempt, AttemptOutcome
from models.delivery import Delivery, DeliveryStatus
from models.dialect import in_dialect
from models.event import Event
from models.moment import to_ms
from models.webhook import Webhook
from resolvers.caller import Caller, Scope
from resolvers.deliveries import sent_body
from resolvers.errors import NotFound


class Verdict(StrEnum):
    """What an attempt meant for its delivery."""

    SUCCESS = "success"
    RETRY = "retry"
    """It failed, and another one follows or followed."""
    DEAD = "dead"
    """It failed, and was the last one."""


@dataclass(slots=True)
class AttemptFilter:
    """All that is given must hold."""

    webhook_id: UUID | None = None
    event_type: str | None = None
    verdict: Verdict | None = None
    since: datetime | None = None
    until: datetime | None = None
    status_least: int | None = None
    status_most: int | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """An attempt, with what it was an attempt of."""

    attempt: Attempt
    delivery: Delivery
    webhook: Webhook
    verdict: Verdict
    body: bytes | None
    """None when the event is no longer kept."""


_VERDICT = f"""
CASE WHEN a.outcome = {AttemptOutcome.SUCCESS:d} THEN 'success'
     WHEN a.number = d.attempt_count AND d.status IN ({DeliveryStatus.DEAD_LETTERED:d}, {DeliveryStatus.CANCELED:d})
     THEN 'dead' ELSE 'retry' END
"""


async def list_(
    caller: Caller, contract: str, filter: AttemptFilter, limit: int, before: UUID | None = None
) -> list[Sent]:
    """Up to `limit` attempts for the webhooks of a contract, deleted ones included, of before one of them.

    It goes from the webhooks to their deliveries to the attempts, so it costs in proportion to what was delivered.
    """
    caller.require(Scope.DELIVERIES_READ)
    values: list[Any] = [caller.organization_id, contract, limit]
    conditions = []
    for condition, value in (
        ("d.webhook_id = {}", filter.webhook_id),
        ("d.event_type = {}", filter.event_type),
        (f"{_VERDICT} = {{}}", None if filter.verdict is None else str(filter.verdict)),
        ("a.started_at >= {}", None if filter.since is None else to_ms(filter.since)),
        ("a.started_at < {}", None if filter.until is None else to_ms(filter.until)),
        ("a.response_status >= {}", filter.status_least),
        ("a.response_status <= {}", filter.status_most),
        ("a.id < {}", before),
    ):
        if value is not None:
            values.append(value)
            conditions.append(f"AND {condition.format(f'${len(values)}')}")
    connection = get_connection("default")
    sql = (
        f"SELECT a.id, {_VERDICT} AS verdict FROM webhook w JOIN delivery d ON d.webhook_id = w.id "
        "JOIN attempt a ON a.delivery_id = d.id WHERE w.organization_id = $1 AND w.contract = $2 "
        f"{' '.join(conditions)} ORDER BY a.id DESC LIMIT $3"
    )
    rows = await connection.execute_query_dict(*in_dialect(connection, sql, *values))
    return await _sent({UUID(str(row["id"])): Verdict(row["verdict"]) for row in rows})


async def get(caller: Caller, contract: str, attempt_id: UUID) -> Sent:
    """Raises NotFound, Forbidden."""
    caller.require(Scope.DELIVERIES_READ)
    connection = get_connection("default")
    sql = (
        f"SELECT a.id, {_VERDICT} AS verdict FROM attempt a JOIN delivery d ON d.id = a.delivery_id "
        "JOIN webhook w ON w.id = d.webhook_id WHERE a.id = $1 AND a.organization_id = $2 AND w.contract = $3"
    )
    rows = await connection.execute_query_dict(
        *in_dialect(connection, sql, attempt_id, caller.organization_id, contract)
    )
    if not rows:
        raise NotFound(str(attempt_id))
    [sent] = await _sent({attempt_id: Verdict(rows[0]["verdict"])})
    return sent


async def _sent(verdicts: Mapping[UUID, Verdict]) -> list[Sent]:
    """Each attempt with its delivery and body, in the order given."""
    attempts = {row.id: row for row in await Attempt.filter(id__in=list(verdicts))}
    deliveries = {row.id: row for row in await Delivery.filter(id__in=_set(a.delivery_id for a in attempts.values()))}
    events = {row.id: row for row in await Event.filter(id__in=_set(d.event_id for d in deliveries.values()))}
    webhooks = {row.id: row for row in await Webhook.filter(id__in=_set(a.webhook_id for a in attempts.values()))}
    found = []
    for attempt_id, verdict in verdicts.items():
        attempt = attempts[attempt_id]
        delivery = deliveries[attempt.delivery_id]
        event, webhook = events.get(delivery.event_id), webhooks[attempt.webhook_id]
        body = None if event is None else sent_body(event, webhook.envelope)
        found.append(Sent(attempt, delivery, webhook, verdict, body))
    return found


def _set(ids: Any) -> Sequence[UUID]:
    return list(set(ids))
