"""The operations on webhooks: ask, call."""

from app.rest import bodies
from app.rest.dialect import Answer, Call, Nothing
from resolvers import webhooks
from resolvers.inputs import WebhookFilter
from resolvers.paging import PageRequest


async def create_webhook(call: Call, new: bodies.NewWebhook) -> Answer:
    """Create a webhook

    Its signing secret is in the answer this once; rotate it to get another. Repeated with the same Idempotency-Key
    within 24 hours it answers with the webhook of the first time, without the secret.
    """
    created = await webhooks.create(call.caller, new.to_draft(call.idempotency_key))
    body = bodies.CreatedWebhook.created(created)
    return Answer(body, {"Location": f"/v1/webhooks/{body.id}"})


async def list_webhooks(call: Call, query: bodies.WebhookQuery) -> Answer:
    """List webhooks

    The latest first, without the deleted ones, and without secrets.
    """
    page = await webhooks.list_(call.caller, WebhookFilter(), PageRequest(first=query.limit, after=query.cursor))
    total = await webhooks.count(call.caller, WebhookFilter())
    next_cursor = page.cursor_of(page.items[-1]) if page.has_next_page else None
    return Answer(
        bodies.WebhookList(
            success=True,
            data=[bodies.Webhook.of(row) for row in page.items],
            meta=bodies.PageMeta(total=total, limit=query.limit, next_cursor=next_cursor),
        )
    )


async def get_webhook(call: Call, _: Nothing) -> Answer:
    """Get a webhook

    Never with its secret.
    """
    return Answer(bodies.Webhook.of(await webhooks.get(call.caller, call.id)))


async def change_webhook(call: Call, patch: bodies.WebhookPatch) -> Answer:
    """Change a webhook

    What is left out stays; `events` replaces the whole set.
    """
    return Answer(bodies.Webhook.of(await webhooks.update(call.caller, call.id, patch.to_change())))


async def delete_webhook(call: Call, _: Nothing) -> Answer:
    """Delete a webhook

    What waits for it is canceled; what was delivered can still be looked up. There is no undoing.
    """
    await webhooks.delete(call.caller, call.id)
    return Answer()


async def rotate_webhook_secret(call: Call, how: bodies.SecretRotation) -> Answer:
    """Rotate a webhook's secret

    The new secret is in the answer this once. Until the overlap ends, deliveries are signed with both.
    """
    rotated = await webhooks.rotate_secret(
        call.caller, call.id, secret=how.secret, overlap_seconds=how.overlap_seconds, force=how.force
    )
    return Answer(bodies.RotatedWebhook.rotated(rotated))


async def test_webhook(call: Call, trial: bodies.WebhookTrial) -> Answer:
    """Send a test event

    At once and to this webhook alone, whether it is active or not. Waits for the receiver's answer, at most for the
    webhook's timeout; what became of it is in the body, and the status is 200 also when the receiver failed.
    """
    tested = await webhooks.test(call.caller, call.id, event_type=trial.event_type, data=trial.data)
    return Answer(bodies.WebhookTrialResult.of(tested))
