"""Hookline's own REST dialect, on one page."""

from typing import Any

from app.rest import bodies, events, webhooks
from app.rest.dialect import Dialect, Nothing, Operation, Problem
from app.rest.refusals import STATUSES
from resolvers.caller import Scope
from resolvers.errors import LimitExceeded, RateLimited, RotationInProgress


def error_body(problem: Problem) -> dict[str, Any]:
    """`{"success": false, "error": {"code", "message", "request_id", "details"?}}`."""
    error = bodies.ErrorBody(
        code=problem.code,
        message=problem.message,
        request_id=problem.request_id,
        details=dict(problem.details) or None,
    )
    return bodies.Error(success=False, error=error).model_dump(exclude_none=True)


OPERATIONS: tuple[Operation[Any], ...] = (
    Operation(
        "POST",
        "/v1/webhooks",
        webhooks.create_webhook,
        takes=bodies.NewWebhook,
        scope=Scope.WEBHOOKS_WRITE,
        answers=bodies.CreatedWebhook,
        status=201,
        idempotent_by_key=True,
        refusals=(LimitExceeded,),
    ),
    Operation(
        "GET",
        "/v1/webhooks",
        webhooks.list_webhooks,
        takes=bodies.WebhookQuery,
        scope=Scope.WEBHOOKS_READ,
        answers=bodies.WebhookList,
    ),
    Operation(
        "GET",
        "/v1/webhooks/{id}",
        webhooks.get_webhook,
        takes=Nothing,
        scope=Scope.WEBHOOKS_READ,
        answers=bodies.Webhook,
    ),
    Operation(
        "PATCH",
        "/v1/webhooks/{id}",
        webhooks.change_webhook,
        takes=bodies.WebhookPatch,
        scope=Scope.WEBHOOKS_WRITE,
        answers=bodies.Webhook,
        refusals=(LimitExceeded,),
    ),
    Operation(
        "DELETE",
        "/v1/webhooks/{id}",
        webhooks.delete_webhook,
        takes=Nothing,
        scope=Scope.WEBHOOKS_WRITE,
        status=204,
    ),
    Operation(
        "POST",
        "/v1/webhooks/{id}/rotate-secret",
        webhooks.rotate_webhook_secret,
        takes=bodies.SecretRotation,
        scope=Scope.WEBHOOKS_WRITE,
        answers=bodies.RotatedWebhook,
        body_required=False,
        refusals=(RotationInProgress,),
    ),
    Operation(
        "POST",
        "/v1/webhooks/{id}/test",
        webhooks.test_webhook,
        takes=bodies.WebhookTrial,
        scope=Scope.WEBHOOKS_WRITE,
        answers=bodies.WebhookTrialResult,
        body_required=False,
        refusals=(RateLimited,),
    ),
    Operation(
        "POST",
        "/v1/events",
        events.publish_events,
        takes=bodies.Publication,
        scope=Scope.EVENTS_PUBLISH,
        answers=bodies.PublicationReply,
        status=201,
        idempotent_by_key=True,
    ),
)

NATIVE = Dialect(
    name="native",
    title="Hookline",
    about="""\
Register webhooks, publish events, and have them delivered, signed.

Whatever is refused is answered in the form of `Error`; so is an unknown path (404 `NOT_FOUND`) and a method that a
path does not take (405 `METHOD_NOT_ALLOWED`, with `Allow`). Unknown fields are ignored.
Every answer carries `X-Request-Id`.
""",
    operations=OPERATIONS,
    field_names={
        "eventPatterns": "events",
        "apiVersion": "api_version",
        "status": "active",
        "overlapSeconds": "overlap_seconds",
        "eventType": "event_type",
        "occurredAt": "occurred_at",
        "idempotencyKey": "idempotency_key",
        "first": "limit",
        "after": "cursor",
    },
    statuses=STATUSES,
    error=bodies.Error,
    error_body=error_body,
)
