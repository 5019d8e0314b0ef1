"""Forgetting: what is older than the settings say, and all of organizations that have ended. By one worker at a time.

Nothing that waits is forgotten, nor what it needs. Statistics are counters of their own, and stay.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from uuid import UUID

from models.delivery import Delivery
from models.forgetting import FIRST, Kind, forget_some, forget_some_of_organization
from models.ids import Prefix, encode
from models.moment import from_ms
from models.organization import Organization
from models.webhook import Webhook
from resolvers.desk import Desk

log = logging.getLogger("hookline.forgetting")

_DAY_MS = 24 * 3_600_000
_REST_SECONDS = 0.05
"""Between two batches, which take about as long: deliveries have the database for themselves for most of the time."""
_GRACE_MS = 10 * 60_000
"""How long after its end an organization is forgotten: what was being published is committed by then."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How many days things are kept."""

    payload_days: int = 90
    """Events, from when they were received."""
    attempt_days: int = 90
    """Attempts, from when they were begun."""
    delivery_days: int = 90
    """Deliveries and replays, from when they ended. Not less than the others."""


async def forget(desk: Desk, retention: Retention, seconds: float = 200) -> int:
    """Forgets what is old, at most for so long; the next call goes on. Answers how many rows are gone."""
    run = _Run(desk.clock(), time.monotonic() + seconds)
    days = {
        Kind.ATTEMPT: retention.attempt_days,
        Kind.EVENT: retention.payload_days,
        Kind.DELIVERY: retention.delivery_days,
        Kind.REPLAY: retention.delivery_days,
    }
    for kind, kept in days.items():
        await run.forget(kind, run.now - kept * _DAY_MS)
    ended = Organization.filter(deleted_at__lt=from_ms(run.now - _GRACE_MS))
    for organization_id in await ended.order_by("id").values_list("id", flat=True):
        await run.forget_organization(UUID(str(organization_id)))
    if run.forgotten:
        log.info("forgotten rows=%d", run.forgotten)
    return run.forgotten


class _Run:
    """One call."""

    def __init__(self, now: int, ends_at: float) -> None:
        self.now = now
        self.forgotten = 0
        self._ends_at = ends_at

    async def _may_go_on(self, deleted: int) -> bool:
        self.forgotten += deleted
        await asyncio.sleep(_REST_SECONDS)
        return time.monotonic() < self._ends_at

    async def forget(self, kind: Kind, before: int) -> None:
        place = FIRST
        while batch := await forget_some(kind, before, place):
            place = batch.last
            if not await self._may_go_on(batch.deleted):
                return

    async def forget_organization(self, organization_id: UUID) -> None:
        webhooks = await Webhook.filter(organization_id=organization_id).values_list("id", "deleted_at")
        is_open = Delivery.filter(webhook_id__in=[row[0] for row in webhooks], completed_at__isnull=True)
        if any(row[1] is None for row in webhooks) or await is_open.exists():
            return  # the sweep ends them, and what is being sent ends by itself
        while deleted := await forget_some_of_organization(organization_id):
            if not await self._may_go_on(deleted):
                return
        log.info("forgotten organization=%s", encode(Prefix.ORGANIZATION, organization_id))
