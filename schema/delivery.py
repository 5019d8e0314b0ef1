"""Deliveries, and the attempts they are made of."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import orjson
import strawberry

from models.attempt import Attempt as AttemptRow
from models.delivery import Delivery as DeliveryRow
from models.ids import Prefix
from resolvers import deliveries
from resolvers.caller import Scope
from resolvers.inputs import DeliveryFilter, MomentRange
from resolvers.paging import Page
from schema import event, webhook
from schema.context import Info
from schema.enums import AttemptOutcome, DeliveryStatus, DeliveryTrigger
from schema.fields import field
from schema.node import Node, id_of
from schema.paging import CountedConnection
from schema.scopes import RequiresScopes

if TYPE_CHECKING:
    from schema.event import Event
    from schema.webhook import Webhook


@strawberry.type(description="One HTTP header. Of several with one name, each is listed.")
class HttpHeader:
    name: str = strawberry.field(description="In lower case where we set it, else as it came.")
    value: str = strawberry.field(description="Custom header values are shown as `[redacted]`.")


class _RequiresScopesForStored(RequiresScopes):
    """What is previewed, its asker gave or was allowed to read."""

    async def resolve_async(
        self, next_: Callable[..., Awaitable[Any]], source: Any, info: Info, **arguments: Any
    ) -> Any:
        if source.previewed is not None:
            return await next_(source, info, **arguments)
        return await super().resolve_async(next_, source, info, **arguments)


@strawberry.type(description="What was sent; in a preview, what would be.")
class AttemptRequest:
    delivery_id: strawberry.Private[UUID | None]
    """Whose body it is; None in a preview."""
    url: str = strawberry.field(description="Where it went.")
    headers: list[HttpHeader] = strawberry.field(
        description="All of them, signatures included; the values of custom headers are redacted."
    )
    body_bytes: int = strawberry.field(description="The body's length.")
    previewed: strawberry.Private[bytes | None] = None

    @field(
        description=(
            "The body, byte for byte as it was signed. Null once the event is forgotten. Always readable in a preview."
        ),
        extensions=[_RequiresScopesForStored(Scope.EVENTS_READ)],
    )
    async def body(self, info: Info) -> str | None:
        body = self.previewed
        if self.delivery_id is not None:
            body = await info.context.loaders.body_of_delivery.load(self.delivery_id)
        return None if body is None else body.decode()

    @field(
        description=(
            "A command that sends the same request again; paste it into a shell. It carries the body only for keys "
            "that may read `body`."
        )
    )
    async def curl(self, info: Info) -> str:
        readable = self.previewed is not None or Scope.EVENTS_READ in info.context.caller.scopes
        body = await self.body(info) if readable else None
        return deliveries.curl(self.url, [(header.name, header.value) for header in self.headers], body)


@strawberry.type(description="What came back.")
class AttemptResponse:
    status_code: int = strawberry.field(description="The HTTP status.")
    headers: list[HttpHeader] = strawberry.field(description="As they came.")
    body_excerpt: str | None = strawberry.field(
        description="The first 1,024 bytes, as text; what is not UTF-8 is replaced. Null when there was no body."
    )
    body_truncated: bool = strawberry.field(description="Whether there was more.")


def _headers(stored: str | None) -> list[HttpHeader]:
    return [HttpHeader(name=name, value=value) for name, value in orjson.loads(stored or "[]")]


@strawberry.type(description="One HTTP request of a delivery.")
class DeliveryAttempt(Node):
    row: strawberry.Private[AttemptRow]
    number: int = strawberry.field(description="1 for the first attempt of its delivery.")
    outcome: AttemptOutcome = strawberry.field(description="How it ended.")
    error: str | None = strawberry.field(description="Why it failed: one line of English, safe to show.")
    started_at: datetime = strawberry.field(description="When the connection was begun.")
    duration_ms: float = strawberry.field(description="From before the connect to the last byte read.")

    @field(description="The delivery it belongs to.")
    async def delivery(self, info: Info) -> "Delivery":
        row = await info.context.loaders.delivery_by_id.load(self.row.delivery_id)
        if row is None:
            raise LookupError(f"attempt {self.id} has no delivery")
        return Delivery.of(row)

    @field(
        description="Exactly what was sent, signatures included. Null when nothing was sent, as after a fault of ours."
    )
    def request(self) -> AttemptRequest | None:
        if self.row.request_url is None:
            return None
        return AttemptRequest(
            delivery_id=self.row.delivery_id,
            url=self.row.request_url,
            headers=_headers(self.row.request_headers),
            body_bytes=self.row.request_bytes,
        )

    @field(description="What came back. Null when no answer came.")
    def response(self) -> AttemptResponse | None:
        if self.row.response_status is None:
            return None
        excerpt = self.row.response_excerpt
        return AttemptResponse(
            status_code=self.row.response_status,
            headers=_headers(self.row.response_headers),
            body_excerpt=bytes(excerpt).decode(errors="replace") if excerpt else None,
            body_truncated=self.row.response_truncated,
        )

    @classmethod
    def of(cls, row: AttemptRow) -> "DeliveryAttempt":
        return cls(
            id=id_of(Prefix.ATTEMPT, row.id),
            row=row,
            number=row.number,
            outcome=row.outcome,
            error=row.error,
            started_at=row.started_at,
            duration_ms=row.duration_us / 1000,
        )


@strawberry.type(
    description=(
        "One event on its way to one webhook. PENDING until its first attempt, SENDING during each, RETRYING between "
        "them; it ends as SUCCEEDED, DEAD_LETTERED or CANCELED. Every attempt carries the same `webhook-id` and body."
    )
)
class Delivery(Node):
    row: strawberry.Private[DeliveryRow]
    status: DeliveryStatus = strawberry.field(description="Where it stands.")
    trigger: DeliveryTrigger = strawberry.field(description="Why it was made.")
    attempt_count: int = strawberry.field(description="Attempts begun, the one under way included.")
    next_attempt_at: datetime | None = strawberry.field(
        description="When it is due. Null when it is finished, under way, or kept for a PAUSED webhook."
    )
    created_at: datetime = strawberry.field(description="When it was made.")
    completed_at: datetime | None = strawberry.field(description="When it ended, however it ended.")

    @field(
        description="What it delivers. Null once the event is forgotten, see `Limits.payloadRetentionDays`.",
        extensions=[RequiresScopes(Scope.EVENTS_READ)],
    )
    async def event(self, info: Info) -> Annotated["Event", strawberry.lazy("schema.event")] | None:
        row = await info.context.loaders.event_by_id.load(self.row.event_id)
        return None if row is None else event.Event.of(row)

    @field(
        description="Where it goes. Null once the webhook is deleted.",
        extensions=[RequiresScopes(Scope.WEBHOOKS_READ)],
    )
    async def webhook(self, info: Info) -> Annotated["Webhook", strawberry.lazy("schema.webhook")] | None:
        row = await info.context.loaders.webhook_by_id.load(self.row.webhook_id)
        return None if row is None else webhook.Webhook.of(row)

    @field(description="The delivery this one repeats. Null unless `trigger` is REPLAY.")
    async def replay_of(self, info: Info) -> "Delivery | None":
        if self.row.replay_of_id is None:
            return None
        row = await info.context.loaders.delivery_by_id.load(self.row.replay_of_id)
        return None if row is None else Delivery.of(row)

    @field(description="Oldest first. Bounded by the retry policy, so a list and not a page.")
    async def attempts(self, info: Info) -> list[DeliveryAttempt]:
        rows = await info.context.loaders.attempts_of_delivery.load(self.row.id)
        return [DeliveryAttempt.of(row) for row in rows or ()]

    @field(description="The latest attempt that ended. Null before the first has.")
    async def last_attempt(self, info: Info) -> DeliveryAttempt | None:
        rows = await info.context.loaders.attempts_of_delivery.load(self.row.id)
        return DeliveryAttempt.of(rows[-1]) if rows else None

    @classmethod
    def of(cls, row: DeliveryRow) -> "Delivery":
        return cls(
            id=id_of(Prefix.DELIVERY, row.id),
            row=row,
            status=row.status,
            trigger=row.trigger,
            attempt_count=row.attempt_count,
            next_attempt_at=row.due_at,
            created_at=row.created_at,
            completed_at=row.completed_at,
        )


def connection(
    page: Page[DeliveryRow] | None, count: Callable[[], Awaitable[int | None]]
) -> CountedConnection[Delivery] | None:
    """A page of deliveries as callers see it."""
    return None if page is None else CountedConnection(page=page, shown=Delivery.of, count=count)


@strawberry.input(description="A range of whole numbers, both ends included; either may be left out.")
class IntRangeInput:
    gte: int | None = strawberry.field(description="At least.")
    lte: int | None = strawberry.field(description="At most.")


@strawberry.input(description="A span of time; either end may be left out.")
class DateTimeRangeInput:
    since: datetime | None = strawberry.field(description="From then on, that moment included.")
    until: datetime | None = strawberry.field(description="Until then, that moment excluded.")

    def to_range(self) -> MomentRange:
        return MomentRange(self.since, self.until)


@strawberry.input(description="Which deliveries. All that is given must hold; of a list, one.")
class DeliveryFilterInput:
    status: list[DeliveryStatus] | None = strawberry.field(description="Where it stands.")
    event_types: list[str] | None = strawberry.field(description="The event's type, exactly; no patterns.")
    outcome: list[AttemptOutcome] | None = strawberry.field(description="How its last attempt ended.")
    status_code: IntRangeInput | None = strawberry.field(description="What its last attempt was answered.")
    created: DateTimeRangeInput | None = strawberry.field(description="When it was made.")
    trigger: list[DeliveryTrigger] | None = strawberry.field(description="Why it was made.")


def delivery_filter(given: DeliveryFilterInput | None) -> DeliveryFilter:
    """The filter as the resolvers take it; an empty one when none is given."""
    if not given:
        return DeliveryFilter()
    code = given.status_code
    return DeliveryFilter(
        status=given.status,
        event_types=given.event_types,
        outcome=given.outcome,
        status_code_gte=code.gte if code else None,
        status_code_lte=code.lte if code else None,
        created=given.created.to_range() if given.created else MomentRange(),
        trigger=given.trigger,
    )
