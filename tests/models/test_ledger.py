"""The ledger, the same on both databases: every transition, what guards it, and what it leaves behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast
from uuid import UUID

import asyncpg
import pytest
from tortoise.backends.asyncpg.client import AsyncpgDBClient
from tortoise.connection import get_connection
from tortoise.transactions import in_transaction

from models.attempt import Attempt, AttemptOutcome
from models.delivery import Delivery, DeliveryStatus, DeliveryTrigger
from models.event import Event
from models.ids import new_id
from models.ledger import EarlierUse, IdempotencyClaim, Outdated, Settled, StoredEvent, WaitingLane
from models.ledger_postgres import PostgresLedger
from models.moment import from_ms
from models.organization import Organization
from models.webhook import DisabledReason, Webhook, WebhookHealth, WebhookStatus
from tests.houses import stored, until
from tests.models.bench import BODY, DATA_OFFSET, FIVE_DAYS_MS, LEASE_MS, Bench, select, states

PENDING, SENDING, RETRYING, SUCCEEDED, DEAD_LETTERED, CANCELED = DeliveryStatus
FAILED = AttemptOutcome.HTTP_ERROR


def without_body(row: Delivery) -> dict[str, object]:
    return {name: getattr(row, name) for name in ("status", "due_at", "lease_until", "attempt_count", "failure_count")}


# ── in ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_event_and_its_deliveries_are_written_due_at_once(bench: Bench) -> None:
    one, other = await bench.webhook(), await bench.webhook()
    event = bench.event([one, other])

    assert await bench.ledger.append([event, bench.event()], [], bench.clock(), 1000) == set()

    row = await Event.get(id=event.id)
    assert (row.organization_id, row.type, row.is_test) == (bench.organization_id, "order.created", False)
    assert (row.occurred_at, row.received_at) == (from_ms(bench.clock() - 1000), from_ms(bench.clock()))
    assert (bytes(row.body), row.data) == (BODY, b'{"id":42}')
    assert await Event.all().count() == 2
    deliveries = await Delivery.all().order_by("id")
    assert [(d.id, d.webhook_id) for d in deliveries] == [(d.id, d.webhook_id) for d in event.deliveries]
    for delivery in deliveries:
        assert (delivery.organization_id, delivery.event_id) == (bench.organization_id, event.id)
        assert (delivery.status, delivery.trigger, delivery.event_type) == (
            PENDING, DeliveryTrigger.EVENT, "order.created",
        )  # fmt: skip
        assert (delivery.attempt_count, delivery.failure_count, delivery.fence) == (0, 0, 0)
        assert delivery.due_at == delivery.created_at == from_ms(bench.clock())
        assert (delivery.lease_until, delivery.completed_at, delivery.replay_of_id) == (None, None, None)
    assert await bench.ledger.delivery_counts([event.id, new_id()]) == {event.id: 2}
    assert await bench.ledger.events([event.id, new_id()]) == {
        event.id: StoredEvent(event.id, "order.created", BODY, DATA_OFFSET)
    }


async def test_nothing_is_written_for_an_organization_that_has_changed_or_gone(bench: Bench) -> None:
    ledger, ours = bench.ledger, bench.organization_id
    event = bench.event([await bench.webhook()])
    claims = [IdempotencyClaim(ours, "publishEvent", "key", b"digest", event.id)]
    before = await stored()

    async def append(versions: dict[UUID, int], claims: list[IdempotencyClaim]) -> set[tuple[UUID, str, str]]:
        return await ledger.append([event], claims, bench.clock(), 1000, versions)

    for versions in ({ours: 2}, {ours: 0}, {ours: 1, new_id(): 1}):
        for taken in ([], claims):
            with pytest.raises(Outdated):
                await append(versions, taken)
    await Organization.filter(id=ours).update(deleted_at=from_ms(bench.clock()))
    with pytest.raises(Outdated):
        await append({ours: 1}, [])
    await Organization.filter(id=ours).update(deleted_at=None)
    assert await stored() == before

    assert await append({ours: 1}, claims) == set()
    assert (await Event.all().count(), await Delivery.all().count()) == (1, 1)


async def test_an_idempotency_key_is_taken_with_the_event(bench: Bench) -> None:
    event = bench.event()
    claim = IdempotencyClaim(bench.organization_id, "publishEvent", "key-1", b"digest", event.id)
    other = IdempotencyClaim(bench.organization_id, "createWebhook", "key-1", b"digest", new_id())
    assert await bench.ledger.earlier_uses([claim], bench.clock(), 1000) == {}

    assert await bench.ledger.append([event], [claim], bench.clock(), 1000) == set()

    uses = await bench.ledger.earlier_uses([claim, other], bench.clock(), 1000)
    assert uses == {(bench.organization_id, "publishEvent", "key-1"): EarlierUse(b"digest", event.id)}


async def test_when_one_key_is_taken_nothing_of_the_batch_is_written(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    taken = IdempotencyClaim(bench.organization_id, "publishEvent", "taken", b"1", new_id())
    free = IdempotencyClaim(bench.organization_id, "publishEvent", "free", b"2", new_id())
    await bench.ledger.append([bench.event([webhook_id])], [taken], bench.clock(), 1000)
    before = await stored()

    again = IdempotencyClaim(bench.organization_id, "publishEvent", "taken", b"3", new_id())
    lost = await bench.ledger.append([bench.event([webhook_id])] * 1, [free, again], bench.clock(), 1000)

    assert lost == {(bench.organization_id, "publishEvent", "taken")}
    assert await stored() == before


async def test_keys_of_organizations_and_operations_do_not_meet(bench: Bench) -> None:
    claims = [
        IdempotencyClaim(organization_id, operation, "key", b"digest", new_id())
        for organization_id in (bench.organization_id, new_id())
        for operation in ("publishEvent", "createWebhook")
    ]
    assert await bench.ledger.append([bench.event()], claims, bench.clock(), 1000) == set()


@pytest.mark.parametrize(("age_ms", "free"), [(999, False), (1000, True), (1001, True)])
async def test_a_key_is_free_again_when_its_lifetime_is_over(bench: Bench, age_ms: int, free: bool) -> None:
    first = IdempotencyClaim(bench.organization_id, "publishEvent", "key", b"1", new_id())
    await bench.ledger.append([bench.event()], [first], bench.clock(), 1000)
    bench.clock.advance(milliseconds=age_ms)
    second = IdempotencyClaim(bench.organization_id, "publishEvent", "key", b"2", new_id())

    earlier = await bench.ledger.earlier_uses([second], bench.clock(), 1000)
    lost = await bench.ledger.append([bench.event()], [second], bench.clock(), 1000)

    assert (not earlier, not lost) == (free, free)
    key = (bench.organization_id, "publishEvent", "key")
    now_used = (await bench.ledger.earlier_uses([second], bench.clock(), 1000)).get(key)
    assert now_used == (EarlierUse(b"2", second.result_id) if free else EarlierUse(b"1", first.result_id))


async def test_of_concurrent_appends_with_one_key_exactly_one_writes(bench: Bench) -> None:
    async def append() -> bool:
        event = bench.event()
        claim = IdempotencyClaim(bench.organization_id, "publishEvent", "key", b"digest", event.id)
        return not await bench.ledger.append([event], [claim], bench.clock(), 1000)

    won = await asyncio.gather(*(append() for _ in range(8)))

    assert sorted(won) == [False] * 7 + [True]
    [event] = await Event.all()
    [key] = await select("SELECT result_id FROM idempotency")
    assert UUID(str(key["result_id"])) == event.id


async def test_concurrent_appends_with_the_same_keys_in_other_orders_do_not_block_each_other(bench: Bench) -> None:
    async def append(names: list[str]) -> bool:
        claims = [IdempotencyClaim(bench.organization_id, "publishEvent", n, b"d", new_id()) for n in names]
        return not await bench.ledger.append([bench.event()], claims, bench.clock(), 1000)

    names = [f"key-{i}" for i in range(50)]
    won = await asyncio.gather(*(append(names[i:] + names[:i]) for i in range(8)))

    assert sum(won) == 1
    assert await Event.all().count() == 1


# ── claiming ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_claim_takes_what_is_due_under_a_lease(bench: Bench) -> None:
    webhook_id = await bench.webhook(revision=7)
    [delivery_id] = await bench.publish(webhook_id)
    published_at = bench.clock()
    bench.clock.advance(seconds=3)

    claimed = await bench.claim_one()

    row = await Delivery.get(id=delivery_id)
    assert (claimed.id, claimed.organization_id, claimed.event_id) == (delivery_id, bench.organization_id, row.event_id)
    assert (claimed.webhook_id, claimed.webhook_revision, claimed.trigger) == (webhook_id, 7, DeliveryTrigger.EVENT)
    assert (claimed.number, claimed.failures, claimed.created_at) == (1, 0, published_at)
    assert (row.status, row.attempt_count, row.fence) == (SENDING, 1, claimed.fence)
    assert row.lease_until == from_ms(bench.clock() + LEASE_MS)
    assert await bench.claim() == []


async def test_a_claim_takes_the_longest_due_first_and_no_more_than_its_limit(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    ids = []
    for _ in range(5):
        ids += await bench.publish(webhook_id)
        bench.clock.advance(seconds=1)
    assert {claimed.id for claimed in await bench.claim(2)} == set(ids[:2])
    assert {claimed.id for claimed in await bench.claim(2)} == set(ids[2:4])
    assert {claimed.id for claimed in await bench.claim(2)} == set(ids[4:])


async def test_what_is_not_due_yet_is_not_claimed(bench: Bench) -> None:
    await bench.publish(await bench.webhook())
    first = await bench.claim_one()
    await bench.settle(bench.settlement(first, FAILED, retry_in=5000))
    bench.clock.advance(milliseconds=4999)
    assert await bench.claim() == []
    bench.clock.advance(milliseconds=1)
    again = await bench.claim_one()
    assert (again.id, again.number, again.failures) == (first.id, 2, 1)
    assert again.fence != first.fence


async def test_concurrent_claims_are_disjoint_and_miss_nothing(bench: Bench) -> None:
    ids = await bench.publish(await bench.webhook(), count=100)
    taken = [claimed.id for batch in await asyncio.gather(*(bench.claim(20) for _ in range(8))) for claimed in batch]
    while batch := await bench.claim(20):  # a claim passes over what another is just taking
        taken += [claimed.id for claimed in batch]
    assert len(taken) == 100
    assert set(taken) == set(ids)


@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("status", WebhookStatus)
async def test_what_a_claim_does_depends_on_the_webhook(bench: Bench, status: WebhookStatus, deleted: bool) -> None:
    webhook_id = await bench.webhook()
    [delivery_id] = await bench.publish(webhook_id)
    await bench.set_webhook(webhook_id, status=status, deleted_at=from_ms(bench.clock()) if deleted else None)

    claimed = await bench.claim()

    row = await Delivery.get(id=delivery_id)
    assert row.fence != 0
    if status is WebhookStatus.ENABLED and not deleted:
        assert [one.id for one in claimed] == [delivery_id]
        return
    assert claimed == []
    if status is WebhookStatus.PAUSED and not deleted:
        assert without_body(row) == {
            "status": PENDING, "due_at": None, "lease_until": None, "attempt_count": 0, "failure_count": 0,
        }  # fmt: skip
        assert (row.completed_at, await bench.counters(webhook_id)) == (None, {})
    else:
        assert (row.status, row.due_at, row.completed_at) == (CANCELED, None, from_ms(bench.clock()))
        assert await bench.counters(webhook_id) == {"canceled": 1}
        assert await bench.counters(webhook_id, 3_600_000) == {"canceled": 1}


# ── leases that run out ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_delivery_whose_worker_died_comes_back_with_its_lease_and_the_attempt_is_recorded(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    [delivery_id] = await bench.publish(webhook_id)
    held = await bench.claim_one()
    began = bench.clock()
    bench.clock.advance(milliseconds=LEASE_MS - 1)
    assert await bench.claim() == []
    bench.clock.advance(milliseconds=1)

    again = await bench.claim_one()

    assert (again.id, again.number, again.failures) == (delivery_id, 2, 0)
    assert again.fence != held.fence
    attempt = await Attempt.get(delivery_id=delivery_id)
    assert (attempt.number, attempt.outcome, attempt.webhook_id) == (1, AttemptOutcome.ABANDONED, webhook_id)
    assert attempt.error == "the worker stopped before the result was known"
    assert (attempt.started_at, attempt.duration_us) == (from_ms(began), LEASE_MS * 1000)
    assert attempt.request_url is attempt.response_status is None
    assert await bench.counters(webhook_id) == {}


async def test_abandoned_attempts_are_numbered_but_do_not_count_as_failures(bench: Bench) -> None:
    [delivery_id] = await bench.publish(await bench.webhook())
    for _ in range(3):
        await bench.claim_one()
        bench.clock.advance(milliseconds=LEASE_MS)
    claimed = await bench.claim_one()
    assert (claimed.number, claimed.failures) == (4, 0)
    await bench.settle(bench.settlement(claimed, FAILED, retry_in=1000))
    bench.clock.advance(seconds=1)
    claimed = await bench.claim_one()
    assert (claimed.number, claimed.failures) == (5, 1)
    attempts = await Attempt.filter(delivery_id=delivery_id).order_by("number")
    assert [(a.number, a.outcome) for a in attempts] == [
        (1, AttemptOutcome.ABANDONED),
        (2, AttemptOutcome.ABANDONED),
        (3, AttemptOutcome.ABANDONED),
        (4, FAILED),
    ]


@pytest.mark.parametrize("failed_before", [False, True])
async def test_abandoned_under_a_paused_webhook_it_is_recorded_and_parked(bench: Bench, failed_before: bool) -> None:
    webhook_id = await bench.webhook()
    [delivery_id] = await bench.publish(webhook_id)
    if failed_before:
        await bench.settle(bench.settlement(await bench.claim_one(), FAILED, retry_in=0))
    await bench.claim_one()
    await bench.set_webhook(webhook_id, status=WebhookStatus.PAUSED)
    bench.clock.advance(milliseconds=LEASE_MS)

    assert await bench.claim() == []

    row = await Delivery.get(id=delivery_id)
    assert without_body(row) == {
        "status": RETRYING if failed_before else PENDING,
        "due_at": None,
        "lease_until": None,
        "attempt_count": 1 + failed_before,
        "failure_count": int(failed_before),
    }
    last = await Attempt.filter(delivery_id=delivery_id).order_by("-number").first()
    assert last is not None
    assert (last.number, last.outcome) == (1 + failed_before, AttemptOutcome.ABANDONED)


async def test_abandoned_under_a_disabled_webhook_it_is_recorded_and_canceled(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    [delivery_id] = await bench.publish(webhook_id)
    await bench.claim_one()
    assert await bench.ledger.disable(webhook_id, DisabledReason.MANUAL, bench.clock())
    assert await states([delivery_id]) == [SENDING]
    bench.clock.advance(milliseconds=LEASE_MS)

    assert await bench.claim() == []

    assert await states([delivery_id]) == [CANCELED]
    attempt = await Attempt.get(delivery_id=delivery_id)
    assert (attempt.number, attempt.outcome) == (1, AttemptOutcome.ABANDONED)
    assert await bench.counters(webhook_id) == {"canceled": 1}


async def test_a_claim_that_cannot_record_what_was_abandoned_claims_nothing(bench: Bench) -> None:
    await bench.publish(await bench.webhook())
    await bench.claim_one()
    bench.clock.advance(milliseconds=LEASE_MS)
    before = await stored()
    connection = get_connection("default")
    await connection.execute_script("ALTER TABLE attempt RENAME TO attempt_away")
    with pytest.raises(Exception, match="attempt"):
        await bench.claim()
    await connection.execute_script("ALTER TABLE attempt_away RENAME TO attempt")
    assert await stored() == before
    assert (await bench.claim_one()).number == 2


# ── settling ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_success_is_written_with_its_attempt_health_and_statistics(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    [delivery_id] = await bench.publish(webhook_id)
    claimed = await bench.claim_one()
    bench.clock.advance(milliseconds=12)
    settlement = bench.settlement(claimed)

    settled = await bench.ledger.settle([settlement], bench.clock(), FIVE_DAYS_MS)

    assert settled == Settled({delivery_id}, [])
    row = await Delivery.get(id=delivery_id)
    assert without_body(row) == {
        "status": SUCCEEDED, "due_at": None, "lease_until": None, "attempt_count": 1, "failure_count": 0,
    }  # fmt: skip
    assert (row.last_outcome, row.last_status_code) == (AttemptOutcome.SUCCESS, 200)
    assert row.completed_at == from_ms(bench.clock())
    attempt = await Attempt.get(id=settlement.attempt.id)
    assert (attempt.organization_id, attempt.delivery_id, attempt.webhook_id) == (
        bench.organization_id, delivery_id, webhook_id,
    )  # fmt: skip
    assert (attempt.number, attempt.outcome) == (1, AttemptOutcome.SUCCESS)
    assert not attempt.error
    assert (attempt.started_at, attempt.duration_us) == (from_ms(bench.clock()), 12_345)
    assert (attempt.request_url, attempt.request_headers, attempt.request_bytes) == (
        "https://example.com/hook", '[["content-type","application/json"]]', len(BODY),
    )  # fmt: skip
    assert (attempt.response_status, attempt.response_headers) == (200, '[["server","nginx"]]')
    assert bytes(attempt.response_excerpt or b"") == b"\xff\x00ok"
    assert attempt.response_truncated is True
    health = await WebhookHealth.get(webhook_id=webhook_id)
    assert (health.consecutive_failures, health.failing_since, health.last_delivery_failed) == (0, None, False)
    assert (health.last_success_at, health.last_failure_at) == (from_ms(bench.clock()), None)
    counted = {"attempts": 1, "attempts_succeeded": 1, "succeeded": 1, "h08": 1}
    assert await bench.counters(webhook_id) == await bench.counters(webhook_id, 3_600_000) == counted
    [minute, hour] = await select("SELECT start, max_us FROM delivery_rollup ORDER BY resolution_ms")
    assert (minute["start"], minute["max_us"]) == (bench.clock() // 60_000 * 60_000, 12_345)
    assert hour["start"] == bench.clock() // 3_600_000 * 3_600_000


async def test_a_failure_waits_for_its_next_time(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    [delivery_id] = await bench.publish(webhook_id)
    assert await bench.settle(bench.settlement(await bench.claim_one(), FAILED, retry_in=5000)) == {delivery_id}
    row = await Delivery.get(id=delivery_id)
    assert without_body(row) == {
        "status": RETRYING,
        "due_at": from_ms(bench.clock() + 5000),
        "lease_until": None,
        "attempt_count": 1,
        "failure_count": 1,
    }
    assert (row.last_outcome, row.last_status_code, row.completed_at) == (FAILED, 500, None)
    health = await WebhookHealth.get(webhook_id=webhook_id)
    assert (health.consecutive_failures, health.failing_since) == (1, from_ms(bench.clock()))
    assert (health.last_failure_at, health.last_delivery_failed) == (from_ms(bench.clock()), False)
    assert await bench.counters(webhook_id) == {"attempts": 1, "h08": 1}


async def test_a_delivery_that_is_given_up_is_finished_and_its_webhook_failing(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    [delivery_id] = await bench.publish(webhook_id)
    await bench.settle(bench.settlement(await bench.claim_one(), FAILED))
    row = await Delivery.get(id=delivery_id)
    assert (row.status, row.due_at, row.completed_at) == (DEAD_LETTERED, None, from_ms(bench.clock()))
    assert row.dead_at == row.completed_at
    assert (await WebhookHealth.get(webhook_id=webhook_id)).last_delivery_failed is True
    assert await bench.counters(webhook_id) == {"attempts": 1, "dead_lettered": 1, "h08": 1}
    bench.clock.advance(days=30)
    assert await bench.claim() == []


@pytest.mark.parametrize("late", ["success", "failure", "gone"])
@pytest.mark.parametrize("meanwhile", ["claimed anew", "settled", "released", "canceled", "parked"])
async def test_a_late_result_is_refused_and_leaves_nothing_behind(bench: Bench, meanwhile: str, late: str) -> None:
    webhook_id = await bench.webhook()
    [delivery_id] = await bench.publish(webhook_id)
    held = await bench.claim_one()
    if meanwhile == "settled":
        await bench.settle(bench.settlement(held, FAILED, retry_in=1000))
    elif meanwhile == "released":
        await bench.ledger.release([held], bench.clock())
    else:
        status = {"canceled": WebhookStatus.DISABLED, "parked": WebhookStatus.PAUSED}.get(meanwhile)
        if status is not None:
            await bench.set_webhook(webhook_id, status=status)
        bench.clock.advance(milliseconds=LEASE_MS)
        assert len(await bench.claim()) == (status is None)
    before = await stored()

    result = {
        "success": bench.settlement(held),
        "failure": bench.settlement(held, FAILED, retry_in=1000),
        "gone": bench.settlement(held, FAILED, gone=True),
    }[late]
    settled = await bench.ledger.settle([result], bench.clock(), failing_limit_ms=0)

    assert settled == Settled(set(), [])
    assert await stored() == before
    assert await states([delivery_id]) != [SUCCEEDED]


async def test_a_late_result_does_not_hold_up_the_others_of_its_batch(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    ids = await bench.publish(webhook_id, count=3)
    held = {claimed.id: claimed for claimed in await bench.claim()}
    await bench.ledger.release([held[ids[1]]], bench.clock())
    accepted = await bench.settle(*(bench.settlement(held[one]) for one in ids))
    assert accepted == {ids[0], ids[2]}
    assert await states(ids) == [SUCCEEDED, PENDING, SUCCEEDED]
    assert await Attempt.all().count() == 2
    assert await bench.counters(webhook_id) == {"attempts": 2, "attempts_succeeded": 2, "succeeded": 2, "h08": 2}


async def test_settling_nothing_does_nothing(bench: Bench) -> None:
    before = await stored()
    assert await bench.ledger.settle([], bench.clock(), 0) == Settled(set(), [])
    await bench.ledger.release([], bench.clock())
    assert await stored() == before


# ── giving back ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_given_back_is_as_if_it_had_never_been_claimed(bench: Bench) -> None:
    ids = await bench.publish(await bench.webhook(), count=2)
    claimed = await bench.claim()
    await bench.settle(bench.settlement(claimed[0], FAILED, retry_in=0))
    again = await bench.claim_one()

    await bench.ledger.release([again, claimed[1]], bench.clock() + 7)

    rows = {row.id: row for row in await Delivery.all()}
    due_at = from_ms(bench.clock() + 7)
    retried, fresh = rows[again.id], rows[claimed[1].id]
    assert without_body(retried) == {
        "status": RETRYING, "due_at": due_at, "lease_until": None, "attempt_count": 1, "failure_count": 1,
    }  # fmt: skip
    assert without_body(fresh) == {
        "status": PENDING, "due_at": due_at, "lease_until": None, "attempt_count": 0, "failure_count": 0,
    }  # fmt: skip
    bench.clock.advance(milliseconds=7)
    assert sorted((c.number, c.failures) for c in await bench.claim()) == [(1, 0), (2, 1)]
    assert len(ids) == 2


async def test_an_old_claim_cannot_be_given_back(bench: Bench) -> None:
    await bench.publish(await bench.webhook())
    old = await bench.claim_one()
    bench.clock.advance(milliseconds=LEASE_MS)
    await bench.claim_one()
    before = await stored()
    await bench.ledger.release([old], bench.clock())
    assert await stored() == before


# ── webhooks that are paused, disabled or deleted ───────────────────────────────────────────────────────────────


async def test_parking_holds_back_what_waits_and_leaves_alone_what_is_on_its_way(bench: Bench) -> None:
    webhook_id, other = await bench.webhook(), await bench.webhook()
    sending, retrying = await bench.publish(webhook_id, count=2)
    claims = {claimed.id: claimed for claimed in await bench.claim()}
    await bench.settle(bench.settlement(claims[retrying], FAILED, retry_in=60_000))
    [waiting] = await bench.publish(webhook_id)
    [others] = await bench.publish(other)

    await bench.set_webhook(webhook_id, status=WebhookStatus.PAUSED)
    assert await bench.ledger.park(webhook_id) == 2
    assert await bench.ledger.park(webhook_id) == 0

    due = dict(await Delivery.all().values_list("id", "due_at"))
    assert due == {
        sending: from_ms(bench.clock()), retrying: None, waiting: None, others: from_ms(bench.clock()),
    }  # fmt: skip
    assert await states([sending, retrying, waiting]) == [SENDING, RETRYING, PENDING]
    assert await bench.ledger.unpark(webhook_id, bench.clock()) == 0  # still paused
    await bench.set_webhook(webhook_id, status=WebhookStatus.ENABLED)
    bench.clock.advance(seconds=1)
    assert await bench.ledger.unpark(webhook_id, bench.clock()) == 2
    assert {c.id: c.number for c in await bench.claim()} == {retrying: 2, waiting: 1, others: 1}


async def test_canceling_ends_what_waits_and_leaves_alone_what_is_on_its_way(bench: Bench) -> None:
    webhook_id, other = await bench.webhook(), await bench.webhook()
    sending, retrying, done = await bench.publish(webhook_id, count=3)
    claims = {claimed.id: claimed for claimed in await bench.claim()}
    await bench.settle(bench.settlement(claims[retrying], FAILED, retry_in=0), bench.settlement(claims[done]))
    [parked] = await bench.publish(webhook_id)
    await bench.ledger.park(webhook_id)
    [waiting] = await bench.publish(webhook_id)
    [others] = await bench.publish(other)

    assert await bench.ledger.cancel_waiting(webhook_id, bench.clock()) == 3
    assert await bench.ledger.cancel_waiting(webhook_id, bench.clock()) == 0

    assert await states([sending, retrying, done, parked, waiting, others]) == [
        SENDING, CANCELED, SUCCEEDED, CANCELED, CANCELED, PENDING,
    ]  # fmt: skip
    assert (await bench.counters(webhook_id))["canceled"] == 3
    assert await bench.counters(other) == {}


async def test_a_webhook_is_disabled_once_with_its_reason_and_its_publishers_are_told(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    [delivery_id] = await bench.publish(webhook_id)
    assert await bench.ledger.versions([bench.organization_id, new_id()]) == {bench.organization_id: 1}
    bench.clock.advance(seconds=1)

    assert await bench.ledger.disable(webhook_id, DisabledReason.VERIFICATION_FAILED, bench.clock()) is True

    webhook = await Webhook.get(id=webhook_id)
    assert (webhook.status, webhook.disabled_reason) == (WebhookStatus.DISABLED, DisabledReason.VERIFICATION_FAILED)
    assert (webhook.disabled_at, webhook.updated_at) == (from_ms(bench.clock()),) * 2
    assert webhook.revision == 2
    assert await states([delivery_id]) == [CANCELED]
    assert await bench.ledger.versions([bench.organization_id]) == {bench.organization_id: 2}
    before = await stored()
    assert await bench.ledger.disable(webhook_id, DisabledReason.GONE, bench.clock()) is False
    assert await bench.ledger.disable(new_id(), DisabledReason.GONE, bench.clock()) is False
    assert await stored() == before


async def test_a_deleted_webhook_is_not_disabled(bench: Bench) -> None:
    webhook_id = await bench.webhook(deleted_at=from_ms(bench.clock()))
    before = await stored()
    assert await bench.ledger.disable(webhook_id, DisabledReason.GONE, bench.clock()) is False
    assert await stored() == before


async def test_a_receiver_that_is_gone_disables_its_webhook_in_the_same_transaction(bench: Bench) -> None:
    webhook_id, other = await bench.webhook(), await bench.webhook()
    [gone, others] = await bench.publish(webhook_id, other)
    claims = {claimed.id: claimed for claimed in await bench.claim()}
    [waiting] = await bench.publish(webhook_id)

    settled = await bench.ledger.settle(
        [bench.settlement(claims[gone], FAILED, gone=True), bench.settlement(claims[others])],
        bench.clock(),
        FIVE_DAYS_MS,
    )

    assert settled == Settled({gone, others}, [(webhook_id, DisabledReason.GONE)])
    assert await states([gone, others, waiting]) == [DEAD_LETTERED, SUCCEEDED, CANCELED]
    webhook = await Webhook.get(id=webhook_id)
    assert (webhook.status, webhook.disabled_reason) == (WebhookStatus.DISABLED, DisabledReason.GONE)
    assert (await Webhook.get(id=other)).status is WebhookStatus.ENABLED
    assert (await bench.ledger.versions([bench.organization_id]))[bench.organization_id] == 2


@pytest.mark.parametrize(("span_ms", "disabled"), [(FIVE_DAYS_MS - 1, False), (FIVE_DAYS_MS, True)])
async def test_a_webhook_that_only_fails_for_the_limit_is_disabled(bench: Bench, span_ms: int, disabled: bool) -> None:
    webhook_id = await bench.webhook()
    await bench.publish(webhook_id)
    await bench.settle(bench.settlement(await bench.claim_one(), FAILED, retry_in=span_ms))
    bench.clock.advance(milliseconds=span_ms)
    claimed = await bench.claim_one()

    settled = await bench.ledger.settle([bench.settlement(claimed, FAILED, retry_in=1)], bench.clock(), FIVE_DAYS_MS)

    reason = DisabledReason.CONSECUTIVE_FAILURES
    assert settled == Settled({claimed.id}, [(webhook_id, reason)] if disabled else [])
    # Its last failure was settled as RETRYING, and is canceled with the rest.
    assert await states([claimed.id]) == [CANCELED if disabled else RETRYING]
    health = await WebhookHealth.get(webhook_id=webhook_id)
    assert (health.consecutive_failures, health.last_failure_at) == (2, from_ms(bench.clock()))
    assert health.failing_since == from_ms(bench.clock() - span_ms)


@pytest.mark.parametrize("in_one_batch", [False, True])
async def test_a_success_between_failures_begins_the_count_anew(bench: Bench, in_one_batch: bool) -> None:
    webhook_id = await bench.webhook()
    await bench.publish(webhook_id, count=3)
    claimed = await bench.claim()
    await bench.settle(bench.settlement(claimed[0], FAILED, retry_in=0))
    bench.clock.advance(milliseconds=LEASE_MS - 1)
    results = [bench.settlement(claimed[1]), bench.settlement(claimed[2], FAILED, retry_in=FIVE_DAYS_MS)]
    for batch in [results] if in_one_batch else [[one] for one in results]:
        settled = await bench.ledger.settle(batch, bench.clock(), LEASE_MS - 1)
        assert settled.disabled == []
    health = await WebhookHealth.get(webhook_id=webhook_id)
    assert (health.consecutive_failures, health.failing_since) == (1, from_ms(bench.clock()))
    assert (health.last_success_at, health.last_failure_at) == (from_ms(bench.clock()),) * 2


async def test_a_success_at_the_end_of_a_batch_forgives_what_came_before_it(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    await bench.publish(webhook_id, count=3)
    one, two, three = await bench.claim()
    settled = await bench.ledger.settle(
        [bench.settlement(one, FAILED), bench.settlement(two, FAILED), bench.settlement(three)], bench.clock(), 1
    )
    assert settled.disabled == []
    health = await WebhookHealth.get(webhook_id=webhook_id)
    assert (health.consecutive_failures, health.failing_since, health.last_delivery_failed) == (0, None, False)


# ── tests of a webhook ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_test_is_born_claimed_and_counts_for_nothing(bench: Bench) -> None:
    webhook_id = await bench.webhook(status=WebhookStatus.PAUSED)
    event, delivery_id = bench.event(), new_id()
    claimed = await bench.ledger.append_test(event, delivery_id, webhook_id, 1, bench.clock() + LEASE_MS)
    assert (claimed.id, claimed.event_id, claimed.trigger) == (delivery_id, event.id, DeliveryTrigger.TEST)
    assert (claimed.number, claimed.failures, claimed.fence) == (1, 0, 1)
    assert (await Event.get(id=event.id)).is_test is True
    row = await Delivery.get(id=delivery_id)
    assert (row.status, row.attempt_count, row.trigger) == (SENDING, 1, DeliveryTrigger.TEST)
    assert await bench.claim() == []
    assert await bench.ledger.delivery_counts([event.id]) == {}

    settled = await bench.ledger.settle([bench.settlement(claimed, FAILED)], bench.clock(), 0)

    assert settled == Settled({delivery_id}, [])
    assert await states([delivery_id]) == [DEAD_LETTERED]
    assert await Attempt.filter(delivery_id=delivery_id).count() == 1
    assert await bench.counters(webhook_id) == {}
    assert not await WebhookHealth.filter(webhook_id=webhook_id).exists()


@pytest.mark.parametrize("canceled_by", ["claim", "cancel"])
async def test_a_test_that_is_canceled_is_not_counted_either(bench: Bench, canceled_by: str) -> None:
    webhook_id = await bench.webhook()
    claimed = await bench.ledger.append_test(bench.event(), new_id(), webhook_id, 1, bench.clock() + LEASE_MS)
    await bench.ledger.release([claimed], bench.clock())
    await bench.set_webhook(webhook_id, status=WebhookStatus.DISABLED)
    if canceled_by == "claim":
        assert await bench.claim() == []
    else:
        assert await bench.ledger.cancel_waiting(webhook_id, bench.clock()) == 1
    assert await states([claimed.id]) == [CANCELED]
    assert await bench.counters(webhook_id) == {}


# ── questions and housekeeping ──────────────────────────────────────────────────────────────────────────────────


async def test_a_lane_is_a_webhook_with_something_to_send_and_since_when(bench: Bench) -> None:
    assert await bench.ledger.lanes() == []
    one, other, idle = sorted([await bench.webhook(), await bench.webhook(), await bench.webhook()])
    published_at = bench.clock()
    first, second = await bench.publish(other, count=2)
    bench.clock.advance(seconds=1)
    await bench.publish(one, other)

    def lanes(due_at: dict[UUID, int]) -> list[WaitingLane]:
        return [WaitingLane(webhook_id, bench.organization_id, due) for webhook_id, due in due_at.items()]

    async def found() -> list[WaitingLane]:
        return sorted(await bench.ledger.lanes(), key=lambda lane: lane.webhook_id)

    assert await found() == lanes({one: bench.clock(), other: published_at})
    claims = {claimed.id: claimed for claimed in await bench.ledger.claim(bench.clock(), {other: 2})}
    assert set(claims) == {first, second}
    assert await found() == lanes({one: bench.clock(), other: published_at})  # being sent: with the time it was due
    await bench.settle(
        bench.settlement(claims[first], FAILED, retry_in=5000), bench.settlement(claims[second], FAILED, retry_in=9000)
    )
    await bench.set_webhook(one, status=WebhookStatus.PAUSED)
    assert await bench.claim() != []
    assert await found() == lanes({other: bench.clock()})
    assert idle not in {lane.webhook_id for lane in await found()}


async def test_only_the_webhooks_that_are_asked_for_are_claimed_from(bench: Bench) -> None:
    one, other = await bench.webhook(), await bench.webhook()
    await bench.publish(one, other, count=3)
    claimed = await bench.ledger.claim(bench.clock(), {one: 2, new_id(): 5})
    assert [c.webhook_id for c in claimed] == [one, one]
    assert await bench.ledger.claim(bench.clock(), {}) == []


async def test_deleted_organizations_have_no_version(bench: Bench) -> None:
    await Organization.filter(id=bench.organization_id).update(deleted_at=from_ms(bench.clock()))
    assert await bench.ledger.versions([bench.organization_id]) == {}
    assert await bench.ledger.versions([]) == {}


async def test_sweeping_forgets_what_no_window_and_no_key_reaches_any_more(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    claim = IdempotencyClaim(bench.organization_id, "publishEvent", "key", b"digest", new_id())
    await bench.ledger.append([bench.event()], [claim], bench.clock(), 1000)
    await bench.publish(webhook_id)
    await bench.settle(bench.settlement(await bench.claim_one()))

    async def left() -> tuple[int, int, int]:
        await bench.ledger.sweep(bench.clock())
        minutes, hours = await bench.counters(webhook_id), await bench.counters(webhook_id, 3_600_000)
        return len(minutes), len(hours), len(await select("SELECT 1 FROM idempotency"))

    assert await left() == (4, 4, 1)
    bench.clock.advance(hours=26, minutes=1)
    assert await left() == (0, 4, 1)
    bench.clock.advance(hours=22)
    assert await left() == (0, 4, 0)
    bench.clock.advance(days=30, hours=1)
    assert await left() == (0, 0, 0)
    assert await Attempt.all().count() == 1


async def test_it_gives_a_sign_of_life(bench: Bench) -> None:
    await bench.ledger.ping()


# ── several connections at once, which only PostgreSQL has ──────────────────────────────────────────────────────


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_claim_does_not_park_under_a_webhook_that_is_just_being_enabled(bench: Bench) -> None:
    """Whoever enables has looked for parked deliveries already: one that is parked now would wait for ever."""
    webhook_id = await bench.webhook(status=WebhookStatus.PAUSED)
    [delivery_id] = await bench.publish(webhook_id)
    async with in_transaction() as connection:
        await Webhook.filter(id=webhook_id).using_db(connection).update(status=WebhookStatus.ENABLED)
        assert await bench.ledger.unpark(webhook_id, bench.clock(), within=connection) == 0
        assert await asyncio.create_task(bench.claim()) == []
    assert [claimed.id for claimed in await bench.claim()] == [delivery_id]


class _OneConnection:
    """As much of Tortoise's client as the ledger asks for, with one connection."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def acquire_connection(self) -> AsyncIterator[asyncpg.Connection]:
        yield self._connection


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_claim_does_not_wait_for_the_disk_and_what_comes_after_it_does(bench: Bench, database_url: str) -> None:
    webhook_id = await bench.webhook()
    # The tests' server promises nothing about power cuts, unless a connection asks for it.
    connection = await asyncpg.connect(database_url, server_settings={"synchronous_commit": "on"})
    ledger = PostgresLedger(cast(AsyncpgDBClient, _OneConnection(connection)))

    async def is_on_the_disk() -> bool:
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        all_of_it: bool = await connection.fetchval("SELECT pg_current_wal_insert_lsn() = pg_current_wal_flush_lsn()")
        return all_of_it

    published, claimed = 0, 0
    for _ in range(20):
        await ledger.append([bench.event([webhook_id])], [], bench.clock(), 1000)
        published += await is_on_the_disk()
        assert len(await ledger.claim(bench.clock(), {webhook_id: 10})) == 1
        claimed += await is_on_the_disk()
    await connection.close()
    # Five times a second PostgreSQL brings to the disk what is left, and it may write something of its own.
    assert (published > 10, claimed < 10) == (True, True)


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_receiver_that_is_gone_and_somebody_who_edits_its_webhook_do_not_block_each_other(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    await bench.publish(webhook_id)
    gone = bench.settlement(await bench.claim_one(), FAILED, gone=True)
    async with in_transaction() as connection:
        await Organization.filter(id=bench.organization_id).using_db(connection).select_for_update().first()
        settling = asyncio.create_task(bench.settle(gone))
        await until(lambda: select("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
        await Webhook.filter(id=webhook_id).using_db(connection).update(name="edited")
    assert await settling == {gone.claimed.id}
    webhook = await Webhook.get(id=webhook_id)
    assert (webhook.name, webhook.status) == ("edited", WebhookStatus.DISABLED)


async def test_a_transaction_that_is_rolled_back_takes_its_parking_with_it(bench: Bench) -> None:
    webhook_id = await bench.webhook()
    await bench.publish(webhook_id, count=2)
    before = await stored()
    async with in_transaction() as connection:
        await Webhook.filter(id=webhook_id).using_db(connection).update(status=WebhookStatus.PAUSED)
        assert await bench.ledger.park(webhook_id, within=connection) == 2
        assert await bench.ledger.cancel_waiting(webhook_id, bench.clock(), within=connection) == 2
        await connection.rollback()
    assert await stored() == before
