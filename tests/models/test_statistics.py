"""Statistics are added up as results are settled: they must equal a recount from the attempts themselves."""

from collections import Counter, defaultdict
from random import Random
from typing import Any
from uuid import UUID

import pytest

from models.attempt import Attempt, AttemptOutcome
from models.delivery import Delivery, DeliveryStatus
from models.latency import bucket_of
from models.moment import to_ms
from models.webhook import WebhookHealth, WebhookStatus
from tests.models.bench import Bench, select

FAILURES = [AttemptOutcome.HTTP_ERROR, AttemptOutcome.TIMEOUT, AttemptOutcome.CONNECTION_ERROR]


@pytest.mark.parametrize("seed", range(3))
async def test_statistics_equal_a_recount_of_a_random_history(bench: Bench, seed: int) -> None:
    random = Random(seed)
    webhooks = [await bench.webhook() for _ in range(3)]
    outcomes: dict[UUID, list[tuple[int, bool]]] = defaultdict(list)
    settled_at: dict[UUID, int] = {}
    for _ in range(60):
        bench.clock.advance(seconds=random.choice([0, 1, 20, 70, 1000, 4000]))
        await bench.publish(*random.sample(webhooks, random.randrange(4)), count=random.randrange(4))
        if random.random() < 0.1:
            paused = random.choice([WebhookStatus.PAUSED, WebhookStatus.ENABLED])
            await bench.set_webhook(webhook_id := random.choice(webhooks), status=paused)
            await bench.ledger.unpark(webhook_id, bench.clock())
        if random.random() < 0.05:
            await bench.ledger.cancel_waiting(random.choice(webhooks), bench.clock())
        claims = await bench.claim(random.randrange(1, 6))
        settlements = []
        for claimed in claims:
            if random.random() < 0.1:
                continue  # the worker died
            outcome = random.choice([AttemptOutcome.SUCCESS, *FAILURES])
            retry_in = random.randrange(5000) if random.random() < 0.7 else None
            duration_us = random.randrange(200, 20_000_000)
            settlements.append(bench.settlement(claimed, outcome, retry_in=retry_in, duration_us=duration_us))
        random.shuffle(settlements)
        bench.clock.advance(milliseconds=random.randrange(3000))
        accepted = await bench.settle(*settlements, failing_limit_ms=2**60)
        for settlement in settlements:
            assert settlement.claimed.id in accepted
            settled_at[settlement.attempt.id] = bench.clock()
            ok = settlement.attempt.outcome is AttemptOutcome.SUCCESS
            outcomes[settlement.claimed.webhook_id].append((bench.clock(), ok))

    for resolution_ms in (60_000, 3_600_000):
        assert await _kept(resolution_ms) == await _recounted(resolution_ms, settled_at)
    for webhook_id, history in outcomes.items():
        health = await WebhookHealth.get(webhook_id=webhook_id)
        failing = [moment for moment, ok in history[len(history) - _run_of_failures(history) :] if not ok]
        assert health.consecutive_failures == len(failing)
        assert (health.failing_since and to_ms(health.failing_since)) == (failing[0] if failing else None)
        assert _last(history, True) == (health.last_success_at and to_ms(health.last_success_at))
        assert _last(history, False) == (health.last_failure_at and to_ms(health.last_failure_at))


def _run_of_failures(history: list[tuple[int, bool]]) -> int:
    return next((i for i, (_, ok) in enumerate(reversed(history)) if ok), len(history))


def _last(history: list[tuple[int, bool]], wanted: bool) -> int | None:
    return max((moment for moment, ok in history if ok is wanted), default=None)


async def _kept(resolution_ms: int) -> dict[tuple[str, int], dict[str, Any]]:
    rows = await select("SELECT * FROM delivery_rollup WHERE resolution_ms = $1", resolution_ms)
    return {
        (str(row["webhook_id"]), row["start"]): {
            name: n for name, n in row.items() if n and name not in ("webhook_id", "resolution_ms", "start")
        }
        for row in rows
    }


async def _recounted(resolution_ms: int, settled_at: dict[UUID, int]) -> dict[tuple[str, int], dict[str, Any]]:
    counted: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)

    def slice_of(webhook_id: UUID, moment: int) -> Counter[str]:
        return counted[str(webhook_id), moment - moment % resolution_ms]

    for attempt in await Attempt.all():
        if attempt.outcome is AttemptOutcome.ABANDONED:
            continue
        row = slice_of(attempt.webhook_id, settled_at[attempt.id])
        row["attempts"] += 1
        row["attempts_succeeded"] += attempt.outcome is AttemptOutcome.SUCCESS
        row[f"h{bucket_of(attempt.duration_us):02}"] += 1
        row["max_us"] = max(row["max_us"], attempt.duration_us)
    for delivery in await Delivery.filter(completed_at__isnull=False):
        name = {
            DeliveryStatus.SUCCEEDED: "succeeded",
            DeliveryStatus.DEAD_LETTERED: "dead_lettered",
            DeliveryStatus.CANCELED: "canceled",
        }[delivery.status]
        assert delivery.completed_at is not None
        slice_of(delivery.webhook_id, to_ms(delivery.completed_at))[name] += 1
    return {key: {name: n for name, n in row.items() if n} for key, row in counted.items()}
