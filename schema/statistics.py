"""How a webhook has been doing."""

from datetime import datetime
from typing import Annotated

import strawberry

from models.latency import Quantiles
from resolvers import statistics
from resolvers.statistics import StatsWindow
from schema.context import Info
from schema.enums import shown
from schema.fields import field

shown(
    StatsWindow,
    "A span that ends now.",
    {
        StatsWindow.HOUR: "60 minutes.",
        StatsWindow.DAY: "24 hours.",
        StatsWindow.WEEK: "7 days.",
        StatsWindow.MONTH: "30 days.",
    },
)


@strawberry.type(description="Deliveries by where they stand. Tests are not counted.")
class DeliveryCounts:
    pending: int = strawberry.field(description="Waiting now for their first attempt, or in it.")
    succeeded: int = strawberry.field(description="Delivered within the window.")
    retrying: int = strawberry.field(description="Failed at least once, and waiting now for the next attempt or in it.")
    dead_lettered: int = strawberry.field(description="Given up within the window.")
    canceled: int = strawberry.field(description="Canceled within the window.")


@strawberry.type(
    description=(
        "How long receivers took to answer, in milliseconds, over all attempts of the window. From a histogram: within "
        "19 % of the truth, and usually closer; `max` is exact."
    )
)
class LatencyQuantiles:
    p50: float = strawberry.field(description="Half of the attempts were faster.")
    p95: float = strawberry.field(description="95 % of the attempts were faster.")
    p99: float = strawberry.field(description="99 % of the attempts were faster.")
    max: float = strawberry.field(description="The slowest attempt.")

    @classmethod
    def of(cls, quantiles: Quantiles) -> "LatencyQuantiles":
        return cls(p50=quantiles.p50, p95=quantiles.p95, p99=quantiles.p99, max=quantiles.max)


@strawberry.type(description="One slice of a window. Counts attempts, not deliveries.")
class StatsBucket:
    start: datetime = strawberry.field(description="When the slice begins.")
    attempts: int = strawberry.field(description="Attempts that ended in the slice.")
    succeeded: int = strawberry.field(description="Those of them that were answered 2xx.")
    failed: int = strawberry.field(description="The others.")
    p95_latency_ms: float | None = strawberry.field(
        name="p95LatencyMs", description="95 % of the attempts were faster. Null when there were none."
    )

    @classmethod
    def of(cls, bucket: statistics.StatsBucket) -> "StatsBucket":
        return cls(
            start=bucket.start,
            attempts=bucket.attempts,
            succeeded=bucket.succeeded,
            failed=bucket.failed,
            p95_latency_ms=bucket.p95_latency_ms,
        )


@strawberry.type(
    description="A webhook's figures over a rolling window that ends now. Tests are not counted. Cheap to read."
)
class DeliveryStats:
    found: strawberry.Private[statistics.DeliveryStats]
    since: datetime = strawberry.field(description="When the window begins.")
    deliveries: DeliveryCounts = strawberry.field(description="Deliveries by where they stand.")
    attempts: int = strawberry.field(description="HTTP requests that ended within the window.")
    success_rate: float | None = strawberry.field(
        description="0..1, of the deliveries that succeeded or were given up; null when nothing finished in the window."
    )
    latency_ms: LatencyQuantiles | None = strawberry.field(
        description="How long the receiver took. Null when there were no attempts."
    )
    consecutive_failures: int = strawberry.field(description="Failed attempts since the last success, whenever it was.")
    last_success_at: datetime | None = strawberry.field(description="The last 2xx, whenever it was.")
    last_failure_at: datetime | None = strawberry.field(description="The last failed attempt, whenever it was.")
    backlog_age_seconds: float | None = strawberry.field(
        description="Age of the oldest delivery that still waits. Null when nothing waits."
    )

    @field(description="Even slices of the window, oldest first, empty ones included.")
    async def buckets(
        self,
        info: Info,
        count: Annotated[int, strawberry.argument(description="How many slices: 1 to 100.")] = 24,
    ) -> list[StatsBucket]:
        loader = info.context.loaders.buckets_of_webhook(self.found.window, count)
        return [StatsBucket.of(bucket) for bucket in await loader.load(self.found.webhook_id) or ()]

    @classmethod
    def of(cls, found: statistics.DeliveryStats) -> "DeliveryStats":
        counts = found.deliveries
        return cls(
            found=found,
            since=found.since,
            deliveries=DeliveryCounts(
                pending=counts.pending,
                succeeded=counts.succeeded,
                retrying=counts.retrying,
                dead_lettered=counts.dead_lettered,
                canceled=counts.canceled,
            ),
            attempts=found.attempts,
            success_rate=found.success_rate,
            latency_ms=LatencyQuantiles.of(found.latency_ms) if found.latency_ms else None,
            consecutive_failures=found.consecutive_failures,
            last_success_at=found.last_success_at,
            last_failure_at=found.last_failure_at,
            backlog_age_seconds=found.backlog_age_seconds,
        )
