"""Verifik (docs.verifik.co): named webhooks of project flows, with the caller's own secret and retry policy.

Its documents come in two generations that contradict each other; what either says is accepted.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from app.authentication import Unauthenticated
from app.rest import contract_verbs as verbs
from app.rest.contract import (
    OBJECT_ID,
    WHOLE,
    Catalogue,
    Moment,
    Reply,
    Request,
    Terms,
    Time,
    of,
    omitted_when_none,
    read_as,
    to,
)
from app.rest.dialect import Dialect, Nothing, Operation, Problem
from app.rest.refusals import (
    Internal,
    MalformedJson,
    MethodNotAllowed,
    PayloadTooLarge,
    UnknownPath,
    UnsupportedMediaType,
)
from models.webhook import PayloadEnvelope, SignatureScheme
from resolvers.caller import Scope
from resolvers.errors import (
    FieldErrorCode,
    Forbidden,
    IdempotencyConflict,
    LimitExceeded,
    NotFound,
    RateLimited,
    RevisionConflict,
    RotationInProgress,
    Unavailable,
    ValidationFailed,
    WebhookNotEnabled,
)
from resolvers.inputs import DeliveryDraft, SignatureDraft

_EVENTS = """
validation.completed validation.failed registration.completed login.completed
verification.started verification.completed verification.failed verification.expired
document.uploaded biometric.captured
"""
"""Of the older documents."""

_SUFFIXES = """
app_registration_(created|ongoing|completed|failed|needs_manual_verification|completed_without_kyc|person_already_set)
app_registration_sync_[a-z0-9_]+
(email|phone)_validation_(created|validated|failed|otp_incorect|resend|expired)
document_validation_(created|source_lookup|data_source_error|manual_verification_required)
biometric_validation_(new|validated|failed|created_person|liveness_failed)
biometrics_liveness_score_not_acceptable
information_validation_(background_check|updated)
face_verification_compare
"""
"""Of the newer ones, which put a project flow's type before them. `incorect` is Verifik's own spelling."""

KNOWN = Catalogue(
    names=frozenset(_EVENTS.split()),
    form=rf"([A-Za-z0-9]+_)*({'|'.join(_SUFFIXES.split())})",
    everything=True,
)

EventType = Annotated[str, Field(json_schema_extra=KNOWN.schema())]
Text = str | None


# ── read ────────────────────────────────────────────────────────────────────────────────────────────────────────


class RetryPolicyGiven(Request):
    """How to try again."""

    maxRetries: Annotated[int, Field(ge=0, le=24), WHOLE] | None = to("max_retries", default=None)  # noqa: N815 — the contract's own spelling
    """How often after the first time."""
    retryDelay: Annotated[int, Field(ge=0, le=604_800_000), WHOLE] | None = to("delay_ms", default=None)  # noqa: N815
    """Milliseconds from one attempt to the next, rounded up to whole seconds when they are waited."""
    timeout: Annotated[int, Field(ge=1000, le=30_000), WHOLE] | None = to("timeout_ms", default=None)
    """How long to wait for an answer, in milliseconds."""


class NotificationGiven(Request):
    """Whom to tell how it went. Kept and shown again; Hookline sends no mail."""

    email: str | None = to("email", default=None, max_length=254)
    success: bool | None = to("success", default=None)
    fail: bool | None = to("fail", default=None)


class WebhookFields(Request):
    """What can be given of a webhook."""

    description: Text = to("description", default=None, max_length=2000)
    """For people."""
    events: list[EventType] | None = to("events", default=None, max_length=50)
    """The event types it wants; all of them when left out or empty."""
    secret: Text = to("secret", default=None, min_length=1, max_length=200)
    """Signs the deliveries; one is made when left out."""
    retryPolicy: RetryPolicyGiven | None = to("retry", default=None)  # noqa: N815
    """How to try again."""
    notification: NotificationGiven | None = to("fields.notification", default=None)
    """Whom to tell how it went."""


class NewWebhook(WebhookFields):
    """A webhook to be created."""

    url: str = to("url", json_schema_extra={"format": "uri"})
    """Where to deliver: https."""
    name: str = to("name", min_length=1, max_length=200)
    """Its own: no other webhook has it."""
    isActive: bool = to("active")  # noqa: N815
    """Whether to deliver."""
    link: list[str] | None = to("fields.projectFlow", default=None, max_length=100)
    """The project flows it belongs to."""


class WebhookUpdate(WebhookFields):
    """What to change; what is left out stays."""

    url: Text = to("url", default=None, json_schema_extra={"format": "uri"})
    """Where to deliver from now on: https."""
    name: Text = to("name", default=None, min_length=1, max_length=200)
    """Its own: no other webhook has it."""
    isActive: bool | None = to("active", default=None)  # noqa: N815
    """Whether to deliver."""
    link: list[str] | None = to("fields.+projectFlow", default=None, max_length=100)
    """Project flows it shall belong to as well."""
    unlink: list[str] | None = to("fields.-projectFlow", default=None, max_length=100)
    """Project flows it shall no longer belong to."""


class OldWebhook(WebhookFields):
    """A webhook as the old API has it."""

    id: Text = to("id", "_id", "id", default=None, max_length=64)
    url: str = to("url")
    name: str = to("name", min_length=1, max_length=200)
    isActive: bool = to("active", default=True)  # noqa: N815
    projectFlow: list[Any] | None = to("fields.projectFlow", default=None)  # noqa: N815
    client: Text = to("organization", default=None)
    createdAt: Moment | None = to("created_at", default=None)  # noqa: N815


class WebhookQuery(Request):
    """Which part of the list; all that is given must hold."""

    page: int = to("page", default=1, ge=1, le=1_000_000, strict=False)
    """Which page, from 1."""
    limit: int = to("limit", "limit", "perPage", default=10, ge=1, le=100, strict=False)
    """How many at most; also called `perPage`."""
    isActive: bool | None = to("active", default=None, strict=False)  # noqa: N815
    """Those that are active, or are not."""
    projectFlow: Text = to("fields.projectFlow", default=None)  # noqa: N815
    """Those of a project flow."""
    like_name: Text = to("name_contains", default=None)
    """Those whose name holds this text."""
    where_url: Text = to("url_contains", default=None)
    """Those whose URL holds this text."""


# ── written ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Statistics(Reply):
    """What happened in the last 30 days; empty as long as nothing has."""

    totalRequests: int | None = omitted_when_none("total")  # noqa: N815
    successfulRequests: int | None = omitted_when_none("succeeded")  # noqa: N815
    failedRequests: int | None = omitted_when_none("failed")  # noqa: N815
    lastTriggered: Time | None = omitted_when_none("last_at")  # noqa: N815


class RetryPolicy(Reply):
    """How it is tried again."""

    maxRetries: int = of("max_retries")  # noqa: N815
    retryDelay: int = of("delay_ms")  # noqa: N815
    """Milliseconds."""
    timeout: int = of("timeout_ms")
    """Milliseconds."""


class Notification(Reply):
    """Whom to tell how it went."""

    email: str | None = omitted_when_none("email")
    success: Annotated[bool, read_as(False)] = of("success", False)
    fail: Annotated[bool, read_as(True)] = of("fail", True)


class Webhook(Reply):
    """A webhook."""

    id: str = of("id", serialization_alias="_id")
    client: str = of("organization")
    """The organization."""
    projectFlow: list[Any] = of("fields.projectFlow", [])  # noqa: N815
    statistics: Statistics = of("figures")
    isActive: bool = of("active")  # noqa: N815
    name: str | None = of("name")
    url: str = of("url")
    description: str | None = of("description")
    events: list[str] = of("events_or_none")
    """Empty: all."""
    secret: str = of("secret")
    retryPolicy: RetryPolicy = of("itself")  # noqa: N815
    notification: Notification | None = omitted_when_none("fields.notification")
    """Absent unless it was given."""
    createdAt: Time = of("created_at")  # noqa: N815
    updatedAt: Time = of("updated_at")  # noqa: N815


class OneWebhook(Reply):
    """A webhook, as answered."""

    success: Literal[True] = True
    data: Webhook = of("itself")


class Pagination(Reply):
    """Where in the list a page stands."""

    page: int = of("page")
    limit: int = of("limit")
    total: int = of("total")
    pages: int = of("pages")


class Webhooks(Reply):
    """A page of webhooks, the latest first."""

    success: Literal[True] = True
    data: list[Webhook] = of("items")
    pagination: Pagination = of("itself")


class Deleted(Reply):
    """The webhook is gone, with its statistics."""

    success: Literal[True] = True
    message: Literal["Webhook deleted successfully"] = "Webhook deleted successfully"


class WebhookError(Reply):
    """The forms of a refusal: text and code, a missing parameter, or invalid parameters."""

    error: str | None = None
    """For people; with INVALID_PARAMETERS beside `success`, else beside `message`."""
    message: str | None = None
    """The code, or which parameter is missing."""
    code: Literal["MissingParameter", "INVALID_PARAMETERS"] | None = None
    success: Literal[False] | None = None


def error_body(problem: Problem) -> dict[str, Any]:
    """As the documents have it: three forms, of which only the first has its code in `message`."""
    match problem.code:
        case "MissingParameter":
            return {"code": problem.code, "message": f"{problem.message}\n"}
        case "INVALID_PARAMETERS":
            return {"success": False, "error": problem.message, "code": problem.code}
        case code:
            return {"error": problem.message, "message": code}


# ── the contract ────────────────────────────────────────────────────────────────────────────────────────────────

CONTRACT = Dialect(
    name="verifik",
    title="Verifik, by Hookline",
    about="The webhooks of Verifik, answered by Hookline. Unknown fields are ignored.",
    operations=(
        Operation(
            "POST",
            "/v2/webhooks",
            verbs.create_webhook,
            takes=NewWebhook,
            scope=Scope.WEBHOOKS_WRITE,
            answers=OneWebhook,
            idempotent_by_key=True,
            refusals=(LimitExceeded,),
        ),
        Operation(
            "GET",
            "/v2/webhooks",
            verbs.list_webhooks_by_page,
            name="listWebhooks",
            takes=WebhookQuery,
            scope=Scope.WEBHOOKS_READ,
            answers=Webhooks,
        ),
        Operation(
            "GET",
            "/v2/webhooks/{id}",
            verbs.get_webhook,
            takes=Nothing,
            scope=Scope.WEBHOOKS_READ,
            answers=OneWebhook,
        ),
        Operation(
            "PUT",
            "/v2/webhooks/{id}",
            verbs.change_webhook,
            takes=WebhookUpdate,
            scope=Scope.WEBHOOKS_WRITE,
            answers=OneWebhook,
            refusals=(LimitExceeded,),
        ),
        Operation(
            "DELETE",
            "/v2/webhooks/{id}",
            verbs.delete_webhook,
            takes=Nothing,
            scope=Scope.WEBHOOKS_WRITE,
            answers=Deleted,
        ),
    ),
    field_names={"eventPatterns": "events", "delivery": "retryPolicy", "status": "isActive"},
    names_items=False,
    statuses={
        MalformedJson: (400, "INVALID_PARAMETERS"),
        ValidationFailed: (400, "INVALID_PARAMETERS"),
        Unauthenticated: (401, "UNAUTHORIZED"),
        Forbidden: (403, "FORBIDDEN"),
        NotFound: (404, "WEBHOOK_NOT_FOUND"),
        UnknownPath: (404, "NOT_FOUND"),
        MethodNotAllowed: (405, "METHOD_NOT_ALLOWED"),
        LimitExceeded: (409, "LIMIT_EXCEEDED"),
        IdempotencyConflict: (409, "IDEMPOTENCY_CONFLICT"),
        RevisionConflict: (409, "REVISION_CONFLICT"),
        RotationInProgress: (409, "ROTATION_IN_PROGRESS"),
        WebhookNotEnabled: (409, "WEBHOOK_NOT_ENABLED"),
        PayloadTooLarge: (413, "PAYLOAD_TOO_LARGE"),
        UnsupportedMediaType: (415, "UNSUPPORTED_MEDIA_TYPE"),
        RateLimited: (429, "RATE_LIMITED"),
        Internal: (500, "INTERNAL_ERROR"),
        Unavailable: (503, "UNAVAILABLE"),
    },
    texts={Unauthenticated: "Unauthorized", Forbidden: "Forbidden", NotFound: "Webhook not found"},
    field_statuses={
        ("*", FieldErrorCode.REQUIRED): (409, "MissingParameter", "missing {name}"),
        ("url", None): (400, "INVALID_WEBHOOK_URL", "Invalid webhook URL"),
        ("name", FieldErrorCode.DUPLICATE): (409, "WEBHOOK_NAME_EXISTS", "Webhook name already exists"),
    },
    error=WebhookError,
    error_body=error_body,
    terms=Terms(
        ids=OBJECT_ID,
        events=KNOWN,
        signatures=(SignatureDraft(SignatureScheme.PREFIXED_HEX, "X-Verifik-Signature"),),
        envelope=PayloadEnvelope.TYPE_OBJECT,
        delivery=DeliveryDraft(timeout_seconds=30, max_attempts=4, retry_schedule_seconds=[5]),
        secret_is_readable=True,
        unique_by=("name", "contract_fields.name"),
        shows_figures=True,
        old=OldWebhook,
    ),
)
