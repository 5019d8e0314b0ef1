"""A webhook's `max_per_second`, kept by all workers together: a token bucket in a row of its own. Plain calculation.

The bucket holds a tenth of a second's worth and at least one, so that over seconds the rate is met within a few per
cent and never passed in a burst.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is in the bucket, and when that was so, in milliseconds since 1970."""

    tokens: float
    refilled_at: int


def admit(bucket: Bucket | None, per_second: int, wanted: int, now: int) -> tuple[int, Bucket]:
    """How many of the wanted requests may be sent now, and the bucket thereafter. No bucket: a full one."""
    most = max(per_second / 10, 1.0)
    tokens, moment = most, now
    if bucket is not None:
        moment = max(now, bucket.refilled_at)
        tokens = min(bucket.tokens + (moment - bucket.refilled_at) * per_second / 1000, most)
    admitted = min(wanted, int(tokens))
    return admitted, Bucket(tokens - admitted, moment)


TAKE = "SELECT tokens, refilled_at FROM webhook_gate WHERE webhook_id = $1"
PUT = """
INSERT INTO webhook_gate (webhook_id, tokens, refilled_at) VALUES ($1, $2, $3)
ON CONFLICT (webhook_id) DO UPDATE SET tokens = excluded.tokens, refilled_at = excluded.refilled_at
"""
REFUND = "UPDATE webhook_gate SET tokens = tokens + $2 WHERE webhook_id = $1"
