"""When to try again, and when to stop. Plain calculation: no clock, no chance of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from models.attempt import AttemptOutcome

DEFAULT_SCHEDULE_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Ten attempts over 75 h 35 min: after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h.

(Standard Webhooks 1.0, "Retries".)
"""
DEFAULT_MAX_ATTEMPTS = len(DEFAULT_SCHEDULE_SECONDS) + 1

JITTER = 0.1
"""A delay is lengthened by up to this part of itself, so that retries of one outage do not come back together."""
MAX_RETRY_AFTER_SECONDS = 24 * 3600
GONE = 410


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A webhook's own: how many attempts, and the delay in seconds before attempt 2, 3, …

    When there are more attempts than delays, the last delay is repeated.
    """

    schedule_seconds: Sequence[int] = DEFAULT_SCHEDULE_SECONDS
    max_attempts: int = DEFAULT_MAX_ATTEMPTS

    def next_due_at(
        self,
        *,
        failures: int,
        now: int,
        chance: Callable[[], float],
        status: int | None = None,
        retry_after: str | None = None,
    ) -> int | None:
        """When to try again, in milliseconds since 1970; None when it is over.

        `failures` counts the one just met; `chance` gives a number in [0, 1). A receiver's Retry-After, in seconds or
        as a date, can put the retry off, by up to 24 hours, but never bring it forward.
        """
        if failures >= self.max_attempts or status == GONE:
            return None
        schedule = self.schedule_seconds or (0,)
        delay = schedule[min(failures, len(schedule)) - 1]
        wanted = delay * 1000 * (1 + JITTER * chance())
        if status is not None and retry_after is not None:
            wanted = max(wanted, retry_after_ms(retry_after, now))
        return now + round(wanted)


def retry_after_ms(header: str, now: int) -> int:
    """What a Retry-After header asks for, in milliseconds from now; 0 when it makes no sense (RFC 9110 §10.2.3)."""
    header = header.strip()
    if header.isascii() and header.isdecimal():
        seconds = float(header)
    else:
        try:
            date = parsedate_to_datetime(header)
        except (ValueError, TypeError, OverflowError):
            return 0
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        seconds = (date - datetime.fromtimestamp(now / 1000, UTC)).total_seconds()
    return round(1000 * min(max(seconds, 0), MAX_RETRY_AFTER_SECONDS))


def is_gone(outcome: AttemptOutcome, status: int | None) -> bool:
    """Whether the receiver said that it wants nothing any more: 410 Gone."""
    return outcome is AttemptOutcome.HTTP_ERROR and status == GONE
