"""Replays: past deliveries, made again."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from models.ids import Prefix
from models.replay import Replay as ReplayRow
from resolvers.caller import Scope
from resolvers.inputs import ReplayDraft
from schema import webhook
from schema.context import Info
from schema.delivery import DateTimeRangeInput
from schema.enums import ReplayStatus
from schema.errors import Forbidden, NotFound, ValidationFailed, WebhookNotEnabled
from schema.fields import field
from schema.node import Node, id_of
from schema.paging import given
from schema.scopes import RequiresScopes

if TYPE_CHECKING:
    from schema.webhook import Webhook


@strawberry.type(
    description=(
        "Past deliveries, made again. It goes on by itself, whatever becomes of whoever asked. Each of its deliveries "
        "carries the event's own `webhook-id` and body, signed with today's secret, is tried again like any other, "
        "and gives way to what is new. Counted in the statistics, not in the webhook's health."
    )
)
class Replay(Node):
    row: strawberry.Private[ReplayRow]
    status: ReplayStatus = strawberry.field(description="Where it stands.")
    total: int = strawberry.field(
        description="How many deliveries it will make: counted while QUEUED, put right when all are made."
    )
    enqueued: int = strawberry.field(description="How many it has made.")
    succeeded: int = strawberry.field(description="How many of them have SUCCEEDED.")
    failed: int = strawberry.field(description="How many of them are DEAD_LETTERED.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    completed_at: datetime | None = strawberry.field(description="When nothing of it was left to do. Null until then.")

    @field(
        description="Where its deliveries go. Null once the webhook is deleted.",
        extensions=[RequiresScopes(Scope.WEBHOOKS_READ)],
    )
    async def webhook(self, info: Info) -> Annotated["Webhook", strawberry.lazy("schema.webhook")] | None:
        row = await info.context.loaders.webhook_by_id.load(self.row.webhook_id)
        return None if row is None else webhook.Webhook.of(row)

    @classmethod
    def of(cls, row: ReplayRow) -> "Replay":
        return cls(
            id=id_of(Prefix.REPLAY, row.id),
            row=row,
            status=row.status,
            total=row.total,
            enqueued=row.enqueued,
            succeeded=row.succeeded,
            failed=row.failed,
            created_at=row.created_at,
            completed_at=row.completed_at,
        )


@strawberry.input(one_of=True, description="What to make again: exactly one of the four. Tests are never among it.")
class ReplaySelectionInput:
    delivery_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET, description="These deliveries of the webhook, whatever became of them; at most 100."
    )
    event_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="These events, whether the webhook's patterns match them or not; at most 100.",
    )
    failed: DateTimeRangeInput | None = strawberry.field(
        default=strawberry.UNSET,
        description=(
            "Everything that ended DEAD_LETTERED in the range, unless its event has been delivered since or is on its "
            "way; each event once."
        ),
    )
    missing: DateTimeRangeInput | None = strawberry.field(
        default=strawberry.UNSET,
        description=(
            "Every event received in the range that the webhook's patterns match today, unless it was delivered to "
            "this webhook or is on its way."
        ),
    )

    def to_draft(self) -> ReplayDraft:
        failed, missing = given(self.failed), given(self.missing)
        return ReplayDraft(
            delivery_ids=given(self.delivery_ids),
            event_ids=given(self.event_ids),
            failed=failed.to_range() if failed else None,
            missing=missing.to_range() if missing else None,
        )


@strawberry.input(description="What to make again, and where it goes.")
class ReplayDeliveriesInput:
    webhook_id: strawberry.ID = strawberry.field(description="`whk_…`; it must be ENABLED.")
    select: ReplaySelectionInput = strawberry.field(description="Which deliveries or events.")


@strawberry.input(description="Which replay to end.")
class CancelReplayInput:
    id: strawberry.ID = strawberry.field(description="`rpl_…`")


@strawberry.type(description="The replay is stored, and goes on by itself.")
class ReplayDeliveriesPayload:
    replay: Replay = strawberry.field(
        description="The replay. Watch `Subscription.replayProgressed`, or ask `Query.replay`, how far it is."
    )


@strawberry.type(description="Nothing more is made, and what waited is canceled. What is being sent ends.")
class CancelReplayPayload:
    replay: Replay = strawberry.field(description="The replay as it stands. One that was finished stays as it was.")


ReplayDeliveriesResult = Annotated[
    ReplayDeliveriesPayload | ValidationFailed | NotFound | WebhookNotEnabled | Forbidden,
    strawberry.union("ReplayDeliveriesResult", description="What `replayDeliveries` answers."),
]
CancelReplayResult = Annotated[
    CancelReplayPayload | NotFound | Forbidden,
    strawberry.union("CancelReplayResult", description="What `cancelReplay` answers."),
]
