"""Events: what happened, published once."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import orjson
import strawberry

from models.event import Event as EventRow
from models.ids import Prefix
from resolvers import events
from resolvers.caller import Scope
from resolvers.events import WrittenEvent
from resolvers.inputs import EventDraft
from schema import delivery
from schema.context import Info
from schema.errors import Forbidden, IdempotencyConflict, RateLimited, ValidationFailed
from schema.fields import field
from schema.inputs import made_of_scalars
from schema.node import Node, id_of
from schema.paging import After, Before, CountedConnection, First, Last, page_request
from schema.scalars import JSON
from schema.scopes import RequiresScopes

if TYPE_CHECKING:
    from schema.delivery import Delivery


@strawberry.type(description="Something that happened, published once. It never changes.")
class Event(Node):
    row: strawberry.Private[EventRow | WrittenEvent]
    type: str = strawberry.field(description="What kind of thing happened, such as `order.created`.")
    occurred_at: datetime = strawberry.field(description="When it happened, by the publisher's word.")
    received_at: datetime = strawberry.field(description="When it was published.")
    size_bytes: int = strawberry.field(description="Of `data`, as JSON in UTF-8.")

    @field(description="What the publisher said of it: any JSON value, byte for byte as it is sent.")
    def data(self) -> JSON:
        return orjson.Fragment(self.row.data)

    @field(
        description="What became of it: one delivery for each webhook that wanted it, the latest first.",
        extensions=[RequiresScopes(Scope.DELIVERIES_READ)],
    )
    async def deliveries(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
    ) -> CountedConnection[Annotated["Delivery", strawberry.lazy("schema.delivery")]] | None:
        request = page_request(first, after, last, before)
        loaders = info.context.loaders
        page = await loaders.deliveries_of_event(request).load(self.row.id)
        return delivery.connection(page, lambda: loaders.delivery_count_of_event.load(self.row.id))

    @classmethod
    def of(cls, row: EventRow | WrittenEvent) -> "Event":
        return cls(
            id=id_of(Prefix.EVENT, row.id),
            row=row,
            type=row.type,
            occurred_at=row.occurred_at,
            received_at=row.received_at,
            size_bytes=len(row.data),
        )


@made_of_scalars
@strawberry.input(description="An event to publish.")
class PublishEventInput:
    type: str = strawberry.field(
        description=(
            "Words joined by dots or slashes, such as `order.created`; at most 200 characters. Once the organization "
            "has a catalogue, it must be in it; see `Query.eventTypes`."
        )
    )
    data: JSON = strawberry.field(
        description="Any JSON value but null, at most `Limits.maxPayloadBytes`; less than 20 kB is advised."
    )
    occurred_at: datetime | None = strawberry.field(description="When it happened. Left out: now.")
    idempotency_key: str | None = strawberry.field(
        description=(
            "Your own key, at most 255 characters. The same key with the same type and data within 24 hours is the "
            "same event: it is not published again, and `duplicate` is true."
        )
    )

    def to_draft(self) -> EventDraft:
        return EventDraft(self.type, self.data, self.occurred_at, self.idempotency_key)


@strawberry.type(description="The event is stored with its deliveries; sending begins at once.")
class PublishEventPayload:
    event: Event = strawberry.field(description="The event.")
    matched_webhook_count: int = strawberry.field(description="How many webhooks it goes to.")
    duplicate: bool = strawberry.field(description="True when the idempotency key had been seen: nothing new was sent.")

    @classmethod
    def of(cls, published: events.Published) -> "PublishEventPayload":
        return cls(
            event=Event.of(published.event),
            matched_webhook_count=published.matched_webhook_count,
            duplicate=published.duplicate,
        )


@strawberry.type(description="All of the events are stored with their deliveries.")
class PublishEventsPayload:
    results: list[PublishEventPayload] = strawberry.field(description="One for each event, in the order of the input.")


PublishEventResult = Annotated[
    PublishEventPayload | ValidationFailed | IdempotencyConflict | RateLimited | Forbidden,
    strawberry.union("PublishEventResult", description="What `publishEvent` answers."),
]
PublishEventsResult = Annotated[
    PublishEventsPayload | ValidationFailed | IdempotencyConflict | RateLimited | Forbidden,
    strawberry.union(
        "PublishEventsResult",
        description="What `publishEvents` answers. The paths in `ValidationFailed` name each event by its place.",
    ),
]
