"""Forgetting: what goes, what stays, and that it can be cut off anywhere."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from uuid import UUID

import pytest

from app.wiring import House
from models.attempt import Attempt, AttemptOutcome
from models.delivery import OPEN, Delivery, DeliveryStatus
from models.event import Event
from models.forgetting import BATCH, FIRST, Kind, forget_some
from models.ids import Prefix, encode, id_at, new_id
from models.moment import from_ms, now_ms, to_ms
from models.organization import Organization
from models.replay import Replay, ReplaySelection, ReplayStatus
from models.webhook import WebhookHealth
from resolvers import event_types, events, organizations, replays, webhooks
from resolvers.caller import Caller
from resolvers.forgetting import Retention, forget
from resolvers.inputs import EventDraft, EventTypeDraft, MomentRange, ReplayDraft, WebhookDraft
from resolvers.maintenance import sweep
from tests.houses import new_caller, open_house, running, stored, until
from tests.receivers import Receiver
from workers.replaying import advance

DAY = 24 * 3_600_000
KEPT = Retention(payload_days=10, attempt_days=5, delivery_days=20)
PENDING, SENDING, RETRYING, SUCCEEDED, DEAD_LETTERED, CANCELED = DeliveryStatus


@dataclass
class Past:
    """An organization whose rows are of long ago."""

    house: House
    caller: Caller

    async def event(self, days: float) -> Event:
        moment = now_ms() - round(days * DAY)
        return await Event.create(
            id=id_at(moment),
            organization_id=self.caller.organization_id,
            type="order.paid",
            occurred_at=from_ms(moment),
            received_at=from_ms(moment),
            body=b"{}",
            data_offset=0,
        )

    async def delivery(self, event: Event, status: DeliveryStatus, ended: float | None = None) -> Delivery:
        """`ended`: days ago; by default when the event was received."""
        moment = event.received_at if ended is None else from_ms(now_ms() - round(ended * DAY))
        return await Delivery.create(
            id=id_at(to_ms(event.received_at)),
            organization_id=event.organization_id,
            webhook_id=new_id(),
            event_id=event.id,
            event_type=event.type,
            status=status,
            created_at=event.received_at,
            completed_at=None if status in OPEN else moment,
        )

    async def attempt(self, delivery: Delivery, days: float) -> Attempt:
        moment = now_ms() - round(days * DAY)
        return await Attempt.create(
            id=id_at(moment),
            organization_id=delivery.organization_id,
            delivery_id=delivery.id,
            webhook_id=delivery.webhook_id,
            number=1,
            outcome=AttemptOutcome.TIMEOUT,
            started_at=from_ms(moment),
            duration_us=1,
        )

    async def newest(self) -> None:
        """Something of today, which nothing may touch."""
        await self.attempt(await self.delivery(await self.event(0), SUCCEEDED), 0)

    async def forget(self) -> int:
        return await forget(self.house.desk, KEPT)


@pytest.fixture
async def past(database_url: str) -> AsyncIterator[Past]:
    async with open_house(database_url) as house:
        past = Past(house, await new_caller(house.desk))
        yield past


async def _there(*rows: Event | Delivery | Attempt | Replay) -> list[bool]:
    return [await type(row).filter(id=row.id).exists() for row in rows]


async def test_each_kind_is_forgotten_after_its_own_time(past: Past) -> None:
    ages = (4, 6, 11, 21)
    made = {}
    for age in ages:
        event = await past.event(age)
        delivery = await past.delivery(event, SUCCEEDED)
        made[age] = (event, delivery, await past.attempt(delivery, age))
    await past.newest()
    assert await past.forget() == 3 + 2 + 1
    assert {age: await _there(*rows) for age, rows in made.items()} == {
        4: [True, True, True],
        6: [True, True, False],
        11: [False, True, False],
        21: [False, False, False],
    }
    assert await past.forget() == 0


@pytest.mark.parametrize("status", OPEN)
async def test_what_waits_keeps_its_event_and_its_attempts(past: Past, status: DeliveryStatus) -> None:
    event = await past.event(100)
    waiting = await past.delivery(event, status)
    attempt = await past.attempt(waiting, 100)
    other = await past.delivery(event, SUCCEEDED)
    await past.newest()
    assert await past.forget() == 0
    assert await _there(event, waiting, attempt, other) == [True] * 4


async def test_a_delivery_that_ended_late_is_kept_from_then_on_though_its_event_is_gone(past: Past) -> None:
    event = await past.event(25)
    late = await past.delivery(event, DEAD_LETTERED, ended=19)
    attempt = await past.attempt(late, 4)
    await past.newest()
    assert await past.forget() == 1
    assert await _there(event, late, attempt) == [False, True, True]


async def test_an_event_never_loses_its_deliveries_before_it_goes_itself(past: Past) -> None:
    event = await past.event(30)
    done, open_ = await past.delivery(event, SUCCEEDED), await past.delivery(event, RETRYING)
    await past.newest()
    assert await past.forget() == 0
    assert await _there(event, done, open_) == [True, True, True]


async def test_replays_go_with_their_deliveries(past: Past) -> None:
    def replay(days: float) -> Replay:
        moment = from_ms(now_ms() - round(days * DAY))
        return Replay(
            id=id_at(to_ms(moment)),
            organization_id=past.caller.organization_id,
            webhook_id=new_id(),
            selection=ReplaySelection.MISSING,
            status=ReplayStatus.COMPLETED,
            created_at=moment,
            completed_at=moment,
        )

    old, young = replay(21), replay(19)
    await Replay.bulk_create([old, young])
    assert await past.forget() == 1
    assert await _there(old, young) == [False, True]


async def test_statistics_stay(past: Past, database_kind: str) -> None:
    async with Receiver() as receiver, running(past.house.engine.run()):
        await webhooks.create(past.caller, WebhookDraft(receiver.url, ["*"]))
        await events.publish_many(past.caller, [EventDraft("order.paid", {})] * 3)
        await until(lambda: _count(Delivery.filter(status=SUCCEEDED), 3))
    before = await stored(["delivery_rollup", "webhook_health"])
    assert before["delivery_rollup"]
    much_later = replace(past.house.desk, clock=lambda: now_ms() + 100 * DAY)
    await forget(much_later, KEPT)
    left = 1 if database_kind == "sqlite" else 0  # SQLite keeps the newest, for the streams
    assert [await model.all().count() for model in (Attempt, Event, Delivery)] == [left] * 3
    assert await stored(["delivery_rollup", "webhook_health"]) == before


async def test_a_batch_takes_no_more_than_so_many_and_the_next_goes_on(past: Past) -> None:
    moment = now_ms() - 50 * DAY
    rows = [
        Event(
            id=id_at(moment + n),
            organization_id=past.caller.organization_id,
            type="order.paid",
            occurred_at=from_ms(moment + n),
            received_at=from_ms(moment + n),
            body=b"{}",
            data_offset=0,
        )
        for n in range(2 * BATCH + 5)
    ]
    await Event.bulk_create(rows, batch_size=500)
    await past.newest()
    first = await forget_some(Kind.EVENT, now_ms() - 10 * DAY, FIRST)
    assert first is not None
    assert (first.last, first.deleted) == (rows[BATCH - 1].id, BATCH)
    assert await forget(past.house.desk, KEPT, seconds=0) == BATCH  # its time is up after a batch of each kind
    assert await past.forget() == 5


async def test_what_is_forgotten_while_it_is_replayed_is_not_sent_without_a_body(past: Past) -> None:
    """Forgetting and replaying take turns: no delivery is left of which the event is gone."""
    chance = random.Random(7)
    webhook = (await webhooks.create(past.caller, WebhookDraft("http://127.0.0.1:9/", ["*"]))).webhook
    for _ in range(30):
        await past.event(chance.uniform(11, 12))
    desk = past.house.desk
    webhook_id = encode(Prefix.WEBHOOK, webhook.id)
    replay = await replays.create(past.caller, webhook_id, ReplayDraft(missing=MomentRange()))
    work = (advance(desk.ledger, desk.wake, now_ms() + 2000, replay.id, webhook.id), past.forget())
    await asyncio.gather(*(work if chance.random() < 0.5 else reversed(work)))
    await past.forget()
    made = set(await Delivery.filter(replay_id=replay.id).values_list("event_id", flat=True))
    assert made == set(await Event.filter(id__in=list(made)).values_list("id", flat=True))


async def test_the_limits_show_how_long_events_are_kept(database_url: str) -> None:
    async with open_house(database_url, payload_retention_days=30) as house:
        caller = await new_caller(house.desk)
        limits = organizations.limits_of(house.desk, await organizations.own(caller))
        assert limits.payload_retention_days == 30


# ── organizations ──


async def test_an_ended_organization_is_forgotten_whole_and_others_are_not_touched(database_url: str) -> None:
    async with open_house(database_url) as house, Receiver() as receiver:
        platform = await new_caller(house.desk, "platform", "*")
        ended, other = await new_caller(house.desk), await new_caller(house.desk)
        async with running(house.engine.run()):
            for caller in (ended, other):
                await event_types.put(caller, EventTypeDraft("order.paid"))
                await webhooks.create(caller, WebhookDraft(receiver.url, ["*"]))
                for _ in range(3):
                    await events.publish(caller, EventDraft("order.paid", {}))
            await receiver.wait_for(6)
            await until(lambda: _count(Delivery.filter(status=SUCCEEDED), 6))
        before = await _of(other.organization_id)
        await organizations.delete(platform, encode(Prefix.ORGANIZATION, ended.organization_id))
        assert await forget(house.desk, KEPT) == 0  # too early: somebody may be publishing yet
        await Organization.filter(id=ended.organization_id).update(deleted_at=from_ms(now_ms() - DAY))
        await forget(house.desk, KEPT)
        assert not any((await _of(ended.organization_id)).values())
        assert await _of(other.organization_id) == before
        assert not await Organization.filter(id=ended.organization_id).exists()
        assert await Organization.filter(id=other.organization_id).exists()


async def test_an_organization_with_something_under_way_is_forgotten_when_that_has_ended(past: Past) -> None:
    webhook = (await webhooks.create(past.caller, WebhookDraft("http://127.0.0.1:9/", ["*"]))).webhook
    await events.publish(past.caller, EventDraft("order.paid", {}))
    await Delivery.all().update(status=SENDING, lease_until=from_ms(now_ms() + 30_000))
    await Organization.filter(id=past.caller.organization_id).update(deleted_at=from_ms(now_ms() - DAY))
    before = await stored()
    assert await past.forget() == 0
    assert await stored() == before
    await Delivery.all().update(status=RETRYING, lease_until=None)
    await sweep(past.house.desk)
    other = Past(past.house, await new_caller(past.house.desk))
    await other.newest()
    assert await past.forget() > 0
    assert not await Organization.filter(id=past.caller.organization_id).exists()
    assert not any((await _of(past.caller.organization_id)).values())
    assert not await WebhookHealth.filter(webhook_id=webhook.id).exists()


async def _of(organization_id: UUID) -> dict[str, list[object]]:
    """All rows that bear an organization's id, but for idempotency keys, which the sweep forgets."""
    found = {}
    for table, rows in (await stored()).items():
        if table != "idempotency":
            found[table] = [row for row in rows if str(row.get("organization_id")) == str(organization_id)]
    return {table: list(rows) for table, rows in found.items()}


async def _count(rows: object, wanted: int) -> bool:
    return bool(await rows.count() == wanted)  # type: ignore[attr-defined]
