"""Statistics as rolled-up counters: one row for each webhook and slice of time, added to by the settling transaction.

Two resolutions are kept: minutes (for the last hour, and for the ragged ends of longer windows) and hours.
Quantiles come from the latency histogram of `models.latency`. Attempts are never scanned.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from models.attempt import AttemptOutcome
from models.delivery import DeliveryStatus, DeliveryTrigger
from models.latency import BUCKETS, COLUMNS, bucket_of
from models.ledger import Settlement

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
RESOLUTIONS_MS = (MINUTE_MS, HOUR_MS)
MINUTES_KEPT_MS = 26 * HOUR_MS
HOURS_KEPT_MS = 32 * 24 * HOUR_MS

COUNTERS = ("attempts", "attempts_succeeded", "succeeded", "dead_lettered", "canceled")
KEY = ("webhook_id", "resolution_ms", "start")
COLUMNS_IN_ORDER = (*KEY, *COUNTERS, "max_us", *COLUMNS)


@dataclass(slots=True)
class Increment:
    """What a batch adds to one row."""

    attempts: int = 0
    attempts_succeeded: int = 0
    succeeded: int = 0
    dead_lettered: int = 0
    canceled: int = 0
    max_us: int = 0
    histogram: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def counters(self) -> tuple[int, ...]:
        """In the order of COLUMNS_IN_ORDER, without the key before them and the histogram behind."""
        return (*(getattr(self, name) for name in COUNTERS), self.max_us)


def slices(moment: int) -> Iterable[tuple[int, int]]:
    """The (resolution, start) of each row that a moment falls into, in milliseconds."""
    for resolution in RESOLUTIONS_MS:
        yield resolution, moment - moment % resolution


def increments(settlements: Iterable[Settlement]) -> dict[UUID, Increment]:
    """What settled deliveries add for each webhook, to every slice of the moment. Tests count for nothing."""
    added: dict[UUID, Increment] = defaultdict(Increment)
    for settlement in settlements:
        claimed, attempt = settlement.claimed, settlement.attempt
        if claimed.trigger is DeliveryTrigger.TEST:
            continue
        row = added[claimed.webhook_id]
        row.attempts += 1
        row.attempts_succeeded += attempt.outcome is AttemptOutcome.SUCCESS
        row.succeeded += settlement.status is DeliveryStatus.SUCCEEDED
        row.dead_lettered += settlement.status is DeliveryStatus.DEAD_LETTERED
        row.max_us = max(row.max_us, attempt.duration_us)
        row.histogram[bucket_of(attempt.duration_us)] += 1
    return added


def cancellations(counts: Mapping[UUID, int]) -> dict[UUID, Increment]:
    """What canceled deliveries add, so many of each webhook."""
    return {webhook_id: Increment(canceled=count) for webhook_id, count in counts.items()}


def upsert(rows: str, greatest: str) -> str:
    """The statement that adds increments. `rows`: where they come from, in the order of COLUMNS_IN_ORDER.

    Where it adds several they come sorted, so that concurrent writers lock rows in one order.
    `greatest` is the dialect's name for the larger of two values.
    """
    added = ", ".join(f"{name} = r.{name} + excluded.{name}" for name in (*COUNTERS, *COLUMNS))
    return (
        f"INSERT INTO delivery_rollup AS r ({', '.join(COLUMNS_IN_ORDER)}) {rows} "
        f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {added}, max_us = {greatest}(r.max_us, excluded.max_us)"
    )
