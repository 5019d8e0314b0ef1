"""A webhook's `max_per_second`, kept by all workers together."""

import asyncio

import pytest

from models.gate import Bucket, admit
from models.ids import new_id
from tests.models.bench import Bench

NOW = 1_795_219_200_000


@pytest.mark.parametrize(
    ("bucket", "per_second", "wanted", "admitted", "left"),
    [
        (None, 100, 50, 10, 0.0),  # a full one holds a tenth of a second's worth
        (None, 100, 3, 3, 7.0),
        (None, 1, 5, 1, 0.0),  # and at least one
        (None, 15, 5, 1, 0.5),
        (Bucket(0.0, NOW), 100, 5, 0, 0.0),
        (Bucket(0.0, NOW - 50), 100, 50, 5, 0.0),
        (Bucket(0.0, NOW - 999), 1, 5, 0, 0.999),
        (Bucket(0.0, NOW - 1000), 1, 5, 1, 0.0),
        (Bucket(0.5, NOW - 60_000), 100, 50, 10, 0.0),  # overflows
        (Bucket(40.0, NOW), 100, 50, 10, 0.0),  # was refunded, or the rate was lowered
        (Bucket(2.0, NOW + 500), 100, 50, 2, 0.0),  # by the clock of another worker it is later
    ],
)
def test_what_a_bucket_admits(bucket: Bucket | None, per_second: int, wanted: int, admitted: int, left: float) -> None:
    found, after = admit(bucket, per_second, wanted, NOW)
    assert found == admitted
    assert after.tokens == pytest.approx(left)
    assert after.refilled_at == max(NOW, bucket.refilled_at if bucket else NOW)


@pytest.mark.parametrize("per_second", [1, 3, 10, 15, 99, 250, 10_000])
@pytest.mark.parametrize("step_ms", [1, 7, 50])
def test_over_seconds_the_rate_is_met_within_5_per_cent_and_never_passed(per_second: int, step_ms: int) -> None:
    bucket, total, seconds = None, 0, 60
    for now in range(NOW, NOW + seconds * 1000, step_ms):
        admitted, bucket = admit(bucket, per_second, 10**6, now)
        total += admitted
    at_first = max(per_second / 10, 1)
    assert per_second * seconds * 0.95 <= total <= per_second * seconds + at_first


async def test_workers_share_a_bucket(bench: Bench) -> None:
    webhook_id, other = new_id(), new_id()
    admitted = await asyncio.gather(*(bench.ledger.admit(webhook_id, 100, 4, bench.clock()) for _ in range(6)))
    assert sorted(admitted) == [0, 0, 0, 2, 4, 4]
    assert await bench.ledger.admit(other, 100, 4, bench.clock()) == 4
    bench.clock.advance(milliseconds=30)
    assert await bench.ledger.admit(webhook_id, 100, 10, bench.clock()) == 3


async def test_what_found_nothing_to_send_is_given_back(bench: Bench) -> None:
    webhook_id = new_id()
    assert await bench.ledger.admit(webhook_id, 100, 10, bench.clock()) == 10
    await bench.ledger.refund(webhook_id, 7)
    assert await bench.ledger.admit(webhook_id, 100, 10, bench.clock()) == 7
    await bench.ledger.refund(new_id(), 1)
