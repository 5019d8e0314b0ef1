"""Quantiles from the histogram, against those of the samples themselves."""

from math import ceil, exp
from random import Random

import pytest

from models.latency import BOUNDS_MS, BUCKETS, Quantiles, bucket_of, quantile, quantiles


def histogram(samples_us: list[int]) -> list[int]:
    counts = [0] * BUCKETS
    for sample in samples_us:
        counts[bucket_of(sample)] += 1
    return counts


@pytest.mark.parametrize(
    ("duration_us", "bucket"),
    [
        (0, 0),
        (1000, 0),
        (1001, 1),
        (1414, 1),
        (1415, 2),
        (2000, 2),
        (2001, 3),
        (15_000_000, 28),
        (30_000_000, 30),
        (46_340_950, 31),
        (10**12, 31),
    ],
)
def test_each_latency_has_its_counter(duration_us: int, bucket: int) -> None:
    assert bucket_of(duration_us) == bucket


def test_every_latency_lies_between_the_bounds_of_its_counter() -> None:
    random = Random(4)
    for _ in range(5000):
        duration_us = round(exp(random.uniform(0, 17.6)))
        bucket = bucket_of(duration_us)
        assert duration_us / 1000 <= BOUNDS_MS[bucket] * (1 + 1e-12)
        assert bucket == 0 or BOUNDS_MS[bucket - 1] < duration_us / 1000


@pytest.mark.parametrize("count", [1, 2, 20, 2000])
@pytest.mark.parametrize("seed", range(10))
def test_quantiles_are_within_19_per_cent_of_the_exact_ones(seed: int, count: int) -> None:
    random = Random(seed)
    middle, spread = random.uniform(7.5, 16), random.uniform(0.0, 1.5)
    samples = sorted(min(max(round(exp(random.gauss(middle, spread))), 1000), 40_000_000) for _ in range(count))

    found = quantiles(histogram(samples), samples[-1] / 1000)

    assert found is not None
    for fraction, value in ((0.5, found.p50), (0.95, found.p95), (0.99, found.p99)):
        assert value == pytest.approx(samples[ceil(fraction * count) - 1] / 1000, rel=0.19)
    assert found.max == samples[-1] / 1000
    assert found.p50 <= found.p95 <= found.p99 <= found.max


def test_a_receiver_that_always_takes_equally_long_is_not_said_to_take_half_as_long_again() -> None:
    """An outlier in a higher counter must not widen the counter below it."""
    counts = histogram([183_000] * 99 + [5_000_000])
    found = quantiles(counts, 5000.0)
    assert found is not None
    assert found.p50 == pytest.approx(183.0, rel=0.19)
    assert found.max == 5000.0


def test_a_quantile_is_never_above_the_slowest() -> None:
    assert quantiles(histogram([200]), 0.2) == Quantiles(p50=0.2, p95=0.2, p99=0.2, max=0.2)
    found = quantiles(histogram([1_500]), 1.5)
    assert found is not None
    assert found.p50 == found.p99 == pytest.approx(1.4565, abs=1e-4)
    assert found.max == 1.5


def test_nothing_counted_has_no_quantiles() -> None:
    assert quantiles([0] * BUCKETS, 0.0) is None
    assert quantile([0] * BUCKETS, 0.5, 0.0) is None
