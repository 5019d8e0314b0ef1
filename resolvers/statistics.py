"""How webhooks have been doing: figures over a rolling window, read from rolled-up counters."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from tortoise.connection import get_connection
from tortoise.functions import Count, Min

from models import rollup
from models.delivery import Delivery, DeliveryStatus, DeliveryTrigger
from models.dialect import in_dialect
from models.latency import BUCKETS, COLUMNS, Quantiles, quantile, quantiles
from models.moment import from_ms
from models.webhook import Webhook, WebhookHealth
from resolvers.caller import Caller, Scope
from resolvers.errors import FieldErrorCode, ValidationFailed

MAX_BUCKETS = 100


class StatsWindow(StrEnum):
    """A span that ends now."""

    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    """30 days."""

    @property
    def ms(self) -> int:
        """Its length in milliseconds."""
        return {"HOUR": 1, "DAY": 24, "WEEK": 7 * 24, "MONTH": 30 * 24}[self.value] * rollup.HOUR_MS


@dataclass(slots=True)
class DeliveryCounts:
    """`pending` and `retrying` wait now; the others ended within the window."""

    pending: int = 0
    succeeded: int = 0
    retrying: int = 0
    dead_lettered: int = 0
    canceled: int = 0


@dataclass(slots=True)
class DeliveryStats:
    """A webhook's figures."""

    webhook_id: UUID
    window: StatsWindow
    since: datetime
    deliveries: DeliveryCounts
    attempts: int
    success_rate: float | None
    """0..1 of the deliveries that succeeded or were given up; None when there were none."""
    latency_ms: Quantiles | None
    consecutive_failures: int
    last_success_at: datetime | None
    last_failure_at: datetime | None
    backlog_age_seconds: float | None


@dataclass(slots=True)
class StatsBucket:
    """A slice of a window. `succeeded` and `failed` count attempts."""

    start: datetime
    attempts: int
    succeeded: int
    failed: int
    p95_latency_ms: float | None


@dataclass(slots=True)
class _Sum:
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*rollup.COUNTERS, "max_us"), 0))
    histogram: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def add(self, row: dict[str, Any]) -> None:
        for name in rollup.COUNTERS:
            self.counters[name] += row[name]
        self.counters["max_us"] = max(self.counters["max_us"], row["max_us"])
        for i, name in enumerate(COLUMNS):
            self.histogram[i] += row[name]


async def of_webhooks(caller: Caller, webhooks: Sequence[UUID], window: StatsWindow) -> dict[UUID, DeliveryStats]:
    """The figures of each of the caller's webhooks among these. Four statements, however many there are."""
    caller.require(Scope.WEBHOOKS_READ)
    ids = await _own(caller, webhooks)
    if not ids:
        return {}
    now = caller.desk.clock()
    sums: dict[UUID, _Sum] = defaultdict(_Sum)
    for row in await _summed(ids, now - window.ms, now):
        sums[UUID(str(row["webhook_id"]))].add(row)
    waiting, oldest = await _backlog(ids)
    health = {row.webhook_id: row for row in await WebhookHealth.filter(webhook_id__in=ids)}
    return {i: _stats(i, window, now, sums[i], waiting[i], oldest.get(i), health.get(i)) for i in ids}


async def buckets_of(
    caller: Caller, webhooks: Sequence[UUID], window: StatsWindow, count: int
) -> dict[UUID, list[StatsBucket]]:
    """Even slices of the window for each webhook, oldest first, empty ones included.

    A row of counters falls whole into the slice in which it begins, so a slice is exact to a minute in the last day
    and to an hour before. Raises ValidationFailed, Forbidden.
    """
    caller.require(Scope.WEBHOOKS_READ)
    if not 1 <= count <= MAX_BUCKETS:
        raise ValidationFailed.of("count", FieldErrorCode.OUT_OF_RANGE, f"must be 1 to {MAX_BUCKETS}")
    ids = await _own(caller, webhooks)
    now = caller.desk.clock()
    since, width = now - window.ms, window.ms / count
    sums = {webhook_id: [_Sum() for _ in range(count)] for webhook_id in ids}
    for row in await _rows(ids, since, now) if ids else []:
        at = min(max(int((row["start"] - since) / width), 0), count - 1)
        sums[UUID(str(row["webhook_id"]))][at].add(row)
    return {
        webhook_id: [_bucket(from_ms(round(since + i * width)), one) for i, one in enumerate(slices)]
        for webhook_id, slices in sums.items()
    }


def _bucket(start: datetime, sums: _Sum) -> StatsBucket:
    attempts, succeeded = sums.counters["attempts"], sums.counters["attempts_succeeded"]
    p95 = quantile(sums.histogram, 0.95, sums.counters["max_us"] / 1000)
    return StatsBucket(start, attempts, succeeded, attempts - succeeded, p95)


async def _own(caller: Caller, webhooks: Sequence[UUID]) -> list[UUID]:
    rows = Webhook.filter(id__in=list(webhooks), organization_id=caller.organization_id)
    return [UUID(str(found)) for found in await rows.values_list("id", flat=True)]


def _spans(since: int, now: int, *, fine: bool) -> Iterable[tuple[int, int, int]]:
    """Which rows make up a window: (resolution, from, until), in milliseconds.

    Minutes alone, if that is wished and they are still kept; else hours, with minutes at the ragged ends.
    """
    begin = since - since % rollup.MINUTE_MS
    minutes_are_kept = since >= now - rollup.MINUTES_KEPT_MS + rollup.HOUR_MS
    if minutes_are_kept and (fine or now - since <= rollup.HOUR_MS):
        yield rollup.MINUTE_MS, begin, now + 1
        return
    first_hour, this_hour = since - since % rollup.HOUR_MS + rollup.HOUR_MS, now - now % rollup.HOUR_MS
    if minutes_are_kept:
        yield rollup.MINUTE_MS, begin, first_hour
    yield rollup.HOUR_MS, first_hour, this_hour
    yield rollup.MINUTE_MS, this_hour, now + 1


async def _summed(ids: Sequence[UUID], since: int, now: int) -> list[dict[str, Any]]:
    sums = ", ".join(f"SUM({name}) AS {name}" for name in (*rollup.COUNTERS, *COLUMNS))
    spans = _spans(since, now, fine=False)
    return await _select(f"webhook_id, {sums}, MAX(max_us) AS max_us", ids, spans, "GROUP BY webhook_id")


async def _rows(ids: Sequence[UUID], since: int, now: int) -> list[dict[str, Any]]:
    columns = ", ".join((*rollup.COUNTERS, *COLUMNS, "max_us"))
    return await _select(f"webhook_id, start, {columns}", ids, _spans(since, now, fine=True), "")


async def _select(
    columns: str, ids: Sequence[UUID], spans: Iterable[tuple[int, int, int]], end: str
) -> list[dict[str, Any]]:
    connection = get_connection("default")
    marks = ", ".join(f"${i}" for i in range(1, len(ids) + 1))
    within = " OR ".join(
        f"(resolution_ms = {resolution} AND start >= {begin} AND start < {until})" for resolution, begin, until in spans
    )
    sql = f"SELECT {columns} FROM delivery_rollup WHERE webhook_id IN ({marks}) AND ({within}) {end}"
    return list(await connection.execute_query_dict(*in_dialect(connection, sql, *ids)))


async def _backlog(ids: Sequence[UUID]) -> tuple[dict[UUID, DeliveryCounts], dict[UUID, datetime]]:
    """What waits for each webhook now, and since when the oldest does."""
    counts: dict[UUID, DeliveryCounts] = defaultdict(DeliveryCounts)
    oldest: dict[UUID, datetime] = {}
    rows = (
        await Delivery.filter(webhook_id__in=list(ids), completed_at__isnull=True, trigger__not=DeliveryTrigger.TEST)
        .annotate(n=Count("id"), oldest=Min("created_at"))
        .group_by("webhook_id", "status", "failure_count")
        .values("webhook_id", "status", "failure_count", "n", "oldest")
    )
    for row in rows:
        webhook_id = UUID(str(row["webhook_id"]))
        # What is being sent counts as what it was before: a first attempt as pending, a later one as retrying.
        again = row["status"] == DeliveryStatus.RETRYING or row["failure_count"] > 0
        if again:
            counts[webhook_id].retrying += row["n"]
        else:
            counts[webhook_id].pending += row["n"]
        since = row["oldest"] if isinstance(row["oldest"], datetime) else from_ms(row["oldest"])
        oldest[webhook_id] = min(since, oldest.get(webhook_id, since))
    return counts, oldest


def _stats(
    webhook_id: UUID,
    window: StatsWindow,
    now: int,
    sums: _Sum,
    counts: DeliveryCounts,
    oldest: datetime | None,
    health: WebhookHealth | None,
) -> DeliveryStats:
    counters = sums.counters
    ended = counters["succeeded"] + counters["dead_lettered"]
    counts.succeeded = counters["succeeded"]
    counts.dead_lettered = counters["dead_lettered"]
    counts.canceled = counters["canceled"]
    return DeliveryStats(
        webhook_id=webhook_id,
        window=window,
        since=from_ms(now - window.ms),
        deliveries=counts,
        attempts=counters["attempts"],
        success_rate=counters["succeeded"] / ended if ended else None,
        latency_ms=quantiles(sums.histogram, counters["max_us"] / 1000),
        consecutive_failures=health.consecutive_failures if health else 0,
        last_success_at=health.last_success_at if health else None,
        last_failure_at=health.last_failure_at if health else None,
        backlog_age_seconds=max((from_ms(now) - oldest).total_seconds(), 0.0) if oldest else None,
    )
