"""What is done now and then, by one worker at a time: forgetting what has no more use, finishing what was cut off."""

from uuid import UUID

from models.delivery import Delivery
from models.organization import Organization
from models.webhook import Webhook
from resolvers.desk import Desk
from resolvers.organizations import end_webhooks_of


async def sweep(desk: Desk) -> None:
    """Forgets expired keys and old statistics, and finishes deletions that a crash cut short. Safe to repeat."""
    now = desk.clock()
    await desk.ledger.sweep(now)
    gone = await Webhook.filter(deleted_at__isnull=False).values_list("id", flat=True)
    waiting = Delivery.filter(completed_at__isnull=True, webhook_id__in=list(gone)) if gone else None
    if waiting is not None:
        for webhook_id in await waiting.distinct().values_list("webhook_id", flat=True):
            await desk.ledger.cancel_waiting(UUID(str(webhook_id)), now)
    ended = await Organization.filter(deleted_at__isnull=False).values_list("id", flat=True)
    for organization_id in ended:
        await end_webhooks_of(desk, UUID(str(organization_id)))
