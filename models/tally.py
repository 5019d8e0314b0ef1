"""How many of a webhook's deliveries have ended, and how: a row for each webhook and final status.

Counting two million rows takes PostgreSQL 140 ms, even along an index. So what ends is counted by the transaction in
which it ends, and what is forgotten by the one that forgets it; what is still open is counted when somebody asks. Who
publishes writes no counter, and has none to wait for.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.connection import get_connection

from models.delivery import OPEN, DeliveryStatus
from models.dialect import in_dialect

Ended = Mapping[tuple[UUID, int], int]
"""How many deliveries of a webhook ended with a status."""


def upsert(rows: str) -> str:
    """The statement that adds. `rows`: where webhook, status and count come from; sorted, where they are several.

    All who add lock rows in that one order, and so never wait for each other in a circle.
    """
    return (
        f"INSERT INTO delivery_tally AS t (webhook_id, status, ended) {rows} "
        "ON CONFLICT (webhook_id, status) DO UPDATE SET ended = t.ended + excluded.ended"
    )


def of(rows: Iterable[tuple[UUID, int]], sign: int = 1) -> list[tuple[UUID, int, int]]:
    """Rows for `upsert`, from the webhook and the status of each delivery that ended; -1 for those that are gone."""
    return [(*key, sign * n) for key, n in sorted(Counter(rows).items())]


async def take_back(connection: BaseDBAsyncClient, gone: Iterable[tuple[UUID, int]]) -> None:
    """Counts ended deliveries no more, by webhook and status, in the transaction that deletes them."""
    for row in of(gone, -1):
        await connection.execute_query(*in_dialect(connection, upsert("VALUES ($1, $2, $3)"), *row))


async def counts(
    organization_id: UUID, statuses: Collection[DeliveryStatus], webhooks: Sequence[UUID]
) -> dict[UUID, int]:
    """How many deliveries in one of these states each of these webhooks of an organization has."""
    if not webhooks:
        return {}
    connection = get_connection("default")
    marks = ", ".join(f"${n}" for n, _ in enumerate(webhooks, 2))
    sql = f"SELECT w.id, {_count(statuses)} AS n FROM webhook w WHERE w.organization_id = $1 AND w.id IN ({marks})"
    rows = await connection.execute_query_dict(*in_dialect(connection, sql, organization_id, *webhooks))
    return {UUID(str(row["id"])): int(row["n"]) for row in rows}


async def count(organization_id: UUID, statuses: Collection[DeliveryStatus]) -> int:
    """How many deliveries in one of these states an organization has. Takes 2 ms for each thousand of its webhooks."""
    connection = get_connection("default")
    sql = f"SELECT COALESCE(SUM({_count(statuses)}), 0) AS n FROM webhook w WHERE w.organization_id = $1"
    [row] = await connection.execute_query_dict(*in_dialect(connection, sql, organization_id))
    return int(row["n"])


def _count(statuses: Collection[DeliveryStatus]) -> str:
    """Of the webhook `w`. One statement sees both halves at one moment: what ends meanwhile is in one of them."""
    open_ = [status for status in OPEN if status in statuses]
    ended = [status for status in statuses if status not in OPEN]
    parts = []
    if ended:
        parts.append(
            "(SELECT COALESCE(SUM(t.ended), 0) FROM delivery_tally t "
            f"WHERE t.webhook_id = w.id AND t.status IN ({_listed(ended)}))"
        )
    if open_:
        which = "" if len(open_) == len(OPEN) else f" AND d.status IN ({_listed(open_)})"
        parts.append(f"(SELECT COUNT(*) FROM delivery d WHERE d.webhook_id = w.id AND d.completed_at IS NULL{which})")
    return " + ".join(parts) or "0"


def _listed(statuses: Iterable[DeliveryStatus]) -> str:
    return ", ".join(str(int(status)) for status in statuses)
