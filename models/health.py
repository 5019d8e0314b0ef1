"""How a batch of results changes each webhook's health."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from models.attempt import AttemptOutcome
from models.delivery import DeliveryStatus, DeliveryTrigger
from models.ledger import Settlement
from models.webhook import DisabledReason


@dataclass(slots=True)
class HealthChange:
    """What a batch says of one webhook. Moments are milliseconds since 1970."""

    failures: int = 0
    """Since the last success, if there was one."""
    first_failure_at: int | None = None
    """Of those failures."""
    last_success_at: int | None = None
    last_failure_at: int | None = None
    last_delivery_failed: bool = False
    """Of the deliveries that were finished. When none was, there was no success either."""


def changes(settlements: Iterable[Settlement], now: int) -> dict[UUID, HealthChange]:
    """The change of each webhook, sorted by its id. Tests and replays count for nothing."""
    found: dict[UUID, HealthChange] = {}
    for settlement in settlements:
        claimed = settlement.claimed
        if claimed.trigger is not DeliveryTrigger.EVENT:
            continue
        change = found.setdefault(claimed.webhook_id, HealthChange())
        if settlement.attempt.outcome is AttemptOutcome.SUCCESS:
            change.failures, change.first_failure_at = 0, None
            change.last_success_at = now
        else:
            change.failures += 1
            change.first_failure_at = change.first_failure_at or now
            change.last_failure_at = now
        if settlement.status is DeliveryStatus.SUCCEEDED:
            change.last_delivery_failed = False
        elif settlement.status is DeliveryStatus.DEAD_LETTERED:
            change.last_delivery_failed = True
    return dict(sorted(found.items()))


def reasons(settlements: Sequence[Settlement]) -> dict[UUID, DisabledReason]:
    """The webhooks that single results turn off, and why."""
    exhausted = {s.claimed.webhook_id: DisabledReason.CONSECUTIVE_FAILURES for s in settlements if s.exhausted}
    return exhausted | {s.claimed.webhook_id: DisabledReason.GONE for s in settlements if s.gone}


def upsert(rows: str) -> str:
    """The statement that writes changes. `rows`: where they come from, each with the values of `row_of`."""
    return f"""
INSERT INTO webhook_health AS h (webhook_id, consecutive_failures, failing_since, last_success_at, last_failure_at,
                                 last_delivery_failed)
{rows}
ON CONFLICT (webhook_id) DO UPDATE SET
  consecutive_failures = excluded.consecutive_failures
    + CASE WHEN excluded.last_success_at IS NULL THEN h.consecutive_failures ELSE 0 END,
  failing_since = CASE WHEN excluded.last_success_at IS NULL THEN COALESCE(h.failing_since, excluded.failing_since)
    ELSE excluded.failing_since END,
  last_success_at = COALESCE(excluded.last_success_at, h.last_success_at),
  last_failure_at = COALESCE(excluded.last_failure_at, h.last_failure_at),
  last_delivery_failed = excluded.last_delivery_failed OR excluded.last_success_at IS NULL AND h.last_delivery_failed
RETURNING webhook_id, failing_since, last_failure_at
"""


def row_of(webhook_id: UUID, change: HealthChange) -> tuple[UUID, int, int | None, int | None, int | None, bool]:
    """A change as `upsert` takes it."""
    return (
        webhook_id,
        change.failures,
        change.first_failure_at,
        change.last_success_at,
        change.last_failure_at,
        change.last_delivery_failed,
    )


def has_failed_too_long(failing_since: int | None, last_failure_at: int | None, limit_ms: int) -> bool:
    """Whether the failures, with no success between them, span the limit."""
    return failing_since is not None and last_failure_at is not None and last_failure_at - failing_since >= limit_ms
