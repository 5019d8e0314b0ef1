"""What can be watched live. Each field asks, and shows what comes; a refusal ends the stream as the field's error."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated, TypeVar

import strawberry

from models.ids import Prefix
from resolvers import streams
from resolvers.caller import Scope
from resolvers.sources import AttemptMade, EventMade, Streamed, WebhookChanged, WebhookChangeKind
from resolvers.statistics import StatsWindow
from resolvers.streams import AttemptStreamFilter
from schema.context import Info
from schema.delivery import DeliveryAttempt
from schema.enums import AttemptOutcome, shown
from schema.event import Event
from schema.fields import field, subscription
from schema.loaders import Loaders
from schema.node import id_of
from schema.paging import given
from schema.replay import Replay
from schema.scalars import Cursor
from schema.scopes import RequiresScopes
from schema.statistics import DeliveryStats
from schema.webhook import Webhook

T = TypeVar("T")
V = TypeVar("V")

SKIPPED = (
    "How many were dropped since the last message, because this subscriber was slow: at most 256 wait for it. Resume "
    "with the cursor before to get them all."
)

shown(
    WebhookChangeKind,
    "What happened to a webhook.",
    {
        WebhookChangeKind.CREATED: "It is new.",
        WebhookChangeKind.UPDATED: "Something of it was changed.",
        WebhookChangeKind.DELETED: "It is gone.",
        WebhookChangeKind.SECRET_ROTATED: "It has a new secret.",
        WebhookChangeKind.AUTO_DISABLED: "It was turned off by what its receiver did; see `disabledReason`.",
    },
)


@strawberry.input(description="Which attempts. All that is given must hold; of a list, one.")
class DeliveryStreamFilterInput:
    webhook_ids: list[strawberry.ID] | None = strawberry.field(description="Of these webhooks, `whk_…`.")
    event_types: list[str] | None = strawberry.field(description="Event types, `prefix.*`, or `*`; at most 50.")
    outcome: list[AttemptOutcome] | None = strawberry.field(description="How it ended.")
    only_failures: bool = strawberry.field(default=False, description="Nothing that succeeded.")

    def to_filter(self) -> AttemptStreamFilter:
        return AttemptStreamFilter(self.webhook_ids, self.event_types, self.outcome, self.only_failures)


@strawberry.type(description="An attempt that has just ended.")
class DeliveryAttemptedEvent:
    cursor: Cursor = strawberry.field(description="Resumes behind this attempt: hand it back as `after`.")
    skipped: int = strawberry.field(description=SKIPPED)
    attempt: DeliveryAttempt = strawberry.field(description="The attempt.")

    @classmethod
    def of(cls, streamed: Streamed[AttemptMade], loaders: Loaders) -> "DeliveryAttemptedEvent":
        made = streamed.item
        loaders.delivery_by_id.prime(made.delivery.id, made.delivery)  # it was read for all subscribers at once
        return cls(cursor=made.cursor, skipped=streamed.skipped, attempt=DeliveryAttempt.of(made.attempt))


@strawberry.type(description="A webhook that has just changed.")
class WebhookChangedEvent:
    item: strawberry.Private[WebhookChanged]
    kind: WebhookChangeKind = strawberry.field(description="What happened.")
    webhook_id: strawberry.ID = strawberry.field(description="`whk_…`")

    @field(description="The webhook as it stands now. Null once it is deleted.")
    async def webhook(self, info: Info) -> Webhook | None:
        row = await info.context.loaders.webhook_by_id.load(self.item.webhook_id)
        return None if row is None else Webhook.of(row)

    @classmethod
    def of(cls, streamed: Streamed[WebhookChanged], loaders: Loaders) -> "WebhookChangedEvent":
        changed = streamed.item
        return cls(item=changed, kind=changed.kind, webhook_id=id_of(Prefix.WEBHOOK, changed.webhook_id))


@strawberry.type(description="An event that has just been published.")
class EventPublishedEvent:
    cursor: Cursor = strawberry.field(description="Resumes behind this event: hand it back as `after`.")
    skipped: int = strawberry.field(description=SKIPPED)
    event: Event = strawberry.field(description="The event.")

    @classmethod
    def of(cls, streamed: Streamed[EventMade], loaders: Loaders) -> "EventPublishedEvent":
        return cls(cursor=streamed.item.cursor, skipped=streamed.skipped, event=Event.of(streamed.item.event))


After = Annotated[
    Cursor | None,
    strawberry.argument(
        description="The last `cursor` seen: begins with what came behind it, however long ago. Left out: from now on."
    ),
]


@strawberry.type(
    description=(
        "What can be watched live, over graphql-transport-ws (`connection_init` carries `authorization`) or as "
        "server-sent events (POST with `Accept: text/event-stream`). A stream ends with an error when its key is "
        "revoked or expires, within a few seconds."
    )
)
class Subscription:
    @subscription(
        description=(
            "Every finished attempt, as it happens, tests included. Resume with the last `cursor` seen: nothing in "
            "between is missed, also when the server was restarted meanwhile."
        ),
        extensions=[RequiresScopes(Scope.DELIVERIES_READ)],
    )
    async def delivery_attempted(
        self,
        info: Info,
        filter: Annotated[
            DeliveryStreamFilterInput | None, strawberry.argument(description="Which of them.")
        ] = strawberry.UNSET,
        after: After = strawberry.UNSET,
    ) -> AsyncGenerator[DeliveryAttemptedEvent, None]:
        wanted = filter.to_filter() if filter else AttemptStreamFilter()
        stream = streams.deliveries_attempted(info.context.caller, wanted, given(after))
        return _shown(info, stream, DeliveryAttemptedEvent.of)

    @subscription(
        description=(
            "Every change of the webhooks, as it happens. Changes that follow each other within milliseconds may be "
            "told as one."
        ),
        extensions=[RequiresScopes(Scope.WEBHOOKS_READ)],
    )
    async def webhook_changed(
        self,
        info: Info,
        ids: Annotated[
            list[strawberry.ID] | None, strawberry.argument(description="Of these, `whk_…`. Left out: of all.")
        ] = strawberry.UNSET,
    ) -> AsyncGenerator[WebhookChangedEvent, None]:
        return _shown(info, streams.webhooks_changed(info.context.caller, given(ids)), WebhookChangedEvent.of)

    @subscription(
        description=(
            "The event stream itself: what a webhook would get, without a server of your own. For GraphiQL and local "
            "development. Tests of webhooks are not in it."
        ),
        extensions=[RequiresScopes(Scope.EVENTS_READ)],
    )
    async def event_published(
        self,
        info: Info,
        patterns: Annotated[
            list[str], strawberry.argument(description="Event types, `prefix.*`, or `*`; at most 50.")
        ] = ["*"],  # noqa: B006 — nobody writes to it
        after: After = strawberry.UNSET,
    ) -> AsyncGenerator[EventPublishedEvent, None]:
        stream = streams.events_published(info.context.caller, patterns, given(after))
        return _shown(info, stream, EventPublishedEvent.of)

    @subscription(
        description=(
            "A replay: as it stands now, and again whenever it has moved, five times a second at most. Ends when the "
            "replay has ended: the last message has `completedAt`."
        ),
        extensions=[RequiresScopes(Scope.DELIVERIES_READ)],
    )
    async def replay_progressed(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="`rpl_…`")]
    ) -> AsyncGenerator[Replay, None]:
        stream = await streams.replay_progressed(info.context.caller, id)
        return _shown(info, stream, lambda found, _: Replay.of(found))

    @subscription(
        description=(
            "A webhook's figures: now, and again whenever they change, at most once a second. Ends when the webhook is "
            "deleted."
        ),
        extensions=[RequiresScopes(Scope.WEBHOOKS_READ)],
    )
    async def delivery_stats_changed(
        self,
        info: Info,
        webhook_id: Annotated[strawberry.ID, strawberry.argument(description="`whk_…`")],
        window: Annotated[StatsWindow, strawberry.argument(description="Over which span.")] = StatsWindow.HOUR,
    ) -> AsyncGenerator[DeliveryStats, None]:
        stream = await streams.stats_changed(info.context.caller, webhook_id, window)
        return _shown(info, stream, lambda found, _: DeliveryStats.of(found))


async def _shown(
    info: Info, stream: AsyncGenerator[T, None], show: Callable[[T, Loaders], V]
) -> AsyncGenerator[V, None]:
    """Each event with loaders of its own: those of the connection would answer with what they once found."""
    async with aclosing(stream):
        async for one in stream:
            yield show(one, info.context.for_next_event())
