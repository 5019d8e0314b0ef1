"""Live streams as resolvers give them: what is seen, in which order, by whom, and what becomes of the slow.

No announcement is sent here but by the test's own hand or by the resolvers: sources look by themselves once a minute.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from arq.connections import ArqRedis
from redis.asyncio.connection import ConnectionPool
from tortoise.connection import get_connection
from tortoise.transactions import in_transaction

from app.wiring import House
from models import commit_order
from models.api_key import ApiKey
from models.attempt import Attempt, AttemptOutcome
from models.commit_order import Place, Table
from models.delivery import DeliveryTrigger
from models.ids import Prefix, encode, new_id
from models.moment import from_ms
from models.organization import Organization
from models.replay import Replay, ReplayStatus
from models.webhook import DisabledReason, WebhookStatus
from resolvers import events, keys, organizations, replays, streams, webhooks
from resolvers.caller import Caller, Session
from resolvers.errors import FieldErrorCode, Forbidden, LimitExceeded, NotFound, ValidationFailed
from resolvers.inputs import EventDraft, MomentRange, ReplayDraft, WebhookChange, WebhookDraft
from resolvers.sources import QUEUE_ITEMS, AttemptMade, AttemptTail, Streamed, StreamPace, WebhookDiff
from resolvers.statistics import StatsWindow
from resolvers.streams import AttemptStreamFilter
from tests.houses import id_of, new_caller, open_house, running, until
from tests.models.bench import Bench
from tests.receivers import Receiver
from workers import queue
from workers.announcements import Topic
from workers.replaying import Replayer

ALL = AttemptStreamFilter()
PATIENT = StreamPace(poll=60, patience=0.2, check=0.05, figures=0.01, figures_at_rest=60, progress=0.01)


@dataclass
class Stand:
    """A house, somebody who watches, and a ledger to make attempts with."""

    house: House
    caller: Caller
    bench: Bench

    @property
    def streams(self) -> streams.Streams:
        return self.house.desk.streams

    async def attempt(
        self, webhook_id: UUID, outcome: AttemptOutcome = AttemptOutcome.SUCCESS, *, event_type: str = "order.created"
    ) -> UUID:
        """Makes a finished attempt; answers its id. Nobody is told."""
        bench = self.bench
        event = replace(bench.event([webhook_id]), type=event_type)
        await bench.ledger.append([event], [], bench.clock(), 1000)
        [claimed] = await bench.ledger.claim(bench.clock(), {webhook_id: 1})
        settlement = bench.settlement(claimed, outcome)
        assert await bench.settle(settlement) == {claimed.id}
        return settlement.attempt.id

    async def attempts(self, webhook_id: UUID, count: int) -> list[UUID]:
        """The same for many, in one transaction."""
        await self.bench.publish(webhook_id, count=count)
        claimed = await self.bench.ledger.claim(self.bench.clock(), {webhook_id: count})
        settlements = [self.bench.settlement(one) for one in claimed]
        await self.bench.settle(*settlements)
        return sorted(one.attempt.id for one in settlements)

    async def replay(self, count: int = 3) -> Replay:
        """Asks for so many events again, which its webhook has missed."""
        await events.publish_many(self.caller, [EventDraft("order.created", n) for n in range(count)])
        webhook = (await webhooks.create(self.caller, WebhookDraft("http://127.0.0.1/", ["*"]))).webhook
        return await replays.create(self.caller, id_of(webhook), ReplayDraft(missing=MomentRange()))

    async def advance_replays(self) -> None:
        """A worker takes a step of each."""
        desk = self.house.desk
        await Replayer(desk.ledger, lambda: desk.clock() + 2000, desk.wake, desk.announce).advance_all()

    async def end_replayed(self, replay: Replay, count: int, outcome: AttemptOutcome = AttemptOutcome.SUCCESS) -> None:
        """Delivers so many of it, or gives them up; says so."""
        now = self.house.desk.clock() + 2000
        claimed = await self.bench.ledger.claim(now, {replay.webhook_id: count}, {replay.webhook_id: count})
        await self.bench.ledger.settle([self.bench.settlement(one, outcome) for one in claimed], now, 10**9)
        self.tell()

    def tell(self, topic: Topic = Topic.ATTEMPTS) -> None:
        """Announces that there is something new."""
        self.house.desk.announce(topic, [self.caller.organization_id])

    async def is_live(self, count: int = 1) -> None:
        """Waits until so many streams get what happens as it happens."""
        await until(lambda: self.streams.live == count)


def nowhere() -> ArqRedis:
    """A client of a Redis that is not there."""
    return queue.connection(ConnectionPool.from_url("redis://127.0.0.1:1"))


@asynccontextmanager
async def stand_on(database_url: str, pace: StreamPace = PATIENT, **given: Any) -> AsyncIterator[Stand]:
    async with open_house(database_url, stream_pace=pace, **given) as house:
        caller = await new_caller(house.desk)
        bench = Bench(house.desk.ledger, organization_id=caller.organization_id)
        yield Stand(house, caller, bench)
        await until(lambda: house.desk.streams.is_at_rest)


@pytest.fixture
async def stand(database_url: str) -> AsyncIterator[Stand]:
    async with stand_on(database_url) as stand:
        yield stand


@asynccontextmanager
async def watching(stream: AsyncGenerator[Any, None]) -> AsyncIterator[list[Any]]:
    """Takes from a stream as long as the block lasts, into a list."""
    seen: list[Any] = []

    async def watch() -> None:
        async with aclosing(stream):
            async for one in stream:
                seen.append(one)  # noqa: PERF401 — the list is looked at meanwhile

    async with running(watch()):
        yield seen


def ids(seen: list[Streamed[AttemptMade]]) -> list[UUID]:
    return [one.item.attempt.id for one in seen]


# ── attempts ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_finished_attempt_is_seen_once_and_in_the_order_of_commit(stand: Stand) -> None:
    webhook = await stand.bench.webhook()
    await stand.attempt(webhook)
    async with watching(streams.deliveries_attempted(stand.caller, ALL)) as seen:
        await stand.is_live()
        made = [await stand.attempt(webhook) for _ in range(3)]
        stand.tell()
        await until(lambda: len(seen) == 3)
        made.append(await stand.attempt(webhook))
        stand.tell()
        await until(lambda: len(seen) == 4)
    assert ids(seen) == made
    assert [one.skipped for one in seen] == [0, 0, 0, 0]
    assert [one.item.delivery.id for one in seen] == [one.item.attempt.delivery_id for one in seen]


async def test_a_filter_lets_pass_what_meets_all_of_it(stand: Stand) -> None:
    one, other = await stand.bench.webhook(), await stand.bench.webhook()
    only_one = [encode(Prefix.WEBHOOK, one)]
    failed, gone = AttemptOutcome.HTTP_ERROR, AttemptOutcome.TIMEOUT
    filters = {
        "webhook": AttemptStreamFilter(webhook_ids=only_one),
        "failures": AttemptStreamFilter(only_failures=True),
        "outcome": AttemptStreamFilter(outcome=[gone, AttemptOutcome.SUCCESS]),
        "type": AttemptStreamFilter(event_types=["invoice.*"]),
        "all": AttemptStreamFilter(only_one, ["order.created", "*"], [failed], only_failures=True),
        "nothing": AttemptStreamFilter(webhook_ids=[]),
    }
    async with (
        watching(streams.deliveries_attempted(stand.caller, filters["webhook"])) as of_webhook,
        watching(streams.deliveries_attempted(stand.caller, filters["failures"])) as failures,
        watching(streams.deliveries_attempted(stand.caller, filters["outcome"])) as of_outcome,
        watching(streams.deliveries_attempted(stand.caller, filters["type"])) as of_type,
        watching(streams.deliveries_attempted(stand.caller, filters["all"])) as of_all,
        watching(streams.deliveries_attempted(stand.caller, filters["nothing"])) as nothing,
        watching(streams.deliveries_attempted(stand.caller, ALL)) as everything,
    ):
        await stand.is_live(7)
        a = await stand.attempt(one)
        b = await stand.attempt(one, failed)
        c = await stand.attempt(other, failed, event_type="invoice.paid")
        d = await stand.attempt(other, gone)
        stand.tell()
        await until(lambda: len(everything) == 4)
        await until(lambda: [len(s) for s in (of_webhook, failures, of_outcome, of_type, of_all)] == [2, 3, 2, 1, 1])
    assert ids(of_webhook) == [a, b]
    assert ids(failures) == [b, c, d]
    assert ids(of_outcome) == [a, d]
    assert ids(of_type) == [c]
    assert ids(of_all) == [b]
    assert nothing == []


async def test_attempts_of_other_organizations_are_never_seen(stand: Stand) -> None:
    other = await new_caller(stand.house.desk)
    theirs = Bench(stand.bench.ledger, organization_id=other.organization_id)
    foreign = Stand(stand.house, other, theirs)
    their_webhook, our_webhook = await theirs.webhook(), await stand.bench.webhook()
    by_their_id = AttemptStreamFilter(webhook_ids=[encode(Prefix.WEBHOOK, their_webhook)])
    start = AttemptTail(stand.caller.organization_id)
    await start.begin()
    cursor = AttemptMade(start.place, None, None).cursor  # type: ignore[arg-type]
    async with (
        watching(streams.deliveries_attempted(stand.caller, by_their_id)) as spied,
        watching(streams.deliveries_attempted(stand.caller, ALL)) as seen,
    ):
        await stand.is_live(2)
        await foreign.attempt(their_webhook)
        ours = await stand.attempt(our_webhook)
        foreign.tell()
        stand.tell()
        await until(lambda: len(seen) == 1)
        async with watching(streams.deliveries_attempted(stand.caller, ALL, cursor)) as resumed:
            await stand.is_live(3)
    assert ids(seen) == ids(resumed) == [ours]
    assert spied == []


async def test_what_is_deleted_of_another_organization_hides_nothing(stand: Stand) -> None:
    other = await new_caller(stand.house.desk)
    foreign = Stand(stand.house, other, Bench(stand.bench.ledger, organization_id=other.organization_id))
    webhook, theirs = await stand.bench.webhook(), await foreign.bench.webhook()
    await stand.attempt(webhook)
    await foreign.attempts(theirs, 10)
    async with watching(streams.deliveries_attempted(stand.caller, ALL)) as seen:
        await stand.is_live()
        await Attempt.filter(organization_id=other.organization_id).delete()
        made = await stand.attempt(webhook)
        stand.tell()
        await until(lambda: len(seen) == 1)
    assert ids(seen) == [made]


async def test_who_resumes_sees_what_came_meanwhile_and_then_what_comes(stand: Stand) -> None:
    webhook = await stand.bench.webhook()
    async with watching(streams.deliveries_attempted(stand.caller, ALL)) as seen:
        await stand.is_live()
        made = [await stand.attempt(webhook) for _ in range(2)]
        stand.tell()
        await until(lambda: len(seen) == 2)
    await until(lambda: stand.streams.is_at_rest)
    made += await stand.attempts(webhook, 250)
    async with watching(streams.deliveries_attempted(stand.caller, ALL, seen[0].item.cursor)) as resumed:
        await stand.is_live()
        made.append(await stand.attempt(webhook))
        stand.tell()
        await until(lambda: len(resumed) == 252)
    assert ids(resumed) == made[1:]
    assert {one.skipped for one in resumed} == {0}


async def test_who_is_cut_again_and_again_misses_nothing_and_sees_nothing_twice(stand: Stand) -> None:
    bench, chance = stand.bench, random.Random(5)
    hooks = [await bench.webhook() for _ in range(4)]
    made: list[UUID] = []

    async def deliver(webhook: UUID) -> None:
        for _ in range(25):
            made.extend(await stand.attempts(webhook, 3))
            stand.tell()
            await asyncio.sleep(0)

    seen: list[Streamed[AttemptMade]] = []

    async def follow() -> None:
        while len(seen) < 300:
            after = seen[-1].item.cursor if seen else first
            async with aclosing(streams.deliveries_attempted(stand.caller, ALL, after)) as stream:
                most = chance.randint(1, 40)
                async for one in stream:
                    seen.append(one)
                    most -= 1
                    if not most or len(seen) == 300:
                        break

    start = AttemptTail(stand.caller.organization_id)
    await start.begin()
    first = AttemptMade(start.place, None, None).cursor  # type: ignore[arg-type]
    async with running(follow()) as following, asyncio.timeout(60):
        await asyncio.gather(*(deliver(webhook) for webhook in hooks))
        await following
    assert len(seen) == 300
    assert sorted(ids(seen)) == sorted(made)
    assert sum(one.skipped for one in seen) == 0


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
async def test_what_is_committed_late_is_not_lost_behind_what_was_committed_before(stand: Stand) -> None:
    webhook = await stand.bench.webhook()
    async with watching(streams.deliveries_attempted(stand.caller, ALL)) as seen:
        await stand.is_live()
        late = new_id()
        async with in_transaction() as connection:
            template = await stand.attempt(webhook)
            await (await Attempt.get(id=template)).clone(pk=late).save(using_db=connection, force_create=True)
            early = await stand.attempt(webhook)
            stand.tell()
            await until(lambda: len(seen) == 1)
        await until(lambda: len(seen) == 3)
    assert ids(seen) == [template, late, early]


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
async def test_what_is_held_back_by_a_transaction_of_somebody_else_comes_when_that_ends(stand: Stand) -> None:
    webhook, other = await stand.bench.webhook(), await new_caller(stand.house.desk)
    async with watching(streams.deliveries_attempted(stand.caller, ALL)) as seen:
        await stand.is_live()
        async with in_transaction() as connection:
            await Organization.filter(id=other.organization_id).using_db(connection).update(name="Busy")
            made = await stand.attempt(webhook)
            stand.tell()
            added = await commit_order.after(Table.ATTEMPT, stand.caller.organization_id, Place(0), 100)
            assert (added.rows, added.is_held_back) == ([], True)
        await until(lambda: len(seen) == 1)
    assert ids(seen) == [made]


@pytest.mark.parametrize(
    "cursor", ["", "!", "bm8", "W10", "WyJldmVudCIsMSwiMDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwIl0"]
)
async def test_what_is_no_cursor_of_this_stream_is_refused(stand: Stand, cursor: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        streams.deliveries_attempted(stand.caller, ALL, cursor)
    [problem] = refused.value.fields
    assert (problem.path, problem.code) == (("after",), FieldErrorCode.INVALID_FORMAT)


async def test_filters_that_can_match_nothing_are_refused(stand: Stand) -> None:
    with pytest.raises(ValidationFailed) as refused:
        streams.deliveries_attempted(stand.caller, AttemptStreamFilter(event_types=["order.created", "*.created"]))
    assert refused.value.fields[0].path == ("eventTypes", "1")
    with pytest.raises(ValidationFailed) as refused:
        streams.events_published(stand.caller, ["*"] * 51)
    assert (refused.value.fields[0].path, refused.value.fields[0].code) == (("patterns",), FieldErrorCode.TOO_MANY)
    with pytest.raises(NotFound):
        streams.deliveries_attempted(stand.caller, AttemptStreamFilter(webhook_ids=["evt_1"]))
    with pytest.raises(NotFound):
        streams.webhooks_changed(stand.caller, ["whk_1"])


# ── the slow ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_slow_subscriber_loses_the_oldest_and_is_told_how_many(stand: Stand) -> None:
    webhook = await stand.bench.webhook()
    async with aclosing(streams.deliveries_attempted(stand.caller, ALL)) as stream:
        first = asyncio.ensure_future(anext(stream))
        await stand.is_live()
        made = await stand.attempts(webhook, 1)
        stand.tell()
        await first
        made += await stand.attempts(webhook, 700)
        stand.tell()
        async with watching(streams.deliveries_attempted(stand.caller, ALL, (await first).item.cursor)) as quick:
            await until(lambda: len(quick) == 700)
            made += await stand.attempts(webhook, 1)
            stand.tell()
            await until(lambda: len(quick) == 701)
        slow = [await anext(stream) for _ in range(QUEUE_ITEMS)]
    assert slow[0].skipped == 701 - QUEUE_ITEMS
    assert [one.skipped for one in slow[1:]] == [0] * (QUEUE_ITEMS - 1)
    assert ids(slow) == made[-QUEUE_ITEMS:]
    assert ids(quick) == made[1:]


async def test_a_burst_is_not_skipped_by_who_keeps_taking(stand: Stand) -> None:
    webhook = await stand.bench.webhook()
    async with watching(streams.deliveries_attempted(stand.caller, ALL)) as seen:
        await stand.is_live()
        made = await stand.attempts(webhook, 1500)
        stand.tell()
        await until(lambda: len(seen) == 1500)
    assert ids(seen) == made
    assert {one.skipped for one in seen} == {0}


async def test_what_waits_for_a_slow_subscriber_is_bounded_in_bytes_too(stand: Stand) -> None:
    async with aclosing(streams.events_published(stand.caller, ["*"])) as stream:
        first = asyncio.ensure_future(anext(stream))
        await stand.is_live()
        for _ in range(60):
            await events.publish(stand.caller, EventDraft("big.one", "x" * 250_000))
        assert (await first).item.event.type == "big.one"
        async with watching(streams.events_published(stand.caller, ["*"], (await first).item.cursor)) as quick:
            await until(lambda: len(quick) == 59)
            await events.publish(stand.caller, EventDraft("last.one", 1))
            await until(lambda: len(quick) == 60)
        waiting = [await anext(stream)]
        while waiting[-1].item.event.type != "last.one":
            waiting.append(await anext(stream))
    assert waiting[0].skipped == 60 - len(waiting)
    assert sum(one.item.size for one in waiting) <= 8_388_608
    assert waiting[0].skipped > 0


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_published_events_are_seen_by_pattern_and_tests_are_not(stand: Stand) -> None:
    async with Receiver() as receiver:
        created = await webhooks.create(stand.caller, WebhookDraft(receiver.url, ["never"]))
        async with (
            watching(streams.events_published(stand.caller, ["order.*", "invoice.paid"])) as seen,
            watching(streams.events_published(stand.caller, ["*"])) as everything,
        ):
            await stand.is_live(2)
            for name in ("order.created", "order.paid", "invoice.sent", "invoice.paid"):
                await events.publish(stand.caller, EventDraft(name, {}))
            await webhooks.test(stand.caller, id_of(created.webhook), event_type="order.tested")
            await events.publish(stand.caller, EventDraft("order.last", {}))
            await until(lambda: len(everything) == 5)
            await until(lambda: len(seen) == 4)
        async with watching(streams.events_published(stand.caller, ["*"], seen[1].item.cursor)) as resumed:
            await until(lambda: len(resumed) == 3)
    assert [one.item.event.type for one in seen] == ["order.created", "order.paid", "invoice.paid", "order.last"]
    assert [one.item.event.type for one in resumed] == ["invoice.sent", "invoice.paid", "order.last"]


async def test_a_test_of_a_webhook_is_seen_among_the_attempts(stand: Stand) -> None:
    async with Receiver(500) as receiver:
        created = await webhooks.create(stand.caller, WebhookDraft(receiver.url, ["never"]))
        async with watching(streams.deliveries_attempted(stand.caller, ALL)) as seen:
            await stand.is_live()
            tested = await webhooks.test(stand.caller, id_of(created.webhook))
            await until(lambda: len(seen) == 1)
    assert ids(seen) == [tested.attempt.id]
    assert seen[0].item.delivery.trigger is DeliveryTrigger.TEST


# ── webhooks and figures ────────────────────────────────────────────────────────────────────────────────────────


async def test_each_change_of_a_webhook_is_seen_as_what_it_was(stand: Stand) -> None:
    kept = (await webhooks.create(stand.caller, WebhookDraft("http://127.0.0.1/kept", ["*"]))).webhook
    seen: list[Any]
    async with (
        watching(streams.webhooks_changed(stand.caller)) as seen,
        watching(streams.webhooks_changed(stand.caller, [id_of(kept)])) as of_kept,
    ):
        await stand.is_live(2)

        async def changes(count: int) -> None:
            await until(lambda: len(seen) == count)

        made = (await webhooks.create(stand.caller, WebhookDraft("http://127.0.0.1/made", ["*"]))).webhook
        await changes(1)
        await webhooks.update(stand.caller, id_of(made), WebhookChange(name="Ours"))
        await changes(2)
        await webhooks.rotate_secret(stand.caller, id_of(made))
        await changes(3)
        await webhooks.expire_previous_secret(stand.caller, id_of(made))
        await changes(4)
        await webhooks.update(stand.caller, id_of(kept), WebhookChange(status=WebhookStatus.DISABLED))
        await changes(5)
        await webhooks.delete(stand.caller, id_of(made))
        await changes(6)
    names = {made.id: "made", kept.id: "kept"}
    assert [(str(one.item.kind), names[one.item.webhook_id]) for one in seen] == [
        ("CREATED", "made"),
        ("UPDATED", "made"),
        ("SECRET_ROTATED", "made"),
        ("UPDATED", "made"),
        ("UPDATED", "kept"),
        ("DELETED", "made"),
    ]
    assert [str(one.item.kind) for one in of_kept] == ["UPDATED"]


async def test_a_webhook_that_the_engine_turns_off_is_seen_as_auto_disabled(stand: Stand) -> None:
    async with Receiver(410) as receiver:
        webhook = (await webhooks.create(stand.caller, WebhookDraft(receiver.url, ["*"]))).webhook
        async with watching(streams.webhooks_changed(stand.caller)) as seen, running(stand.house.engine.run()):
            await stand.is_live()
            await events.publish(stand.caller, EventDraft("order.created", {}))
            await until(lambda: len(seen) == 1)
    assert (str(seen[0].item.kind), seen[0].item.webhook_id) == ("AUTO_DISABLED", webhook.id)
    assert (await webhooks.get(stand.caller, id_of(webhook))).disabled_reason is DisabledReason.GONE


async def test_changes_that_follow_each_other_at_once_are_seen_as_their_sum(stand: Stand) -> None:
    webhook = (await webhooks.create(stand.caller, WebhookDraft("http://127.0.0.1/", ["*"]))).webhook
    source = WebhookDiff(stand.caller.organization_id)
    await source.begin()
    await webhooks.rotate_secret(stand.caller, id_of(webhook))
    await webhooks.update(stand.caller, id_of(webhook), WebhookChange(name="Renamed"))
    seen, _ = await source.read()
    assert [str(one.kind) for one in seen] == ["SECRET_ROTATED", "UPDATED"]
    assert await source.read() == ([], None)


async def test_figures_come_at_once_and_whenever_they_change(stand: Stand) -> None:
    webhook = (await webhooks.create(stand.caller, WebhookDraft("http://127.0.0.1/", ["*"]))).webhook
    stream = await streams.stats_changed(stand.caller, id_of(webhook), StatsWindow.HOUR)
    async with watching(stream) as seen:
        await until(lambda: len(seen) == 1)
        await stand.is_live()
        await events.publish(stand.caller, EventDraft("order.created", {}))
        await until(lambda: len(seen) == 2)
        [claimed] = await stand.bench.ledger.claim(stand.house.desk.clock(), {webhook.id: 1})
        settlement = stand.bench.settlement(claimed)
        await stand.bench.ledger.settle([settlement], stand.house.desk.clock(), 10**9)
        stand.tell()
        await until(lambda: len(seen) == 3)
        stand.tell()  # nothing changed
        await webhooks.delete(stand.caller, id_of(webhook))
        await until(lambda: stand.streams.is_at_rest)
    assert [(one.attempts, one.deliveries.pending, one.deliveries.succeeded) for one in seen] == [
        (0, 0, 0),
        (0, 1, 0),
        (1, 0, 1),
    ]


async def test_figures_of_another_organization_are_not_found(stand: Stand) -> None:
    webhook = (await webhooks.create(stand.caller, WebhookDraft("http://127.0.0.1/", ["*"]))).webhook
    other = await new_caller(stand.house.desk)
    with pytest.raises(NotFound):
        await streams.stats_changed(other, id_of(webhook), StatsWindow.HOUR)


# ── replays ─────────────────────────────────────────────────────────────────────────────────────────────────────


def far(seen: list[Replay]) -> list[tuple[str, int, int, int, int]]:
    return [(one.status.name, one.total, one.enqueued, one.succeeded, one.failed) for one in seen]


def replay_id(replay: Replay) -> str:
    return encode(Prefix.REPLAY, replay.id)


async def test_a_replay_is_seen_as_it_stands_whenever_it_moves_and_until_it_has_ended(stand: Stand) -> None:
    replay = await stand.replay()
    async with watching(await streams.replay_progressed(stand.caller, replay_id(replay))) as seen:
        await until(lambda: len(seen) == 1)
        await stand.advance_replays()
        await until(lambda: len(seen) == 2)
        await stand.end_replayed(replay, 2)
        await until(lambda: len(seen) == 3)
        stand.tell()  # nothing of it has moved
        await stand.end_replayed(replay, 1, AttemptOutcome.HTTP_ERROR)
        await until(lambda: len(seen) == 4)
        await stand.advance_replays()
        await until(lambda: stand.streams.is_at_rest)
    assert far(seen) == [
        ("QUEUED", 0, 0, 0, 0),
        ("RUNNING", 3, 3, 0, 0),
        ("RUNNING", 3, 3, 2, 0),
        ("RUNNING", 3, 3, 2, 1),
        ("COMPLETED", 3, 3, 2, 1),
    ]
    assert [one.completed_at is not None for one in seen] == [False, False, False, False, True]
    async with watching(await streams.replay_progressed(stand.caller, replay_id(replay))) as again:
        await until(lambda: stand.streams.is_at_rest and again)
    assert far(again) == far(seen[-1:])


async def test_a_replay_that_is_canceled_is_watched_until_its_last_request_has_ended(stand: Stand) -> None:
    replay = await stand.replay()
    await stand.advance_replays()
    now = stand.house.desk.clock() + 2000
    [claimed] = await stand.bench.ledger.claim(now, {replay.webhook_id: 1}, {replay.webhook_id: 1})
    async with watching(await streams.replay_progressed(stand.caller, replay_id(replay))) as seen:
        await until(lambda: len(seen) == 1)
        await replays.cancel(stand.caller, replay_id(replay))
        await until(lambda: len(seen) == 2)
        await stand.bench.ledger.settle([stand.bench.settlement(claimed)], now, 10**9)
        stand.tell()
        await until(lambda: len(seen) == 3)
        assert not stand.streams.is_at_rest
        await stand.advance_replays()
        await until(lambda: stand.streams.is_at_rest)
    assert far(seen) == [
        ("RUNNING", 3, 3, 0, 0),
        ("CANCELED", 3, 3, 0, 0),
        ("CANCELED", 3, 3, 1, 0),
        ("CANCELED", 3, 3, 1, 0),
    ]
    assert [one.completed_at is not None for one in seen] == [False, False, False, True]


async def test_replays_of_another_organization_are_not_found(stand: Stand) -> None:
    replay = await stand.replay()
    other = await new_caller(stand.house.desk)
    for caller, named in ((other, replay_id(replay)), (stand.caller, "rpl_1"), (stand.caller, f"whk_{replay.id}")):
        with pytest.raises(NotFound):
            await streams.replay_progressed(caller, named)


# ── who may watch, and how long ─────────────────────────────────────────────────────────────────────────────────


async def test_each_stream_needs_its_scope(stand: Stand) -> None:
    webhook = (await webhooks.create(stand.caller, WebhookDraft("http://127.0.0.1/", ["*"]))).webhook
    everything = {"webhooks:read", "events:read", "deliveries:read"}

    async def lacking(scope: str) -> Caller:
        return await new_caller(stand.house.desk, *(everything - {scope}))

    with pytest.raises(Forbidden):
        streams.deliveries_attempted(await lacking("deliveries:read"), ALL)
    with pytest.raises(Forbidden):
        streams.events_published(await lacking("events:read"), ["*"])
    with pytest.raises(Forbidden):
        streams.webhooks_changed(await lacking("webhooks:read"))
    with pytest.raises(Forbidden):
        await streams.stats_changed(await lacking("webhooks:read"), id_of(webhook), StatsWindow.HOUR)
    replay = await replays.create(stand.caller, id_of(webhook), ReplayDraft(missing=MomentRange()))
    with pytest.raises(Forbidden):
        await streams.replay_progressed(await lacking("deliveries:read"), replay_id(replay))
    assert stand.streams.is_at_rest


async def test_a_key_that_is_revoked_or_expires_watches_no_more(stand: Stand) -> None:
    organization = await Organization.get(id=stand.caller.organization_id)
    revoked, expired = [await new_caller(stand.house.desk, organization=organization) for _ in range(2)]

    async def revoke() -> None:
        await keys.revoke_any(encode(Prefix.API_KEY, revoked.key.id))

    async def expire() -> None:
        past = from_ms(stand.house.desk.clock()) - timedelta(seconds=1)
        await ApiKey.filter(id=expired.key.id).update(expires_at=past)

    async with watching(streams.deliveries_attempted(stand.caller, ALL)) as others:
        for caller, end in ((revoked, revoke), (expired, expire)):
            stream = streams.deliveries_attempted(caller, ALL)
            waiting = asyncio.ensure_future(anext(stream))
            await stand.is_live(2)
            await end()
            async with asyncio.timeout(20):
                with pytest.raises(Forbidden, match="revoked, or has expired"):
                    await waiting
        await stand.is_live(1)
        webhook = await stand.bench.webhook()
        made = await stand.attempt(webhook)
        stand.tell()
        await until(lambda: len(others) == 1)
    assert ids(others) == [made]


async def test_a_session_that_is_over_watches_no_more(stand: Stand) -> None:
    session = Session(new_id(), stand.caller.key.id, stand.house.desk.clock() + 300)
    waiting = asyncio.ensure_future(anext(streams.deliveries_attempted(replace(stand.caller, session=session), ALL)))
    async with watching(streams.deliveries_attempted(stand.caller, ALL)):
        async with asyncio.timeout(20):
            with pytest.raises(Forbidden, match="session is over"):
                await waiting
        await stand.is_live(1)


async def test_an_organization_that_is_deleted_is_watched_no_more(stand: Stand) -> None:
    platform = await new_caller(stand.house.desk, "platform", "*")
    acting = platform.acting_for(stand.caller.organization_id)
    for caller in (stand.caller, acting):
        waiting = asyncio.ensure_future(anext(streams.deliveries_attempted(caller, ALL)))
        await stand.is_live(1)
        if caller is stand.caller:
            waiting.cancel()
            await until(lambda: stand.streams.is_at_rest)
    await organizations.delete(platform, encode(Prefix.ORGANIZATION, stand.caller.organization_id))
    async with asyncio.timeout(20):
        with pytest.raises(Forbidden, match="deleted"):
            await waiting


async def test_an_organization_can_watch_only_so_much_at_once(database_url: str) -> None:
    async with (
        stand_on(database_url, replace(PATIENT, most=2)) as stand,
        watching(streams.deliveries_attempted(stand.caller, ALL)),
        watching(streams.webhooks_changed(stand.caller)),
    ):
        await stand.is_live(2)
        with pytest.raises(LimitExceeded):
            await anext(streams.events_published(stand.caller, ["*"]))
        other = await new_caller(stand.house.desk)
        async with watching(streams.events_published(other, ["*"])):
            await stand.is_live(3)


async def test_a_thousand_subscribers_leave_nothing_behind(stand: Stand) -> None:
    webhook = await stand.bench.webhook()
    before = len(asyncio.all_tasks())
    made = [streams.deliveries_attempted(stand.caller, ALL) for _ in range(1000)]
    waiting = [asyncio.ensure_future(anext(stream)) for stream in made]
    await stand.is_live(1000)
    assert len(asyncio.all_tasks()) - before < 1010
    attempt = await stand.attempt(webhook)
    stand.tell()
    seen = await asyncio.gather(*waiting[:500])
    assert {one.item.attempt.id for one in seen} == {attempt}
    for task in waiting[500:]:
        task.cancel()  # as when a connection breaks
    for stream in made[:500]:
        await stream.aclose()
    del seen, waiting, made, stream, task
    await until(lambda: stand.streams.is_at_rest)
    await until(lambda: len(asyncio.all_tasks()) == before)
    assert (stand.streams.watchers, stand.streams.live) == (0, 0)


# ── without Redis, without a database ───────────────────────────────────────────────────────────────────────────


async def test_without_redis_streams_look_by_themselves(database_url: str) -> None:
    pace = StreamPace(poll=0.05, figures=0.01, progress=0.01)
    async with stand_on(database_url, pace, make_redis=nowhere) as stand:
        replay = await stand.replay()
        webhook = (await webhooks.create(stand.caller, WebhookDraft("http://127.0.0.1/", ["*"]))).webhook
        figures = await streams.stats_changed(stand.caller, id_of(webhook), StatsWindow.HOUR)
        async with (
            watching(streams.deliveries_attempted(stand.caller, ALL)) as attempts,
            watching(streams.events_published(stand.caller, ["*"])) as published,
            watching(streams.webhooks_changed(stand.caller)) as changed,
            watching(figures) as counted,
            watching(await streams.replay_progressed(stand.caller, replay_id(replay))) as replayed,
        ):
            await stand.is_live(4)
            await until(lambda: len(replayed) == 1)
            await stand.advance_replays()
            await events.publish(stand.caller, EventDraft("order.created", {}))
            await webhooks.update(stand.caller, id_of(webhook), WebhookChange(name="Ours"))
            [claimed] = await stand.bench.ledger.claim(stand.house.desk.clock(), {webhook.id: 1})
            await stand.bench.ledger.settle([stand.bench.settlement(claimed)], stand.house.desk.clock(), 10**9)
            await until(lambda: (len(attempts), len(published), len(changed)) == (1, 1, 1))
            await until(lambda: counted[-1].attempts == 1)
            await until(lambda: replayed[-1].status is ReplayStatus.RUNNING)


async def test_a_source_goes_on_when_the_database_was_away(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with (
        stand_on(database_url, replace(PATIENT, poll=0.05)) as stand,
        watching(streams.deliveries_attempted(stand.caller, ALL)) as seen,
    ):
        webhook = await stand.bench.webhook()
        await stand.is_live()
        await get_connection("default").execute_script("ALTER TABLE attempt RENAME TO hidden")
        stand.tell()
        await until(lambda: "cannot read the database" in caplog.text)
        await get_connection("default").execute_script("ALTER TABLE hidden RENAME TO attempt")
        made = await stand.attempt(webhook)
        stand.tell()
        await until(lambda: len(seen) == 1)
    assert ids(seen) == [made]
