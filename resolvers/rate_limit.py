"""How many requests a key may make: a bucket of tokens for each, in this process.

A bucket holds `burst` tokens and is filled with `per_second`; a request takes one. Nothing is shared between processes,
so with several of them a key may make several times as many.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from resolvers.errors import RateLimited

_MOST_BUCKETS = 10_000
"""Beyond these, the one that was not used for longest is forgotten: it is full by then, or nearly."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: int


class RateLimit:
    """Counts the requests of every key. `per_second` 0: as many as they like. `clock` tells milliseconds."""

    def __init__(self, per_second: int, burst: int, clock: Callable[[], int]) -> None:
        self.per_second = per_second
        self.burst = burst
        self._clock = clock
        self._buckets: OrderedDict[UUID, _Bucket] = OrderedDict()

    def take(self, key: UUID) -> None:
        """Takes a token. Raises RateLimited, and takes nothing, when there is none."""
        if not self.per_second:
            return
        bucket = self._filled(key)
        if bucket.tokens < 1:
            wait = (1 - bucket.tokens) / self.per_second
            message = f"too many requests: this key may make {self.per_second} a second, and {self.burst} at once"
            raise RateLimited(message, wait)
        bucket.tokens -= 1

    def remaining(self, key: UUID) -> int:
        """How many requests it may make at once, now."""
        return int(self._filled(key).tokens) if self.per_second else self.burst

    def _filled(self, key: UUID) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self.burst, now)
            if len(self._buckets) > _MOST_BUCKETS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        gained = max(now - bucket.filled_at, 0) * self.per_second / 1000
        bucket.tokens, bucket.filled_at = min(bucket.tokens + gained, self.burst), now
        return bucket
