"""The delivery engine: from rows that are due to receivers, and back into rows, whatever happens between."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

import pytest
import standardwebhooks
from arq.connections import ArqRedis
from redis.asyncio.connection import ConnectionPool

from app.wiring import House, in_background
from models.attempt import Attempt, AttemptOutcome
from models.delivery import Delivery, DeliveryStatus
from models.ids import new_id
from models.moment import from_ms, now_ms
from models.sealing import Sealer, new_master_key, read_master_key
from models.webhook import Webhook, WebhookStatus
from resolvers import events, webhooks
from resolvers.caller import Caller
from resolvers.inputs import DeliveryDraft, EventDraft, WebhookChange, WebhookDraft
from resolvers.webhooks import Created
from tests.houses import ManualClock, id_of, new_caller, open_house, running, until
from tests.ledgers import Gate, Unreliable, unreliable
from tests.receivers import (
    Answer,
    Receiver,
    body_drip,
    close_under_keep_alive,
    close_without_answer,
    endless_chunks,
    garbage,
    gzip_bomb,
    half_close,
    header_drip,
    interim_flood,
    reset_in_mid_body,
    short_body,
    silence,
    ten_megabytes_of_headers,
)
from workers import queue
from workers.engine import Engine, Pace
from workers.lanes import LaneRules
from workers.targets import Targets

PENDING, SENDING, RETRYING, SUCCEEDED, DEAD_LETTERED, CANCELED = DeliveryStatus
UNRULED = LaneRules(most_in_flight=1000, breaks_to_open=10**6, slow_pause_ms=0, doubted_after_ms=10**6)
OFTEN, AN_HOUR = Pace(poll_seconds=0.02), Pace(poll_seconds=3600)


@dataclass
class Works:
    """A house with an organization, an engine, and an unreliable ledger between the engine and the database."""

    house: House
    caller: Caller
    ledger: Unreliable
    engine: Engine

    def another_engine(self, **changed: Any) -> Engine:
        return make_engine(self.house, **changed)

    async def webhook(self, url: str, *, schedule: list[int] | None = None, **fields: Any) -> Created:
        delivery = DeliveryDraft(timeout_seconds=fields.pop("timeout_seconds", None), retry_schedule_seconds=schedule)
        return await webhooks.create(self.caller, WebhookDraft(url, ["*"], delivery=delivery, **fields))

    async def publish(self, count: int = 1) -> None:
        await events.publish_many(self.caller, [EventDraft("order.created", {"n": n}) for n in range(count)])

    async def states(self) -> list[DeliveryStatus]:
        return [row.status for row in await Delivery.all().order_by("id")]

    async def all_are(self, status: DeliveryStatus) -> bool:
        return set(await self.states()) == {status}


def make_engine(house: House, pace: Pace = OFTEN, **changed: Any) -> Engine:
    desk = house.desk
    sealer, clock = changed.pop("sealer", desk.sealer), changed.pop("clock", now_ms)
    ledger, rules = changed.pop("ledger", desk.ledger), changed.pop("rules", UNRULED)
    return Engine(ledger, desk.courier, Targets(sealer, desk.clock), clock, pace, rules)


@asynccontextmanager
async def working(database_url: str, pace: Pace = OFTEN, **given: Any) -> AsyncIterator[Works]:
    async with open_house(database_url, **given) as house:
        told, ledger = unreliable(house.desk.ledger)
        yield Works(house, await new_caller(house.desk), told, make_engine(house, pace, ledger=ledger))


@pytest.fixture
async def works(database_url: str) -> AsyncIterator[Works]:
    async with working(database_url) as works:
        yield works


# ── delivering ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_published_arrives_signed_and_is_recorded(works: Works) -> None:
    async with Receiver(Answer(202, [("X-Request-Id", "r-1")], b"thank you")) as receiver:
        created = await works.webhook(receiver.url, custom_headers=[("X-Tenant", "acme")])
        published = await events.publish(works.caller, EventDraft("order.created", {"id": 42}))
        async with running(works.engine.run()):
            [received] = await receiver.wait_for(1)
            await until(lambda: works.all_are(SUCCEEDED))

    assert created.secret is not None
    body = standardwebhooks.Webhook(created.secret).verify(received.body, dict(received.headers))
    assert body["data"] == {"id": 42}
    assert received.body == bytes(published.event.body)
    assert (received.method, received.path) == ("POST", "/hook")
    assert received.header("content-type") == "application/json"
    assert received.header("X-Tenant") == "acme"
    attempt = await Attempt.get()
    assert (attempt.number, attempt.outcome, attempt.response_status) == (1, AttemptOutcome.SUCCESS, 202)
    assert attempt.request_url == receiver.url
    assert attempt.request_bytes == len(received.body)
    assert '["X-Tenant","[redacted]"]' in (attempt.request_headers or "")
    assert "acme" not in (attempt.request_headers or "")
    assert bytes(attempt.response_excerpt or b"") == b"thank you"


async def test_a_receiver_that_fails_twice_gets_three_attempts_with_one_id_and_one_body(works: Works) -> None:
    async with Receiver(500, 503, 200) as receiver:
        await works.webhook(receiver.url, schedule=[0, 0, 0])
        await works.publish()
        async with running(works.engine.run()):
            requests = await receiver.wait_for(3)
            await until(lambda: works.all_are(SUCCEEDED))
    assert len({request.header("webhook-id") for request in requests}) == 1
    assert len({request.body for request in requests}) == 1
    attempts = await Attempt.all().order_by("number")
    assert [(a.number, a.response_status) for a in attempts] == [(1, 500), (2, 503), (3, 200)]
    delivery = await Delivery.get()
    assert (delivery.attempt_count, delivery.failure_count) == (3, 2)


async def test_a_receiver_that_never_succeeds_is_given_up_after_its_attempts(works: Works) -> None:
    async with Receiver(500) as receiver:
        await works.webhook(receiver.url, schedule=[0, 0])
        await works.publish()
        async with running(works.engine.run()):
            await until(lambda: works.all_are(DEAD_LETTERED))
    assert len(receiver.requests) == 3


async def test_a_receiver_that_is_gone_disables_its_webhook_and_loses_what_waits(works: Works) -> None:
    async with Receiver(410) as receiver:
        created = await works.webhook(receiver.url)
        await works.publish()
        async with running(works.engine.run()):
            await until(lambda: works.all_are(DEAD_LETTERED))
    assert (await Webhook.get(id=created.webhook.id)).status is WebhookStatus.DISABLED


async def test_receivers_that_hang_do_not_stop_the_others(works: Works) -> None:
    async with Receiver(silence) as silent, Receiver() as healthy:
        await works.webhook(silent.url)
        await works.webhook(healthy.url)
        await works.publish(20)
        async with running(works.engine.run()):
            await healthy.wait_for(20)
            await until(lambda: _count(SUCCEEDED, 20))
            assert works.engine.in_flight == 20
            await works.publish(5)
            await healthy.wait_for(25)


async def _count(status: DeliveryStatus, wanted: int) -> bool:
    return await Delivery.filter(status=status).count() == wanted


async def test_no_more_is_in_flight_than_the_pace_allows(database_url: str) -> None:
    pace = Pace(concurrency=7, batch=3, poll_seconds=0.02)
    async with working(database_url, pace) as works, Receiver(silence) as receiver:
        await works.webhook(receiver.url)
        await works.publish(20)
        async with running(works.engine.run()):
            await receiver.wait_for(7)
            assert await works.engine.deliver_due() == 0
            assert (works.engine.in_flight, len(receiver.requests)) == (7, 7)


async def test_what_becomes_due_while_a_claim_is_under_way_is_claimed_next_and_not_at_the_next_poll(
    database_url: str,
) -> None:
    async with working(database_url, AN_HOUR) as works, Receiver() as receiver:
        created = await works.webhook(receiver.url)
        await works.publish()
        just_claimed = Gate()
        works.ledger.after["claim"] = just_claimed
        async with running(works.engine.run()):
            await just_claimed.reached.wait()
            await works.publish()
            works.engine.wake([(created.webhook.id, works.caller.organization_id)])
            just_claimed.opened.set()
            await receiver.wait_for(2)


# ── fairness ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_receiver_gets_no_more_requests_at_once_than_its_width_and_the_others_theirs(works: Works) -> None:
    engine = works.another_engine(rules=LaneRules(most_in_flight=3))
    async with Receiver(silence) as silent, Receiver() as healthy:
        hangs = await works.webhook(silent.url)
        await works.webhook(healthy.url)
        await works.publish(10)
        async with running(engine.run()):
            await healthy.wait_for(10)
            await until(lambda: _count(SUCCEEDED, 10))
            assert (engine.in_flight, len(silent.requests)) == (3, 3)
            await _keep_their_place(hangs.webhook.id, 7)


async def _keep_their_place(webhook_id: UUID, count: int) -> None:
    """So many deliveries wait as they did when they were made."""
    waiting = await Delivery.filter(webhook_id=webhook_id, attempt_count=0)
    assert [(row.status, row.lease_until, row.fence) for row in waiting] == [(PENDING, None, 0)] * count
    assert [row.due_at for row in waiting] == [row.created_at for row in waiting]


async def test_receivers_that_hang_leave_slots_to_those_that_answer(database_url: str) -> None:
    pace, rules = Pace(concurrency=16, poll_seconds=0.02), LaneRules(few=2)
    async with working(database_url, pace) as works, Receiver(silence) as silent, Receiver() as healthy:
        engine = works.another_engine(pace=pace, rules=rules)
        await works.webhook(silent.url)
        await works.publish(20)
        async with running(engine.run()):
            await silent.wait_for(12)
            await works.webhook(healthy.url)
            await works.publish(20)
            await healthy.wait_for(20)
            await until(lambda: _count(SUCCEEDED, 20))
            assert (engine.in_flight, len(silent.requests)) == (12, 12)


async def test_workers_keep_a_webhooks_rate_together(works: Works) -> None:
    async with Receiver() as receiver:
        limited = DeliveryDraft(max_per_second=30)
        await webhooks.create(works.caller, WebhookDraft(receiver.url, ["*"], delivery=limited))
        await works.publish(120)
        clock = ManualClock(now_ms())
        workers = [works.another_engine(clock=clock) for _ in range(2)]
        began = []
        for _ in range(31):
            began.append(sum([await worker.deliver_due() for worker in workers]))
            clock.advance(milliseconds=100)
        assert began == [4, *[3] * 30]
        await receiver.wait_for(94)


async def test_an_open_circuit_is_probed_until_the_receiver_answers_and_all_keep_their_place(works: Works) -> None:
    async with Receiver(close_without_answer) as receiver:
        created = await works.webhook(receiver.url, schedule=[0] * 9)
        await works.publish(12)
        clock = ManualClock(now_ms())
        engine = works.another_engine(clock=clock, rules=LaneRules(most_in_flight=5))

        async def makes(requests: int) -> None:
            await receiver.wait_for(requests)
            await until(lambda: _counts(Attempt.filter(outcome=AttemptOutcome.CONNECTION_ERROR), requests))
            await asyncio.sleep(0.1)  # five polls
            assert (len(receiver.requests), engine.in_flight) == (requests, 0)

        async with running(engine.run()):
            await makes(5)
            await _keep_their_place(created.webhook.id, 7)
            clock.advance(seconds=2)
            await makes(6)
            clock.advance(seconds=2)
            await makes(6)
            clock.advance(seconds=2)
            await makes(7)
            receiver.answers = [200]
            clock.advance(minutes=10)
            await until(lambda: works.all_are(SUCCEEDED))


async def test_a_receiver_that_asks_for_less_gets_less(works: Works) -> None:
    async with Receiver(503) as receiver:
        await works.webhook(receiver.url, schedule=[0] * 9)
        await works.publish(20)
        clock = ManualClock(now_ms())
        engine = works.another_engine(clock=clock, rules=LaneRules(most_in_flight=8))

        async def makes(requests: int) -> None:
            await receiver.wait_for(requests)
            await until(lambda: _counts(Attempt.filter(response_status=503), requests))
            await asyncio.sleep(0.1)
            assert len(receiver.requests) == requests

        async with running(engine.run()):
            await makes(8)
            clock.advance(seconds=1)
            await makes(9)  # one at a time by now
            clock.advance(seconds=1)
            await makes(9)
            clock.advance(seconds=1)
            await makes(10)
            receiver.answers = [200]
            clock.advance(minutes=10)
            await until(lambda: works.all_are(SUCCEEDED))


async def test_hostile_receivers_are_recorded_with_their_outcomes(works: Works) -> None:
    expected = {
        silence: AttemptOutcome.TIMEOUT,
        header_drip: AttemptOutcome.TIMEOUT,
        body_drip: AttemptOutcome.TIMEOUT,
        endless_chunks: AttemptOutcome.SUCCESS,
        ten_megabytes_of_headers: AttemptOutcome.RESPONSE_TOO_LARGE,
        gzip_bomb: AttemptOutcome.SUCCESS,
        half_close: AttemptOutcome.CONNECTION_ERROR,
        reset_in_mid_body: AttemptOutcome.CONNECTION_ERROR,
        short_body: AttemptOutcome.CONNECTION_ERROR,
        close_under_keep_alive: AttemptOutcome.SUCCESS,
        garbage: AttemptOutcome.PROTOCOL_ERROR,
        interim_flood: AttemptOutcome.PROTOCOL_ERROR,
    }
    wanted = {}
    async with AsyncExitStack() as stack:
        for behaviour, outcome in expected.items():
            receiver = await stack.enter_async_context(Receiver(behaviour))
            # Floods slow each other down here, and may take longer than a receiver's own second.
            seconds = 1 if outcome is AttemptOutcome.TIMEOUT else 30
            created = await works.webhook(receiver.url, timeout_seconds=seconds, schedule=[3600])
            wanted[created.webhook.id] = outcome
        await works.publish()
        async with running(works.engine.run()):
            await until(lambda: _counts(Attempt.all(), len(expected)), timeout=60)
    assert {attempt.webhook_id: attempt.outcome for attempt in await Attempt.all()} == wanted


async def test_neither_deliveries_nor_tests_reach_a_forbidden_address(database_url: str) -> None:
    async with working(database_url, allowed_networks=()) as works, Receiver() as receiver:
        created = await works.webhook("https://93.184.215.14/hook", schedule=[])
        await Webhook.filter(id=created.webhook.id).update(url=receiver.url)  # its name leads elsewhere since
        await works.publish()
        async with running(works.engine.run()):
            tested = await webhooks.test(works.caller, id_of(created.webhook))
            await until(lambda: _counts(Attempt.all(), 2))
        assert tested.attempt.outcome is AttemptOutcome.BLOCKED_ADDRESS
        assert {attempt.outcome for attempt in await Attempt.all()} == {AttemptOutcome.BLOCKED_ADDRESS}
        assert receiver.connections == 0


# ── the database fails ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["lanes", "claim", "events"])
async def test_with_the_database_away_claiming_is_tried_until_it_is_back(works: Works, method: str) -> None:
    async with Receiver() as receiver:
        await works.webhook(receiver.url)
        await works.publish(3)
        works.ledger.fail(method, 3)
        async with running(works.engine.run()):
            await until(lambda: works.all_are(SUCCEEDED))
        assert len(receiver.requests) == 3
        assert works.ledger.calls[method] > 3
        assert await Attempt.all().count() == 3


async def test_with_the_database_away_results_are_kept_and_written_when_it_is_back(works: Works) -> None:
    async with Receiver() as receiver:
        await works.webhook(receiver.url)
        await works.publish(3)
        works.ledger.fail("settle", 3)
        async with running(works.engine.run()):
            await until(lambda: works.all_are(SUCCEEDED))
        assert len(receiver.requests) == 3
        assert works.ledger.calls["settle"] > 3


async def test_a_result_that_cannot_be_stored_does_not_lose_the_others(works: Works) -> None:
    async with Receiver(Answer(200, delay=0.2)) as receiver:
        await works.webhook(receiver.url)
        await works.publish(5)
        poisoned = (await Delivery.all().order_by("id"))[2].id
        works.ledger.poisoned = {poisoned}
        async with running(works.engine.run()):
            await receiver.wait_for(5)
            await until(lambda: _count(SUCCEEDED, 4))
        row = await Delivery.get(id=poisoned)
        assert (row.status, row.attempt_count) == (SENDING, 1)  # it comes back with its lease
        assert await Attempt.filter(delivery_id=poisoned).count() == 0
        assert len(receiver.requests) == 5


# ── webhooks that cannot be read ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "broken",
    [{"url": "http://a:b"}, {"signature_profiles": [{"scheme": "ROT13", "header_name": "x"}]}, {"secret": b"x"}],
)
async def test_a_webhook_that_cannot_be_read_does_not_stop_the_others(works: Works, broken: dict[str, Any]) -> None:
    async with Receiver() as receiver:
        unreadable = await works.webhook(receiver.url)
        readable = await works.webhook(receiver.url)
        await Webhook.filter(id=unreadable.webhook.id).update(**broken)
        await works.publish(3)
        async with running(works.engine.run()):
            await until(lambda: _done(readable.webhook.id, 3))
            waiting = Delivery.filter(webhook_id=unreadable.webhook.id, status=PENDING, attempt_count=0)
            await until(lambda: _counts(waiting, 3))
    assert len(receiver.requests) == 3
    assert await Attempt.filter(webhook_id=unreadable.webhook.id).count() == 0


async def _done(webhook_id: UUID, wanted: int) -> bool:
    return await Delivery.filter(webhook_id=webhook_id, status=SUCCEEDED).count() == wanted


async def _counts(rows: Any, wanted: int) -> bool:
    return bool(await rows.count() == wanted)


async def test_what_is_sealed_under_another_master_key_waits_and_uses_up_no_attempt(works: Works) -> None:
    async with Receiver() as receiver:
        await works.webhook(receiver.url)
        await works.publish()
        stranger = works.another_engine(sealer=Sealer([read_master_key(new_master_key())]))
        assert await stranger.deliver_due() == 1
        delivery = await Delivery.get()
        assert (delivery.status, delivery.attempt_count, delivery.lease_until) == (PENDING, 0, None)
        assert delivery.due_at is not None
        assert (delivery.due_at - delivery.created_at).total_seconds() >= 29
        await Delivery.all().update(due_at=delivery.created_at)
        async with running(works.engine.run()):
            await until(lambda: works.all_are(SUCCEEDED))
        assert len(receiver.requests) == 1


async def test_a_changed_webhook_is_sent_to_as_it_stands_at_the_attempt(works: Works) -> None:
    async with Receiver(500) as old, Receiver() as new:
        created = await works.webhook(old.url, schedule=[3600])
        await works.publish()
        async with running(works.engine.run()):
            await until(lambda: works.all_are(RETRYING))
            await webhooks.update(works.caller, id_of(created.webhook), WebhookChange(url=new.url))
            await Delivery.all().update(due_at=from_ms(now_ms()))
            await new.wait_for(1)
            await until(lambda: works.all_are(SUCCEEDED))
    assert len(old.requests) == 1


# ── stopping ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_stopping_waits_for_what_is_in_flight_and_settles_it(works: Works) -> None:
    async with Receiver(Answer(200, delay=0.3)) as receiver:
        await works.webhook(receiver.url)
        await works.publish(5)
        async with running(works.engine.run()) as run:
            await receiver.wait_for(5)
            works.engine.stop()
            await works.publish()
            await asyncio.wait_for(asyncio.shield(run), 10)
        assert sorted(await works.states()) == [PENDING, *[SUCCEEDED] * 5]
        assert len(receiver.requests) == 5
        assert works.engine.in_flight == 0
        assert await works.engine.deliver_due() == 0


async def test_stopping_in_the_middle_of_a_claim_waits_for_what_it_claims(database_url: str) -> None:
    async with working(database_url, AN_HOUR) as works, Receiver(Answer(200, delay=0.1)) as receiver:
        async with running(works.engine.run()) as run:
            await until(lambda: works.ledger.calls["lanes"] == 1)
            await works.webhook(receiver.url)
            await works.publish()
            works.engine.wake()
            held_up = Gate()
            works.ledger.after["claim"] = held_up
            job = asyncio.create_task(works.engine.deliver_due())
            await held_up.reached.wait()
            works.engine.stop()
            await asyncio.sleep(0.05)
            held_up.opened.set()
            await asyncio.wait_for(asyncio.shield(run), 10)
            await job
        assert await works.states() == [SUCCEEDED]


async def test_what_is_abandoned_is_given_back_and_sent_by_the_next_worker_at_once(works: Works) -> None:
    async with Receiver(silence) as receiver:
        await works.webhook(receiver.url)
        await works.publish(5)
        async with running(works.engine.run()):
            await receiver.wait_for(5)
            works.engine.stop()
            await works.engine.abandon()
        rows = await Delivery.all()
        assert {(r.status, r.attempt_count, r.failure_count, r.lease_until) for r in rows} == {(PENDING, 0, 0, None)}
        assert await Attempt.all().count() == 0
        receiver.answers = [200]
        async with running(works.another_engine().run()):
            await until(lambda: works.all_are(SUCCEEDED))
        assert {a.number for a in await Attempt.all()} == {1}


async def test_abandoning_gives_back_nothing_that_has_ended(works: Works) -> None:
    async with Receiver() as receiver:
        await works.webhook(receiver.url)
        await works.publish(5)
        works.ledger.fail("settle", 10**6)
        async with running(works.engine.run()):
            await receiver.wait_for(5)
            await until(lambda: works.engine.in_flight == 0)
            await works.engine.abandon()
            assert works.ledger.calls["release"] == 0
            works.ledger.fail("settle", 0)
            await until(lambda: works.all_are(SUCCEEDED))
        assert len(receiver.requests) == 5


# ── wake-ups ────────────────────────────────────────────────────────────────────────────────────────────────────


def real_redis(url: str) -> Callable[[], ArqRedis]:
    return lambda: queue.connection(ConnectionPool.from_url(url))


@asynccontextmanager
async def taking_jobs(works: Works) -> AsyncIterator[None]:
    """The engine, which polls but once an hour, and the arq worker that wakes it."""
    async with (
        running(works.engine.run()),
        in_background(queue.work(works.house.make_redis, {"engine": works.engine, "sweep": lambda: None})),
    ):
        yield


async def test_a_publish_wakes_a_worker_through_the_in_process_redis(database_url: str) -> None:
    async with working(database_url, AN_HOUR) as works, Receiver() as receiver, taking_jobs(works):
        await until(lambda: works.ledger.calls["lanes"] == 1)  # from now on it polls no more
        await works.webhook(receiver.url)
        for count in (1, 2, 3):
            await works.publish()
            await receiver.wait_for(count)


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_publish_wakes_a_worker_through_a_real_redis(database_url: str, redis_url: str) -> None:
    real = real_redis(redis_url)
    async with working(database_url, AN_HOUR, make_redis=real) as works, Receiver() as receiver, taking_jobs(works):
        await until(lambda: works.ledger.calls["lanes"] == 1)
        await works.webhook(receiver.url)
        for count in (1, 2, 3):
            await works.publish()
            await receiver.wait_for(count)


@pytest.mark.parametrize("lost", [queue.QUEUE, queue.BELL])
async def test_the_bell_wakes_a_worker_without_the_job_and_the_job_without_the_bell(
    database_url: str, lost: str
) -> None:
    async with working(database_url, AN_HOUR) as works, Receiver() as receiver, running(works.engine.run()):
        redis = works.house.make_redis()
        await until(lambda: works.ledger.calls["lanes"] == 1)
        await works.webhook(receiver.url)
        await works.publish()
        await until(lambda: _rings(redis, 2))
        assert await _jobs(redis, 1)
        await redis.delete(lost)
        async with in_background(queue.work(works.house.make_redis, {"engine": works.engine, "sweep": lambda: None})):
            await receiver.wait_for(1)


async def _rings(redis: ArqRedis, wanted: int) -> bool:
    rings: Any = redis.llen(queue.BELL)
    return bool(await rings == wanted)


async def test_two_servers_do_not_swallow_each_others_wake_ups(database_url: str) -> None:
    async with working(database_url) as works:
        redis = works.house.make_redis()
        servers = [queue.WakeUp(redis), queue.WakeUp(redis)]
        async with running(servers[0].run()), running(servers[1].run()):
            for server in servers:
                server([(new_id(), works.caller.organization_id)])
            await until(lambda: _jobs(redis, 2))


async def _jobs(redis: ArqRedis, wanted: int) -> bool:
    return len(await redis.queued_jobs(queue_name=queue.QUEUE)) == wanted


async def test_with_redis_away_publishing_answers_and_delivery_goes_on(database_url: str) -> None:
    nowhere = real_redis("redis://127.0.0.1:1/0")
    async with working(database_url, make_redis=nowhere) as works, Receiver() as receiver, taking_jobs(works):
        await works.webhook(receiver.url)
        await works.publish(3)
        await receiver.wait_for(3)
        await works.publish(3)
        await until(lambda: works.all_are(SUCCEEDED))


async def test_a_random_mix_of_answers_ends_with_every_delivery_finished(works: Works) -> None:
    chance = Random(1)
    async with Receiver(lambda _: chance.choice([200, 200, 500, 302, 503])) as receiver:
        await works.webhook(receiver.url, schedule=[0] * 4)
        await works.publish(100)
        async with running(works.engine.run()):
            await until(_finished, timeout=30)
    rows = await Delivery.all()
    assert {row.status for row in rows} <= {SUCCEEDED, DEAD_LETTERED}
    for row in rows:
        attempts = await Attempt.filter(delivery_id=row.id).order_by("number")
        assert [a.number for a in attempts] == list(range(1, row.attempt_count + 1))
        assert row.attempt_count == row.failure_count + (row.status is SUCCEEDED)
        assert row.status is SUCCEEDED or row.failure_count == 5
    assert len(receiver.requests) == sum(row.attempt_count for row in rows)


async def _finished() -> bool:
    return not await Delivery.filter(completed_at__isnull=True).exists()
