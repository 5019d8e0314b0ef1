"""Replays: asking for past deliveries to be made again. Workers make them (`workers/replaying.py`)."""

from collections.abc import Sequence
from uuid import UUID

from tortoise.transactions import in_transaction

from models.delivery import Delivery, DeliveryTrigger
from models.event import Event
from models.ids import Prefix, encode, new_id
from models.moment import from_ms
from models.replay import Replay, ReplaySelection, ReplayStatus
from models.webhook import Webhook, WebhookStatus
from resolvers.caller import Caller, Scope
from resolvers.errors import FieldErrorCode, NotFound, ValidationFailed, WebhookNotEnabled
from resolvers.inputs import MomentRange, ReplayDraft
from resolvers.lookup import decoded, own
from workers.announcements import Topic
from workers.replaying import advance

MAX_IDS = 100


async def create(caller: Caller, webhook_id: str, draft: ReplayDraft) -> Replay:
    """Asks for deliveries to be made again. What is named by ids begins at once, a range within seconds.

    Raises ValidationFailed, NotFound (for the webhook, and for each delivery and event that is named),
    WebhookNotEnabled, Forbidden.
    """
    caller.require(Scope.DELIVERIES_REPLAY)
    webhook = await own(caller, Webhook.filter(deleted_at__isnull=True), Prefix.WEBHOOK, webhook_id)
    if webhook.status is not WebhookStatus.ENABLED:
        raise WebhookNotEnabled(webhook.status, webhook.disabled_reason)
    now = caller.desk.clock()
    replay = Replay(
        id=new_id(),
        organization_id=caller.organization_id,
        webhook_id=webhook.id,
        created_at=from_ms(now),
    )
    if draft.delivery_ids is not None:
        replay.selection = ReplaySelection.DELIVERIES
        replay.ids = [str(one) for one in await _deliveries(caller, webhook, draft.delivery_ids)]
    elif draft.event_ids is not None:
        replay.selection = ReplaySelection.EVENTS
        replay.ids = [str(one) for one in await _events(caller, draft.event_ids)]
    else:
        name, span = ("failed", draft.failed) if draft.failed is not None else ("missing", draft.missing)
        replay.selection = ReplaySelection[name.upper()]
        _set_range(replay, name, span or MomentRange())
    await replay.save(force_create=True)
    if replay.ids is not None:
        # Should this process die here, a worker goes on.
        await advance(caller.desk.ledger, caller.desk.wake, now, replay.id, webhook.id)
        await replay.refresh_from_db()
    return replay


async def get(caller: Caller, id: str) -> Replay:
    """Raises NotFound, Forbidden."""
    caller.require(Scope.DELIVERIES_READ)
    return await own(caller, Replay.all(), Prefix.REPLAY, id)


async def cancel(caller: Caller, id: str) -> Replay:
    """Makes nothing more, and cancels what waits; what is being sent ends. One that is finished stays as it is.

    Raises NotFound, Forbidden.
    """
    caller.require(Scope.DELIVERIES_REPLAY)
    desk, now = caller.desk, caller.desk.clock()
    replay = await own(caller, Replay.all(), Prefix.REPLAY, id)
    async with in_transaction() as transaction:
        going = Replay.filter(id=replay.id, status__in=[ReplayStatus.QUEUED, ReplayStatus.RUNNING])
        if await going.using_db(transaction).update(status=ReplayStatus.CANCELED):
            await desk.ledger.cancel_replayed(replay.id, now, within=transaction)
    await advance(desk.ledger, desk.wake, now, replay.id, replay.webhook_id)
    desk.announce(Topic.REPLAYS, [caller.organization_id])
    await replay.refresh_from_db()
    return replay


async def _deliveries(caller: Caller, webhook: Webhook, ids: Sequence[str]) -> list[UUID]:
    """Those of them that are to be made again: of several deliveries of one event, the last."""
    wanted = _few(Prefix.DELIVERY, "deliveryIds", ids)
    found = Delivery.filter(
        id__in=wanted,
        organization_id=caller.organization_id,
        webhook_id=webhook.id,
        trigger__not=DeliveryTrigger.TEST,
    )
    events = {row[0]: row[1] for row in await found.values_list("id", "event_id")}
    kept = set(await Event.filter(id__in=list(events.values())).values_list("id", flat=True))
    for delivery_id in wanted:
        if events.get(delivery_id) not in kept:
            raise NotFound(encode(Prefix.DELIVERY, delivery_id))
    return list({event_id: delivery_id for delivery_id, event_id in sorted(events.items())}.values())


async def _events(caller: Caller, ids: Sequence[str]) -> list[UUID]:
    wanted = _few(Prefix.EVENT, "eventIds", ids)
    found = Event.filter(id__in=wanted, organization_id=caller.organization_id, is_test=False)
    kept = set(await found.values_list("id", flat=True))
    for event_id in wanted:
        if event_id not in kept:
            raise NotFound(encode(Prefix.EVENT, event_id))
    return wanted


def _few(prefix: Prefix, name: str, ids: Sequence[str]) -> list[UUID]:
    if not ids:
        raise ValidationFailed.of(("select", name), FieldErrorCode.TOO_SHORT, "give at least one id")
    if len(ids) > MAX_IDS:
        message = f"at most {MAX_IDS} ids; a range takes as many as there are"
        raise ValidationFailed.of(("select", name), FieldErrorCode.TOO_MANY, message)
    return list(dict.fromkeys(decoded(prefix, one) for one in ids))


def _set_range(replay: Replay, name: str, span: MomentRange) -> None:
    """What ends in the future ends now: a replay is of what has been."""
    until = min(span.until or replay.created_at, replay.created_at)
    if span.since is not None and span.since >= until:
        message = "must be before `until`" if span.until else "must be in the past"
        raise ValidationFailed.of(("select", name, "since"), FieldErrorCode.OUT_OF_RANGE, message)
    replay.since, replay.until = span.since, until
