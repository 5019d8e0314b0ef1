"""Deleting what is old, a thousand rows at a time: each batch is one short transaction, safe to repeat.

Batches go along the primary key, which begins with the moment of a row's making, so that no index of ages is needed.
"""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from models import tally
from models.dialect import in_dialect
from models.ids import first_id_at
from models.locks import Lock, lock_alone

BATCH = 1000
"""Rows looked at, and so deleted at most, by one statement."""
FIRST = UUID(int=0)
"""Before every row."""


class Kind(StrEnum):
    """What grows old, by its table. In this order: nothing is left that belongs to nothing."""

    ATTEMPT = "attempt"
    EVENT = "event"
    DELIVERY = "delivery"
    REPLAY = "replay"


_CONDITIONS = {
    # While a delivery may be tried again, its past is of use.
    Kind.ATTEMPT: "started_at < $3 AND NOT EXISTS "
    "(SELECT 1 FROM delivery d WHERE d.id = attempt.delivery_id AND d.completed_at IS NULL)",
    # The body is sent as long as any delivery waits.
    Kind.EVENT: "received_at < $3 AND NOT EXISTS "
    "(SELECT 1 FROM delivery d WHERE d.event_id = event.id AND d.completed_at IS NULL)",
    # An event without its deliveries would look as if it had never been delivered.
    Kind.DELIVERY: "completed_at < $3 AND NOT EXISTS (SELECT 1 FROM event e WHERE e.id = delivery.event_id) "
    "AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.delivery_id = delivery.id)",
    Kind.REPLAY: "completed_at < $3 AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.replay_id = replay.id)",
}
_STREAMED = (Kind.ATTEMPT, Kind.EVENT)


@dataclass(frozen=True, slots=True)
class Batch:
    """How far a batch came, and how many rows it deleted."""

    last: UUID
    deleted: int


async def forget_some(kind: Kind, before: int, after: UUID) -> Batch | None:
    """Deletes, of the next rows behind `after`, those of before a moment that may go. None: there are no more."""
    async with in_transaction() as transaction:
        found = await transaction.execute_query_dict(
            *in_dialect(
                transaction,
                f"SELECT id FROM (SELECT id FROM {kind} WHERE id > $1 AND id < $2 ORDER BY id LIMIT {BATCH}) AS batch "
                "ORDER BY id DESC LIMIT 1",
                after,
                first_id_at(before),
            )
        )
        if not found:
            return None
        last = UUID(str(found[0]["id"]))
        if kind is Kind.EVENT:
            await lock_alone(transaction, Lock.BODIES)
        condition = _CONDITIONS[kind] + _but_the_newest(transaction, kind)
        sql = f"DELETE FROM {kind} WHERE id > $1 AND id <= $2 AND {condition}"
        if kind is Kind.DELIVERY:
            sql += " RETURNING webhook_id, status"
            gone = await transaction.execute_query_dict(*in_dialect(transaction, sql, after, last, before))
            await tally.take_back(transaction, ((UUID(str(row["webhook_id"])), row["status"]) for row in gone))
            return Batch(last, len(gone))
        deleted, _ = await transaction.execute_query(*in_dialect(transaction, sql, after, last, before))
        return Batch(last, deleted)


_WITH_AN_ORGANIZATION = ("attempt", "delivery", "event", "replay", "event_type", "api_key")
_WITH_A_WEBHOOK = ("delivery_rollup", "delivery_tally", "webhook_gate", "webhook_health")


async def forget_some_of_organization(organization_id: UUID) -> int:
    """Deletes a batch of what belongs to an organization that has ended; at last the organization. 0: all is gone.

    What its webhooks have open must have been ended before.
    """
    async with in_transaction() as transaction:

        async def delete(sql: str) -> int:
            deleted, _ = await transaction.execute_query(*in_dialect(transaction, sql, organization_id))
            return deleted

        for table in _WITH_AN_ORGANIZATION:
            newest = _but_the_newest(transaction, table)
            some = f"SELECT id FROM {table} WHERE organization_id = $1{newest} LIMIT {BATCH}"
            if deleted := await delete(f"DELETE FROM {table} WHERE id IN ({some})"):
                return deleted
        webhooks = f"SELECT id FROM webhook WHERE organization_id = $1 ORDER BY id LIMIT {BATCH // 100}"
        for table in _WITH_A_WEBHOOK:
            await delete(f"DELETE FROM {table} WHERE webhook_id IN ({webhooks})")
        if deleted := await delete(f"DELETE FROM webhook WHERE id IN ({webhooks})"):
            return deleted
        nothing = " AND ".join(
            f"NOT EXISTS (SELECT 1 FROM {kind} WHERE organization_id = organization.id)" for kind in _STREAMED
        )
        return await delete(f"DELETE FROM organization WHERE id = $1 AND {nothing}")


def _but_the_newest(connection: BaseDBAsyncClient, table: str) -> str:
    """On SQLite a stream goes by `rowid`, and the number of the last row would be given to another one."""
    if connection.capabilities.dialect == "sqlite" and table in _STREAMED:
        return f" AND rowid < (SELECT MAX(rowid) FROM {table})"
    return ""
