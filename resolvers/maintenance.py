"""What is done now and then, by one worker at a time: forgetting what has no more use, finishing what was cut off."""

from uuid import UUID

from tortoise.expressions import Subquery

from models.delivery import Delivery
from models.organization import Organization
from models.webhook import Webhook
from resolvers import sessions
from resolvers.desk import Desk
from resolvers.organizations import end_webhooks_of


async def sweep(desk: Desk) -> None:
    """Forgets old statistics, expired keys and sessions, finishes deletions that a crash cut short. Safe to repeat."""
    now = desk.clock()
    await desk.ledger.sweep(now)
    await sessions.forget(now)
    ended = Organization.filter(deleted_at__isnull=False).values("id")
    unfinished = Webhook.filter(deleted_at__isnull=True, organization_id__in=Subquery(ended))
    for organization_id in await unfinished.distinct().values_list("organization_id", flat=True):
        await end_webhooks_of(desk, UUID(str(organization_id)))
    gone = Webhook.filter(deleted_at__isnull=False).values("id")
    waiting = Delivery.filter(completed_at__isnull=True, webhook_id__in=Subquery(gone))
    for webhook_id in await waiting.distinct().values_list("webhook_id", flat=True):
        await desk.ledger.cancel_waiting(UUID(str(webhook_id)), now)
