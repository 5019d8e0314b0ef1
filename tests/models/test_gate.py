"""A webhook's `max_per_second`, kept by all workers together."""

import asyncio
from random import Random

import pytest

from models.gate import Bucket, Wish, admit
from models.ids import new_id
from tests.models.bench import Bench

NOW = 1_795_219_200_000


@pytest.mark.parametrize(
    ("bucket", "per_second", "wanted", "admitted", "left"),
    [
        (None, 100, 50, 11, 0.0),  # a full one holds one and a tenth of a second's worth
        (None, 100, 3, 3, 8.0),
        (None, 1, 5, 1, 0.1),
        (None, 15, 5, 2, 0.5),
        (Bucket(0.0, NOW), 100, 5, 0, 0.0),
        (Bucket(0.0, NOW - 50), 100, 50, 5, 0.0),
        (Bucket(0.0, NOW - 999), 1, 5, 0, 0.999),
        (Bucket(0.0, NOW - 1000), 1, 5, 1, 0.0),
        (Bucket(0.0, NOW - 1090), 1, 5, 1, 0.09),  # nothing is lost by coming a little late
        (Bucket(0.5, NOW - 60_000), 100, 50, 11, 0.0),  # overflows
        (Bucket(40.0, NOW), 100, 50, 11, 0.0),  # was refunded, or the rate was lowered
        (Bucket(2.0, NOW + 500), 100, 50, 2, 0.0),  # by the clock of another worker it is later
    ],
)
def test_what_a_bucket_admits(bucket: Bucket | None, per_second: int, wanted: int, admitted: int, left: float) -> None:
    found, after = admit(bucket, Wish(per_second, wanted), NOW)
    assert found == admitted
    assert after.tokens == pytest.approx(left)
    assert after.refilled_at == max(NOW, bucket.refilled_at if bucket else NOW)


@pytest.mark.parametrize("per_second", [1, 3, 5, 10, 15, 99, 250, 10_000])
@pytest.mark.parametrize("step_ms", [1, 7, 50, 100])
def test_over_seconds_the_rate_is_met_within_1_per_cent_and_never_passed(per_second: int, step_ms: int) -> None:
    bucket, total, seconds = None, 0, 100
    for now in range(NOW, NOW + seconds * 1000 + 1, step_ms):
        admitted, bucket = admit(bucket, Wish(per_second, 10**6), now)
        total += admitted
    at_first = 1 + per_second / 10
    assert per_second * seconds * 0.99 <= total <= per_second * seconds + at_first


@pytest.mark.parametrize("per_second", [1, 5, 50, 500])
def test_no_second_sees_more_than_a_tenth_and_one_above_the_rate(per_second: int) -> None:
    random, bucket, now, moments = Random(3), None, NOW, list[int]()
    while now < NOW + 60_000:
        now += random.choice([1, 20, 50, 700, 3000])
        admitted, bucket = admit(bucket, Wish(per_second, random.choice([1, 7, 10**6])), now)
        moments += [now] * admitted
    busiest = max(sum(begin <= moment < begin + 1000 for moment in moments) for begin in set(moments))
    assert busiest <= per_second * 1.1 + 1


async def test_workers_share_the_buckets(bench: Bench) -> None:
    some, other = new_id(), new_id()
    wishes = {some: Wish(100, 4), other: Wish(10, 1)}
    admitted = await asyncio.gather(*(bench.ledger.admit(wishes, bench.clock()) for _ in range(6)))
    assert sorted(one[some] for one in admitted) == [0, 0, 0, 3, 4, 4]
    assert sorted(one[other] for one in admitted) == [0, 0, 0, 0, 1, 1]
    bench.clock.advance(milliseconds=30)
    assert await bench.ledger.admit({some: Wish(100, 10)}, bench.clock()) == {some: 3}


async def test_what_found_nothing_to_send_is_given_back(bench: Bench) -> None:
    some, other = new_id(), new_id()
    assert await bench.ledger.admit({some: Wish(100, 11), other: Wish(10, 2)}, bench.clock()) == {some: 11, other: 2}
    await bench.ledger.refund({some: 7, new_id(): 1})
    assert await bench.ledger.admit({some: Wish(100, 10), other: Wish(10, 2)}, bench.clock()) == {some: 7, other: 0}
