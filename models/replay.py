"""A replay: somebody asked for past deliveries to be made again. A job that is nothing but rows.

    QUEUED ──counted──► RUNNING ──all are made, and each has ended──► COMPLETED
       └───────────────────┴──asked to, or its webhook is turned off──► CANCELED

A replay goes through what it selects in the order of ids. Whoever works on it (`workers/replaying.py`) writes the
next deliveries and how far it came in one transaction: it can be killed at any moment, and nothing is left out or
made twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

from tortoise import fields
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.connection import get_connection
from tortoise.models import Model

from models.delivery import DeliveryStatus, DeliveryTrigger
from models.dialect import in_dialect
from models.event_pattern import matches
from models.ids import first_id_at
from models.moment import MomentField, to_ms

_SKEW_MS = 3_600_000
"""How far the moment in an event's id may be from the moment when it was received."""
NOWHERE = UUID(int=0)
"""The place before everything."""


class ReplayStatus(IntEnum):
    """Where a replay stands. Stored as its number: never renumber."""

    QUEUED = 1
    """Waits for a worker, or is being counted."""
    RUNNING = 2
    """Deliveries are made, or have yet to end."""
    COMPLETED = 3
    """All that was selected was made, and has ended, however it ended."""
    CANCELED = 4
    """Nothing more is made, and what waited is canceled. It is finished when its last request is."""


class ReplaySelection(StrEnum):
    """What a replay makes again. Tests are never among it, and each event is at most once."""

    DELIVERIES = "DELIVERIES"
    """These deliveries, whatever became of them."""
    EVENTS = "EVENTS"
    """These events, whether the webhook's patterns match them or not."""
    FAILED = "FAILED"
    """What ended DEAD_LETTERED in a range and has not been delivered since, nor is on its way."""
    MISSING = "MISSING"
    """Events received in a range that the webhook's patterns match now, never delivered, nor on their way."""


class Replay(Model):
    """Asked for once. The counters are of its deliveries."""

    id = fields.UUIDField(primary_key=True)
    organization_id = fields.UUIDField()
    webhook_id = fields.UUIDField()
    status = fields.IntEnumField(ReplayStatus, default=ReplayStatus.QUEUED)
    selection = fields.CharEnumField(ReplaySelection, max_length=10)
    ids: list[str] | None = fields.JSONField(
        null=True, description="Of the deliveries or events, where they are named."
    )
    since = MomentField(null=True, description="The range, where there is one.")
    until = MomentField(null=True, description="Its end, excluded, and never later than created_at.")
    cursor = fields.UUIDField(null=True, description="How far it came: in counting while QUEUED, then in making.")
    is_exhausted = fields.BooleanField(default=False, description="All that was selected is made.")
    total = fields.IntField(default=0)
    enqueued = fields.IntField(default=0)
    succeeded = fields.IntField(default=0, description="Written by the transaction that settles.")
    failed = fields.IntField(default=0, description="The same.")
    created_at = MomentField()
    completed_at = MomentField(null=True, description="When nothing of it was left to do.")

    class Meta:
        table = "replay"
        indexes = (("organization_id", "id"),)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that a replay came by."""

    place: UUID
    event_id: UUID
    event_type: str
    replay_of_id: UUID | None
    is_selected: bool


# An event's deliveries to the webhook ($1), by the index of events whatever the planner believes: it takes a table that
# was small when the plan was made for small for ever, and would read all of a webhook's deliveries for each event.
_OWN = "FROM delivery o WHERE o.event_id = {event} AND (o.webhook_id = $1) IS TRUE"
# What has been delivered, or is on its way, needs no repeat.
_DONE = (
    f"(SELECT 1 {_OWN} AND (o.status = {int(DeliveryStatus.SUCCEEDED)} OR o.completed_at IS NULL) LIMIT 1) IS NOT NULL"
)
_LATEST = (
    f"(SELECT o.id {_OWN.format(event='e.id')} AND o.trigger <> {int(DeliveryTrigger.TEST)} "
    "ORDER BY CAST(o.id AS VARCHAR(36)) DESC LIMIT 1)"
)
_DELIVERIES = """
SELECT d.id AS place, d.event_id, d.event_type, d.id AS replay_of_id, TRUE AS is_selected
FROM delivery d JOIN event e ON e.id = d.event_id
WHERE d.webhook_id = $1 AND d.id > $2 AND d.id IN ({ids}) ORDER BY d.id LIMIT $3
"""
_EVENTS = f"""
SELECT e.id AS place, e.id AS event_id, e.type AS event_type, {_LATEST} AS replay_of_id, TRUE AS is_selected
FROM event e WHERE e.id > $2 AND e.id IN ({{ids}}) ORDER BY e.id LIMIT $3
"""
# Of an event that was given up several times, the last counts.
_FAILED = f"""
SELECT d.id AS place, d.event_id, d.event_type, d.id AS replay_of_id,
  d.dead_at >= $4 AND d.dead_at < $5 AND d.trigger <> {int(DeliveryTrigger.TEST)}
  AND NOT ({_DONE.format(event="d.event_id")})
  AND (SELECT 1 {_OWN.format(event="d.event_id")} AND (o.id > d.id) IS TRUE
    AND o.dead_at >= $4 AND o.dead_at < $5 LIMIT 1) IS NULL
  AND EXISTS (SELECT 1 FROM event e WHERE e.id = d.event_id) AS is_selected
FROM (SELECT id, event_id, event_type, dead_at, trigger FROM delivery
      WHERE webhook_id = $1 AND dead_at IS NOT NULL AND id > $2 ORDER BY id LIMIT $3) AS d
ORDER BY d.id
"""
_MISSING = f"""
SELECT e.id AS place, e.id AS event_id, e.type AS event_type, {_LATEST} AS replay_of_id,
  e.received_at >= $4 AND e.received_at < $5 AND NOT ({_DONE.format(event="e.id")}) AS is_selected
FROM (SELECT id, type, received_at FROM event
      WHERE organization_id = $6 AND id > $2 AND id >= $7 AND id < $8 AND is_test = FALSE ORDER BY id LIMIT $3) AS e
ORDER BY e.id
"""


# One that has made all, and waits for its deliveries to end, is left alone until they have.
_UNFINISHED = f"""
SELECT id, webhook_id, is_exhausted FROM replay WHERE completed_at IS NULL
  AND (NOT is_exhausted OR status = {int(ReplayStatus.CANCELED)}
       OR NOT EXISTS (SELECT 1 FROM delivery d WHERE d.replay_id = replay.id AND d.completed_at IS NULL))
ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A replay that there is something to do for."""

    id: UUID
    webhook_id: UUID
    is_exhausted: bool


async def unfinished() -> list[Unfinished]:
    """The replays that there may be something to do for, the oldest first."""
    rows: list[dict[str, Any]] = await get_connection("default").execute_query_dict(_UNFINISHED)
    return [Unfinished(UUID(str(r["id"])), UUID(str(r["webhook_id"])), bool(r["is_exhausted"])) for r in rows]


async def candidates(
    connection: BaseDBAsyncClient, replay: Replay, patterns: Sequence[str], most: int
) -> list[Candidate]:
    """The next rows behind the replay's cursor, in order. Fewer than `most`: there are no more."""
    values: list[Any] = [replay.webhook_id, replay.cursor or NOWHERE, most]
    match replay.selection:
        case ReplaySelection.DELIVERIES | ReplaySelection.EVENTS:
            ids = [UUID(one) for one in replay.ids or ()]
            sql = _DELIVERIES if replay.selection is ReplaySelection.DELIVERIES else _EVENTS
            sql = sql.format(ids=", ".join(f"${n}" for n in range(4, 4 + len(ids))))
            values += ids
        case ReplaySelection.FAILED | ReplaySelection.MISSING:
            since, until = to_ms(replay.since) if replay.since else 0, to_ms(replay.until or replay.created_at)
            sql, values = _FAILED, [*values, since, until]
            if replay.selection is ReplaySelection.MISSING:
                first, last = first_id_at(max(since - _SKEW_MS, 0)), first_id_at(until + _SKEW_MS)
                sql, values = _MISSING, [*values, replay.organization_id, first, last]
    wants_all = replay.selection is not ReplaySelection.MISSING
    return [
        Candidate(
            UUID(str(row["place"])),
            UUID(str(row["event_id"])),
            row["event_type"],
            UUID(str(row["replay_of_id"])) if row["replay_of_id"] else None,
            bool(row["is_selected"]) and (wants_all or any(matches(p, row["event_type"]) for p in patterns)),
        )
        for row in await connection.execute_query_dict(*in_dialect(connection, sql, *values))
    ]
