"""Replays: what is selected, what is refused, and what is made however the work on it is cut up."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from app.wiring import House
from models.delivery import OPEN, Delivery, DeliveryStatus, DeliveryTrigger
from models.event import Event
from models.event_pattern import matches
from models.ids import Prefix, encode, id_at, new_id
from models.moment import from_ms, now_ms, to_ms
from models.replay import Replay, ReplayStatus
from models.webhook import Webhook, WebhookHealth, WebhookStatus
from resolvers import replays, webhooks
from resolvers.caller import Caller
from resolvers.errors import FieldErrorCode, NotFound, ValidationFailed, WebhookNotEnabled
from resolvers.inputs import MomentRange, ReplayDraft, WebhookChange, WebhookDraft
from tests.houses import id_of, new_caller, open_house, running, stored, until
from tests.ledgers import unreliable
from tests.receivers import Received, Receiver
from workers.replaying import ReplayPace, advance

PENDING, SENDING, RETRYING, SUCCEEDED, DEAD_LETTERED, CANCELED = DeliveryStatus
BODY = b'{"type":"order.paid","timestamp":"2026-11-21T00:00:00.000Z","data":{"n":1}}'
LATER = timedelta(seconds=2)
PACE = ReplayPace()
WAITING_MOST, BATCH = PACE.waiting, PACE.batch


@dataclass
class Stand:
    """A house with a webhook, and a past that a test makes up."""

    house: House
    caller: Caller
    webhook: Webhook
    pace: ReplayPace = PACE
    events: list[Event] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)

    @property
    def webhook_id(self) -> str:
        return id_of(self.webhook)

    def event(
        self, received_at: int, type: str = "order.paid", *, is_test: bool = False, of: Caller | None = None
    ) -> Event:
        """An event of then, not written yet."""
        organization_id = (of or self.caller).organization_id
        moment = from_ms(received_at)
        made = Event(
            id=id_at(received_at),
            organization_id=organization_id,
            type=type,
            occurred_at=moment,
            received_at=moment,
            body=BODY,
            data_offset=BODY.index(b'{"n"'),
            is_test=is_test,
        )
        self.events.append(made)
        return made

    def delivery(
        self,
        event: Event,
        status: DeliveryStatus,
        completed_at: int | None = None,
        webhook: Webhook | None = None,
        trigger: DeliveryTrigger = DeliveryTrigger.EVENT,
    ) -> Delivery:
        """A delivery of it, not written yet."""
        ended = from_ms(completed_at or to_ms(event.received_at))
        made = Delivery(
            id=id_at(to_ms(event.received_at)),
            organization_id=event.organization_id,
            webhook_id=(webhook or self.webhook).id,
            event_id=event.id,
            event_type=event.type,
            status=status,
            trigger=trigger,
            created_at=event.received_at,
            completed_at=None if status in OPEN else ended,
            dead_at=ended if status is DEAD_LETTERED else None,
        )
        self.deliveries.append(made)
        return made

    async def write(self) -> None:
        """Writes what was made up."""
        await Event.bulk_create(self.events, batch_size=500)
        await Delivery.bulk_create(self.deliveries, batch_size=500)
        self.events, self.deliveries = [], []

    async def past(self, count: int, status: DeliveryStatus = DEAD_LETTERED) -> list[Delivery]:
        """So many events of an hour ago, and what became of them."""
        hour_ago = now_ms() - 3_600_000
        made = [self.delivery(self.event(hour_ago + n), status) for n in range(count)]
        await self.write()
        return made

    async def replay(self, **draft: Any) -> Replay:
        return await replays.create(self.caller, self.webhook_id, ReplayDraft(**draft))

    async def advance(self, replay: Replay, later: timedelta = LATER) -> bool:
        now = now_ms() + round(later.total_seconds() * 1000)
        desk = self.house.desk
        return await advance(desk.ledger, desk.wake, now, replay.id, replay.webhook_id, self.pace)

    async def deliver(self, outcome: DeliveryStatus = SUCCEEDED) -> None:
        """Ends whatever waits, as if it had been sent."""
        done = from_ms(now_ms())
        await Delivery.filter(replay_id__isnull=False, completed_at__isnull=True).update(
            status=outcome, due_at=None, completed_at=done, dead_at=done if outcome is DEAD_LETTERED else None
        )

    async def finish(self, replay: Replay) -> Replay:
        """Works on it until it is finished, its deliveries succeeding at once."""
        for _ in range(1000):
            await self.advance(replay)
            await self.deliver()
            await replay.refresh_from_db()
            if replay.completed_at is not None:
                return replay
        raise AssertionError("the replay does not end")


@pytest.fixture
async def stand(database_url: str) -> AsyncIterator[Stand]:
    async with open_house(database_url) as house:
        caller = await new_caller(house.desk)
        draft = WebhookDraft("http://127.0.0.1:9/", ["order.*", "user.created"])
        yield Stand(house, caller, (await webhooks.create(caller, draft)).webhook)


async def made_by(replay: Replay) -> list[Delivery]:
    return await Delivery.filter(replay_id=replay.id).order_by("id")


def text(delivery: Delivery) -> str:
    return encode(Prefix.DELIVERY, delivery.id)


# ── what is selected ──


async def test_named_deliveries_are_made_again_at_once(stand: Stand) -> None:
    old = await stand.past(3, SUCCEEDED)
    replay = await stand.replay(delivery_ids=[text(one) for one in old[:2]])
    assert (replay.status, replay.total, replay.enqueued) == (ReplayStatus.RUNNING, 2, 2)
    made = await made_by(replay)
    assert [(one.event_id, one.replay_of_id) for one in made] == [(one.event_id, one.id) for one in old[:2]]
    for one in made:
        assert (one.status, one.trigger, one.event_type) == (PENDING, DeliveryTrigger.REPLAY, "order.paid")
        assert one.due_at == one.created_at


async def test_of_several_deliveries_of_one_event_the_last_is_made_again(stand: Stand) -> None:
    event = stand.event(now_ms() - 1000)
    stand.deliveries = [stand.delivery(event, DEAD_LETTERED) for _ in range(3)]
    first, second, third = sorted(stand.deliveries, key=lambda one: one.id)
    await stand.write()
    replay = await stand.replay(delivery_ids=[text(third), text(first), text(second)])
    assert [one.replay_of_id for one in await made_by(replay)] == [third.id]
    assert (replay.total, replay.enqueued) == (1, 1)


async def test_named_events_are_sent_whatever_the_patterns_say(stand: Stand) -> None:
    now = now_ms()
    wanted, unwanted = stand.event(now - 2000), stand.event(now - 1000, "mail.sent")
    old = stand.delivery(wanted, SUCCEEDED)
    await stand.write()
    replay = await stand.replay(event_ids=[encode(Prefix.EVENT, one.id) for one in (unwanted, wanted)])
    found = {one.event_id: one.replay_of_id for one in await made_by(replay)}
    assert found == {wanted.id: old.id, unwanted.id: None}


async def test_a_range_is_read_when_what_was_being_written_is_committed(stand: Stand) -> None:
    await stand.past(1)
    replay = await stand.replay(failed=MomentRange())
    assert (replay.status, replay.total) == (ReplayStatus.QUEUED, 0)
    assert replay.until == replay.created_at
    desk, asked = stand.house.desk, to_ms(replay.created_at)
    assert await advance(desk.ledger, desk.wake, asked + PACE.settling_ms - 1, replay.id, replay.webhook_id) is False
    assert await made_by(replay) == []
    assert await advance(desk.ledger, desk.wake, asked + PACE.settling_ms, replay.id, replay.webhook_id) is True
    assert len(await made_by(replay)) == 1


STATUSES = [*DeliveryStatus, DEAD_LETTERED, DEAD_LETTERED, SUCCEEDED]
TYPES = ["order.paid", "order.paid", "user.created", "user.deleted", "mail.sent"]
HOUR = 3_600_000


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", ["failed", "missing"])
async def test_a_range_selects_what_it_says(stand: Stand, name: str, seed: int) -> None:
    """Against a model that looks at everything, for a made-up past; in steps of a few rows."""
    stand.pace = ReplayPace(waiting=6, batch=3, looked_at=7)
    chance = random.Random(seed)
    other = (await webhooks.create(stand.caller, WebhookDraft("http://127.0.0.1:9/other", ["*"]))).webhook
    stranger = await new_caller(stand.house.desk)
    start = now_ms() - 10 * HOUR
    for n in range(60):
        of = stranger if chance.random() < 0.1 else stand.caller
        event = stand.event(start + n * HOUR // 8, chance.choice(TYPES), is_test=chance.random() < 0.1, of=of)
        for _ in range(chance.choice([0, 0, 1, 1, 2, 3])):
            ended = start + round(chance.uniform(n, 70) * HOUR / 8)
            trigger = DeliveryTrigger.TEST if event.is_test else DeliveryTrigger.EVENT
            webhook = other if chance.random() < 0.2 or of is stranger else stand.webhook
            stand.delivery(event, chance.choice(STATUSES), ended, webhook, trigger)
    events, deliveries = list(stand.events), list(stand.deliveries)
    await stand.write()
    since, before = (chance.choice([None, start + HOUR * chance.randrange(8)]) for _ in range(2))
    if since is not None and before is not None and since >= before:
        since, before = None, before
    if before == start:
        before = None
    span = MomentRange(from_ms(since) if since else None, from_ms(before) if before else None)

    expected = _model(stand, name, events, deliveries, since or 0, before or now_ms())
    replay = await stand.replay(**{name: span})
    finished = await stand.finish(replay)
    assert {one.event_id: one.replay_of_id for one in await made_by(replay)} == expected
    assert (finished.status, finished.total, finished.enqueued) == (
        ReplayStatus.COMPLETED, len(expected), len(expected),
    )  # fmt: skip


def _model(
    stand: Stand, name: str, events: Sequence[Event], deliveries: Sequence[Delivery], since: int, before: int
) -> dict[UUID, UUID | None]:
    """The events that a replay is to send, each with the delivery that it repeats."""

    def within(moment: Any) -> bool:
        return since <= to_ms(moment) < before

    found: dict[UUID, UUID | None] = {}
    for event in events:
        own = [d for d in deliveries if d.event_id == event.id and d.webhook_id == stand.webhook.id]
        if any(d.status in (*OPEN, SUCCEEDED) for d in own) or event.is_test:
            continue
        given_up = [d.id for d in own if d.status is DEAD_LETTERED and within(d.completed_at)]
        if name == "failed" and given_up:
            found[event.id] = max(given_up)
        mine = event.organization_id == stand.caller.organization_id
        wanted = any(matches(pattern, event.type) for pattern in stand.webhook.event_patterns)
        if name == "missing" and mine and wanted and within(event.received_at):
            found[event.id] = max((d.id for d in own), default=None)
    return found


async def test_what_is_replayed_is_not_replayed_again_while_it_is_on_its_way(stand: Stand) -> None:
    await stand.past(5)
    first, second = await stand.replay(failed=MomentRange()), await stand.replay(missing=MomentRange())
    await stand.advance(first)
    await stand.advance(second)
    assert (len(await made_by(first)), len(await made_by(second))) == (5, 0)
    await second.refresh_from_db()
    assert (second.status, second.total) == (ReplayStatus.COMPLETED, 0)


async def test_what_failed_again_can_be_replayed_again(stand: Stand) -> None:
    await stand.past(2)
    span = MomentRange(None, from_ms(now_ms() - 1800_000))
    for _ in range(2):
        replay = await stand.replay(failed=span)
        await stand.advance(replay)
        assert len(await made_by(replay)) == 2
        await stand.deliver(DEAD_LETTERED)
        await stand.advance(replay)


# ── what is refused ──


async def test_what_is_not_there_is_named_and_nothing_changes(stand: Stand) -> None:
    stranger = await new_caller(stand.house.desk)
    other = (await webhooks.create(stand.caller, WebhookDraft("http://127.0.0.1:9/other", ["*"]))).webhook
    theirs = (await webhooks.create(stranger, WebhookDraft("http://127.0.0.1:9/theirs", ["*"]))).webhook
    now = now_ms()
    mine, foreign, test = stand.event(now), stand.event(now, of=stranger), stand.event(now, is_test=True)
    good = stand.delivery(mine, SUCCEEDED)
    bad = [
        stand.delivery(mine, SUCCEEDED, webhook=other),
        stand.delivery(foreign, SUCCEEDED, webhook=theirs),
        stand.delivery(test, SUCCEEDED, trigger=DeliveryTrigger.TEST),
    ]
    gone = Delivery(id=new_id())
    await stand.write()
    before = await stored()
    for one in (*bad, gone):
        with pytest.raises(NotFound) as refused:
            await stand.replay(delivery_ids=[text(good), text(one)])
        assert refused.value.id == text(one)
    for event in (foreign, test):
        with pytest.raises(NotFound):
            await stand.replay(event_ids=[encode(Prefix.EVENT, mine.id), encode(Prefix.EVENT, event.id)])
    with pytest.raises(NotFound):
        await stand.replay(delivery_ids=["dlv_nonsense"])
    with pytest.raises(NotFound):
        await replays.create(stand.caller, id_of(theirs), ReplayDraft(missing=MomentRange()))
    assert await stored() == before


async def test_the_replays_of_others_are_not_found(stand: Stand) -> None:
    replay = await stand.replay(missing=MomentRange())
    stranger, replay_id = await new_caller(stand.house.desk), encode(Prefix.REPLAY, replay.id)
    before = await stored()
    with pytest.raises(NotFound):
        await replays.get(stranger, replay_id)
    with pytest.raises(NotFound):
        await replays.cancel(stranger, replay_id)
    assert (await replays.get(stand.caller, replay_id)).id == replay.id
    assert await stored() == before


@pytest.mark.parametrize("status", [WebhookStatus.PAUSED, WebhookStatus.DISABLED])
async def test_a_webhook_that_is_not_enabled_is_not_replayed_to(stand: Stand, status: WebhookStatus) -> None:
    await webhooks.update(stand.caller, stand.webhook_id, WebhookChange(status=status))
    before = await stored()
    with pytest.raises(WebhookNotEnabled) as refused:
        await stand.replay(missing=MomentRange())
    assert refused.value.status is status
    assert await stored() == before


@pytest.mark.parametrize(
    ("draft", "path", "code"),
    [
        ({"delivery_ids": []}, ("select", "deliveryIds"), FieldErrorCode.TOO_SHORT),
        ({"event_ids": ["evt_x"] * 101}, ("select", "eventIds"), FieldErrorCode.TOO_MANY),
        ({"failed": (5, 5)}, ("select", "failed", "since"), FieldErrorCode.OUT_OF_RANGE),
        ({"missing": (6, 5)}, ("select", "missing", "since"), FieldErrorCode.OUT_OF_RANGE),
        ({"missing": (10_000_000_000_000, None)}, ("select", "missing", "since"), FieldErrorCode.OUT_OF_RANGE),
    ],
)
async def test_a_selection_of_nothing_is_refused(
    stand: Stand, draft: dict[str, Any], path: tuple[str, ...], code: FieldErrorCode
) -> None:
    given = {
        name: MomentRange(*(moment and from_ms(moment) for moment in value)) if isinstance(value, tuple) else value
        for name, value in draft.items()
    }
    with pytest.raises(ValidationFailed) as refused:
        await stand.replay(**given)
    assert [(problem.path, problem.code) for problem in refused.value.fields] == [(path, code)]


# ── how it is made ──


async def test_only_so_many_wait_at_once(stand: Stand) -> None:
    await stand.past(WAITING_MOST + BATCH + 1)
    replay = await stand.replay(failed=MomentRange())
    await stand.advance(replay)  # counts the most part
    counts = []
    for _ in range(6):
        await stand.advance(replay)
        counts.append(len(await made_by(replay)))
    assert counts == [BATCH, 2 * BATCH, 3 * BATCH, WAITING_MOST, WAITING_MOST, WAITING_MOST]
    await stand.deliver()
    await stand.advance(replay)
    await stand.advance(replay)
    assert len(await made_by(replay)) == WAITING_MOST + BATCH + 1


async def test_a_step_that_is_cut_off_leaves_nothing_and_is_taken_again(stand: Stand) -> None:
    old = await stand.past(BATCH + 10)
    replay = await stand.replay(failed=MomentRange())
    told, ledger = unreliable(stand.house.desk.ledger)

    async def die() -> None:
        raise ConnectionResetError("killed")

    told.after["append_repeats"] = die
    for _ in range(3):
        with pytest.raises(ConnectionResetError):
            await advance(ledger, stand.house.desk.wake, now_ms() + 2000, replay.id, replay.webhook_id)
        assert await made_by(replay) == []
    assert told.calls["append_repeats"] == 3
    await stand.finish(replay)
    assert [one.event_id for one in await made_by(replay)] == [one.event_id for one in old]


async def test_several_workers_make_each_delivery_once(stand: Stand) -> None:
    old = await stand.past(700)
    replay = await stand.replay(failed=MomentRange())
    for _ in range(4):
        await asyncio.gather(*(stand.advance(replay) for _ in range(5)))
    made = await made_by(replay)
    assert sorted(one.event_id for one in made) == sorted(one.event_id for one in old)


async def test_it_rests_while_the_webhook_is_paused(stand: Stand) -> None:
    await stand.past(3)
    replay = await stand.replay(failed=MomentRange())
    await webhooks.update(stand.caller, stand.webhook_id, WebhookChange(status=WebhookStatus.PAUSED))
    assert await stand.advance(replay) is False
    assert await made_by(replay) == []
    await webhooks.update(stand.caller, stand.webhook_id, WebhookChange(status=WebhookStatus.ENABLED))
    assert await stand.advance(replay) is True
    assert len(await made_by(replay)) == 3


@pytest.mark.parametrize("how", ["disabled", "deleted"])
async def test_it_ends_with_its_webhook(stand: Stand, how: str) -> None:
    await stand.past(BATCH + 1)
    replay = await stand.replay(failed=MomentRange())
    await stand.advance(replay)
    if how == "disabled":
        await webhooks.update(stand.caller, stand.webhook_id, WebhookChange(status=WebhookStatus.DISABLED))
    else:
        await webhooks.delete(stand.caller, stand.webhook_id)
    await stand.advance(replay)
    await replay.refresh_from_db()
    assert (replay.status, replay.enqueued) == (ReplayStatus.CANCELED, BATCH)
    assert replay.completed_at is not None
    assert {one.status for one in await made_by(replay)} == {CANCELED}


async def test_canceling_stops_it_and_cancels_what_waits(stand: Stand) -> None:
    await stand.past(BATCH + 1)
    replay = await stand.replay(failed=MomentRange())
    await stand.advance(replay)
    ended = await replays.cancel(stand.caller, encode(Prefix.REPLAY, replay.id))
    assert (ended.status, ended.enqueued, ended.total) == (ReplayStatus.CANCELED, BATCH, BATCH + 1)
    assert ended.completed_at is not None
    assert await stand.advance(replay) is False
    assert {one.status for one in await made_by(replay)} == {CANCELED}
    assert len(await made_by(replay)) == BATCH


async def test_what_is_being_sent_when_it_is_canceled_ends_and_is_not_tried_again(stand: Stand) -> None:
    await stand.past(2)
    replay = await stand.replay(failed=MomentRange())
    await stand.advance(replay)
    [first, _] = await made_by(replay)
    await Delivery.filter(id=first.id).update(status=SENDING, lease_until=from_ms(now_ms() + 30_000))
    ended = await replays.cancel(stand.caller, encode(Prefix.REPLAY, replay.id))
    assert (ended.status, ended.completed_at) == (ReplayStatus.CANCELED, None)
    assert [one.status for one in await made_by(replay)] == [SENDING, CANCELED]
    await Delivery.filter(id=first.id).update(status=RETRYING, lease_until=None)  # the attempt failed
    assert await stand.advance(replay) is True
    assert [one.status for one in await made_by(replay)] == [CANCELED, CANCELED]
    await replay.refresh_from_db()
    assert replay.completed_at is not None


async def test_canceling_what_is_finished_changes_nothing(stand: Stand) -> None:
    replay = await stand.finish(await stand.replay(missing=MomentRange()))
    before = await stored()
    assert (await replays.cancel(stand.caller, encode(Prefix.REPLAY, replay.id))).status is ReplayStatus.COMPLETED
    assert await stored() == before


async def test_canceling_while_a_step_is_taken_leaves_nothing_waiting(stand: Stand) -> None:
    await stand.past(BATCH)
    for _ in range(5):
        replay = await stand.replay(failed=MomentRange())
        await asyncio.gather(stand.advance(replay), replays.cancel(stand.caller, encode(Prefix.REPLAY, replay.id)))
        await stand.advance(replay)
        await replay.refresh_from_db()
        assert replay.status is ReplayStatus.CANCELED
        assert {one.status for one in await made_by(replay)} <= {CANCELED}


# ── what receivers get ──


async def test_a_replay_carries_the_events_id_and_body_and_todays_signature(database_url: str) -> None:
    async with open_house(database_url) as house, Receiver() as receiver, running(house.engine.run()):
        caller = await new_caller(house.desk)
        webhook = (await webhooks.create(caller, WebhookDraft(receiver.url, ["*"]))).webhook
        stand = Stand(house, caller, webhook)
        [old] = await stand.past(1)
        rotated = await webhooks.rotate_secret(caller, stand.webhook_id, overlap_seconds=0)
        replay = await stand.replay(delivery_ids=[text(old)])
        [request] = await receiver.wait_for(1)
        assert request.header("webhook-id") == encode(Prefix.EVENT, old.event_id)
        assert request.body == BODY
        _verify(request, rotated.secret)

        async def is_done() -> bool:
            await replay.refresh_from_db()
            return replay.succeeded == 1

        await until(is_done)
        await stand.advance(replay)
        await replay.refresh_from_db()
        assert (replay.status, replay.succeeded, replay.failed) == (ReplayStatus.COMPLETED, 1, 0)


def _verify(request: Received, secret: str) -> None:
    from standardwebhooks import Webhook as Verifier

    Verifier(secret).verify(request.body, {name.lower(): value for name, value in request.headers})


async def test_a_replay_that_fails_is_counted_in_statistics_but_not_in_health(database_url: str) -> None:
    async with open_house(database_url) as house, Receiver(500) as receiver, running(house.engine.run()):
        caller = await new_caller(house.desk)
        draft = WebhookDraft(receiver.url, ["*"])
        draft.delivery.max_attempts = 1
        webhook = (await webhooks.create(caller, draft)).webhook
        stand = Stand(house, caller, webhook)
        old = await stand.past(3)
        replay = await stand.replay(delivery_ids=[text(one) for one in old])

        async def has_failed() -> bool:
            await replay.refresh_from_db()
            return replay.failed == 3

        await until(has_failed)
        [health] = await WebhookHealth.all()
        assert (health.consecutive_failures, health.failing_since, health.last_failure_at) == (0, None, None)
        assert health.last_delivery_failed is False
        counted = [row for row in (await stored(["delivery_rollup"]))["delivery_rollup"] if row["attempts"]]
        assert {(row["attempts"], row["dead_lettered"]) for row in counted} == {(3, 3)}
