"""A histogram of latencies in 32 counters, from which quantiles are read.

Counter i holds latencies up to 2^(i/2) ms (1 ms, 1.4 ms, 2 ms, … 46 s) and above the one before it. A quantile is read
as the geometric middle of its counter, so it is within ±19 % of the truth from 1 ms on, whatever the latencies are.
(Interpolating would be closer for smooth ones, but 41 % off for a receiver that always takes equally long.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2, sqrt

BUCKETS = 32
BOUNDS_MS = tuple(2 ** (i / 2) for i in range(BUCKETS))
COLUMNS = tuple(f"h{i:02}" for i in range(BUCKETS))
"""The names of the counters in `delivery_rollup`."""


def bucket_of(duration_us: int) -> int:
    """The counter that holds a latency, given in microseconds."""
    if duration_us <= 1000:
        return 0
    return min(ceil(2 * log2(duration_us / 1000)), BUCKETS - 1)


@dataclass(frozen=True)
class Quantiles:
    """Milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float


def quantile(counts: Sequence[int], fraction: float, max_ms: float) -> float | None:
    """The latency in ms below which a fraction (0..1) of the counted requests lie; None when none is counted."""
    total = sum(counts)
    if not total:
        return None
    seen = 0
    for i, count in enumerate(counts):
        seen += count
        if count and seen >= fraction * total:
            high = min(BOUNDS_MS[i], max_ms)
            return sqrt(min(BOUNDS_MS[i - 1], max_ms) * high) if i else high
    return max_ms


def quantiles(counts: Sequence[int], max_ms: float) -> Quantiles | None:
    """The usual quantiles; None when nothing is counted."""
    p50, p95, p99 = (quantile(counts, fraction, max_ms) for fraction in (0.5, 0.95, 0.99))
    if p50 is None or p95 is None or p99 is None:
        return None
    return Quantiles(p50=p50, p95=p95, p99=p99, max=max_ms)
