"""Statistics over a window that ends now, against a recount of everything that happened."""

from collections import Counter
from dataclasses import dataclass
from math import ceil
from random import Random
from uuid import UUID

import pytest

from app.wiring import House
from models.attempt import AttemptOutcome
from models.delivery import DeliveryStatus
from models.ids import new_id
from models.ledger import AttemptRecord, NewEvent, Settlement
from models.moment import from_ms, to_ms
from resolvers import events, statistics, webhooks
from resolvers.caller import Caller
from resolvers.errors import FieldErrorCode, ValidationFailed
from resolvers.inputs import EventDraft, WebhookDraft
from resolvers.statistics import DeliveryCounts, StatsWindow
from tests.houses import ManualClock, new_caller

MINUTE, HOUR = 60_000, 3_600_000
SUCCESS, FAILED = AttemptOutcome.SUCCESS, AttemptOutcome.HTTP_ERROR


@dataclass(frozen=True)
class Happened:
    """One settled attempt."""

    at: int
    status: DeliveryStatus
    duration_us: int


async def webhook(caller: Caller) -> UUID:
    created = await webhooks.create(caller, WebhookDraft("https://1.1.1.1/hooks", ["*"]))
    return created.webhook.id


async def settle_one(
    caller: Caller, webhook_id: UUID, status: DeliveryStatus, *, duration_us: int = 20_000, retry_in: int = 60_000
) -> Happened:
    """Claims one delivery and settles it."""
    now = caller.desk.clock()
    [claimed] = await caller.desk.ledger.claim(now, {webhook_id: 1})
    ok = status is DeliveryStatus.SUCCEEDED
    attempt = AttemptRecord(new_id(), claimed.number, SUCCESS if ok else FAILED, None, now, duration_us)
    due_at = now + retry_in if status is DeliveryStatus.RETRYING else None
    settled = await caller.desk.ledger.settle([Settlement(claimed, status, due_at, attempt)], now, 2**60)
    assert settled.accepted == {claimed.id}
    return Happened(now, status, duration_us)


async def test_a_webhook_that_did_nothing_has_empty_figures(caller: Caller, clock: ManualClock) -> None:
    webhook_id = await webhook(caller)
    for window in StatsWindow:
        stats = (await statistics.of_webhooks(caller, [webhook_id], window))[webhook_id]
        assert (stats.window, stats.since) == (window, from_ms(clock() - window.ms))
        assert stats.deliveries == DeliveryCounts()
        assert (stats.attempts, stats.success_rate, stats.latency_ms) == (0, None, None)
        assert (stats.consecutive_failures, stats.last_success_at, stats.last_failure_at) == (0, None, None)
        assert stats.backlog_age_seconds is None
    assert [window.ms for window in StatsWindow] == [HOUR, 24 * HOUR, 168 * HOUR, 720 * HOUR]


async def test_what_waits_and_what_ended_is_told_apart(caller: Caller, clock: ManualClock) -> None:
    webhook_id = await webhook(caller)
    for n in range(6):
        await events.publish(caller, EventDraft("a", n))
        clock.advance(seconds=10)
    ends = (DeliveryStatus.SUCCEEDED, DeliveryStatus.SUCCEEDED, DeliveryStatus.DEAD_LETTERED, DeliveryStatus.RETRYING)
    for status in ends:
        await settle_one(caller, webhook_id, status)
    await caller.desk.ledger.claim(clock(), {webhook_id: 1})  # is being sent

    stats = (await statistics.of_webhooks(caller, [webhook_id], StatsWindow.HOUR))[webhook_id]

    assert stats.deliveries == DeliveryCounts(pending=2, succeeded=2, retrying=1, dead_lettered=1, canceled=0)
    assert (stats.attempts, stats.success_rate, stats.consecutive_failures) == (4, 2 / 3, 2)
    assert stats.last_success_at == stats.last_failure_at == from_ms(clock())
    assert stats.backlog_age_seconds == 30.0
    assert stats.latency_ms is not None
    assert stats.latency_ms.p50 == pytest.approx(20, rel=0.19)
    assert stats.latency_ms.max == 20.0


async def test_a_test_under_way_is_no_backlog(caller: Caller, clock: ManualClock) -> None:
    webhook_id = await webhook(caller)
    event = NewEvent(new_id(), caller.organization_id, "webhook.test", clock(), clock(), b"{}", 1)
    await caller.desk.ledger.append_test(event, new_id(), webhook_id, 1, clock() + 30_000)
    stats = (await statistics.of_webhooks(caller, [webhook_id], StatsWindow.HOUR))[webhook_id]
    assert (stats.deliveries, stats.backlog_age_seconds) == (DeliveryCounts(), None)


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_figures_of_every_window_equal_a_recount(caller: Caller, clock: ManualClock, seed: int) -> None:
    random = Random(seed)
    webhook_id = await webhook(caller)
    history: list[Happened] = []
    clock.now -= clock.now % HOUR
    clock.advance(minutes=random.randrange(60), seconds=random.randrange(60))
    ends = [DeliveryStatus.SUCCEEDED] * 4 + [DeliveryStatus.DEAD_LETTERED, DeliveryStatus.RETRYING]
    for gap in [random.choice([1, 30, 400, 4000, 90_000]) for _ in range(120)]:
        clock.advance(seconds=gap)
        await events.publish(caller, EventDraft("a", 1))
        duration_us = random.randrange(1000, 20_000_000)
        history.append(await settle_one(caller, webhook_id, random.choice(ends), duration_us=duration_us))
    for _ in range(3):
        clock.advance(minutes=random.randrange(1, 50))
        for window in StatsWindow:
            await _check_window(caller, webhook_id, window, history)
            await _check_buckets(caller, webhook_id, window, history)


def _begin(window: StatsWindow, now: int) -> int:
    """From when on a window counts: to the minute while minutes are kept, to the hour before."""
    since = now - window.ms
    if window in (StatsWindow.HOUR, StatsWindow.DAY):
        return since - since % MINUTE
    return since - since % HOUR + HOUR


async def _check_window(caller: Caller, webhook_id: UUID, window: StatsWindow, history: list[Happened]) -> None:
    now = caller.desk.clock()
    within = [one for one in history if one.at >= _begin(window, now)]
    stats = (await statistics.of_webhooks(caller, [webhook_id], window))[webhook_id]
    counts = Counter(one.status for one in within)
    succeeded, dead = counts[DeliveryStatus.SUCCEEDED], counts[DeliveryStatus.DEAD_LETTERED]
    assert stats.attempts == len(within)
    assert (stats.deliveries.succeeded, stats.deliveries.dead_lettered) == (succeeded, dead)
    assert stats.success_rate == (succeeded / (succeeded + dead) if succeeded + dead else None)
    durations = sorted(one.duration_us / 1000 for one in within)
    if not durations:
        assert stats.latency_ms is None
        return
    assert stats.latency_ms is not None
    assert stats.latency_ms.max == durations[-1]
    for fraction, value in ((0.5, stats.latency_ms.p50), (0.95, stats.latency_ms.p95), (0.99, stats.latency_ms.p99)):
        assert value == pytest.approx(durations[ceil(fraction * len(durations)) - 1], rel=0.19)
    successes = [one.at for one in history if one.status is DeliveryStatus.SUCCEEDED]
    assert (stats.last_success_at and to_ms(stats.last_success_at)) == max(successes, default=None)


async def _check_buckets(caller: Caller, webhook_id: UUID, window: StatsWindow, history: list[Happened]) -> None:
    now, count = caller.desk.clock(), 24
    since, width = now - window.ms, window.ms / count
    slices = (await statistics.buckets_of(caller, [webhook_id], window, count))[webhook_id]
    assert [to_ms(one.start) for one in slices] == [round(since + i * width) for i in range(count)]
    step = MINUTE if window in (StatsWindow.HOUR, StatsWindow.DAY) else HOUR
    expected = [Counter[str]() for _ in range(count)]
    for one in history:
        # Minutes are told apart in the current hour, too.
        grain = step if one.at < now - now % HOUR else MINUTE
        start = one.at - one.at % grain
        if one.at >= _begin(window, now):
            at = min(max(int((start - since) / width), 0), count - 1)
            expected[at]["attempts"] += 1
            expected[at]["succeeded"] += one.status is DeliveryStatus.SUCCEEDED
    assert [(one.attempts, one.succeeded, one.failed) for one in slices] == [
        (e["attempts"], e["succeeded"], e["attempts"] - e["succeeded"]) for e in expected
    ]
    assert [one.p95_latency_ms is None for one in slices] == [not e["attempts"] for e in expected]


@pytest.mark.parametrize("count", [0, 101, -1])
async def test_a_window_has_1_to_100_slices(caller: Caller, count: int) -> None:
    with pytest.raises(ValidationFailed) as refused:
        await statistics.buckets_of(caller, [await webhook(caller)], StatsWindow.DAY, count)
    assert [(p.path, p.code) for p in refused.value.fields] == [(("count",), FieldErrorCode.OUT_OF_RANGE)]


async def test_figures_are_of_the_callers_own_webhooks_each_by_itself(house: House, caller: Caller) -> None:
    theirs = await new_caller(house.desk)
    one, other, foreign = await webhook(caller), await webhook(caller), await webhook(theirs)
    await events.publish(caller, EventDraft("a", 1))
    await settle_one(caller, one, DeliveryStatus.SUCCEEDED)
    found = await statistics.of_webhooks(caller, [one, other, foreign, new_id()], StatsWindow.DAY)
    assert {webhook_id: stats.attempts for webhook_id, stats in found.items()} == {one: 1, other: 0}
    assert found[other].deliveries.pending == 1
    assert set(await statistics.buckets_of(caller, [one, foreign], StatsWindow.DAY, 2)) == {one}
    assert await statistics.of_webhooks(caller, [], StatsWindow.DAY) == {}
    assert await statistics.of_webhooks(theirs, [one], StatsWindow.DAY) == {}
