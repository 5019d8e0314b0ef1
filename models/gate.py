"""A webhook's `max_per_second`, kept by all workers together: a token bucket in a row of its own. Plain calculation.

The bucket holds one and a tenth of a second's worth, so that whoever comes within a tenth of a second after a token was
ready loses nothing, and over seconds the rate is met within a few per cent and never passed by more in a burst.
"""

from dataclasses import dataclass
from typing import NamedTuple

SLACK_S = 0.1
"""How late the next request may be asked for without loss."""


class Wish(NamedTuple):
    """What a webhook's rate is, and how many requests are to be sent."""

    per_second: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is in the bucket, and when that was so, in milliseconds since 1970."""

    tokens: float
    refilled_at: int


def most_at_once(per_second: int) -> float:
    """What a full bucket holds."""
    return 1 + per_second * SLACK_S


def admit(bucket: Bucket | None, wish: Wish, now: int) -> tuple[int, Bucket]:
    """How many of the wanted requests may be sent now, and the bucket thereafter. No bucket: a full one."""
    most = most_at_once(wish.per_second)
    tokens, moment = most, now
    if bucket is not None:
        moment = max(now, bucket.refilled_at)
        tokens = min(bucket.tokens + (moment - bucket.refilled_at) * wish.per_second / 1000, most)
    admitted = min(wish.wanted, int(tokens))
    return admitted, Bucket(tokens - admitted, moment)
