"""Factify (developers.factify.com): endpoints by URL and event types, errors in ConnectRPC's form."""

from typing import Annotated, Any

from pydantic import Field

from app.authentication import Unauthenticated
from app.rest import contract_verbs as verbs
from app.rest.contract import TYPE_ID, Catalogue, Moment, Reply, Request, Terms, Time, of, omitted_when_none, to
from app.rest.dialect import Dialect, Nothing, Operation, Problem, StaffHeader
from app.rest.refusals import (
    Internal,
    MalformedJson,
    MethodNotAllowed,
    PayloadTooLarge,
    UnknownPath,
    UnsupportedMediaType,
)
from models.webhook import SignatureScheme
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
from resolvers.inputs import SignatureDraft

KNOWN = Catalogue(form=r"[^\x00\n]+")
"""No list of event types was ever published: any name is taken."""

EventType = Annotated[str, Field(json_schema_extra=KNOWN.schema())]


# ── read ────────────────────────────────────────────────────────────────────────────────────────────────────────


class NewEndpoint(Request):
    """An endpoint to be registered."""

    url: str = to("url", json_schema_extra={"format": "uri"})
    """Where to deliver: an absolute https URL."""
    events: list[EventType] = to("events", min_length=1)
    """The event types it wants."""


class OldEndpoint(NewEndpoint):
    """An endpoint as the old API has it."""

    id: str | None = to("id", default=None, max_length=64)
    org_id: str | None = to("organization", default=None)
    secret: str | None = to("secret", default=None)
    created_at: Moment | None = to("created_at", default=None)


class EndpointQuery(Request):
    """Which part of the list."""

    page_size: int = to("limit", default=50, ge=1, le=100, strict=False)
    """How many at most."""
    page_token: str | None = to("cursor", default=None)
    """`next_page_token` or `prev_page_token` of another page."""


# ── written ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Endpoint(Reply):
    """A registered endpoint."""

    id: str = of("id")
    """`whk_` and 26 characters."""
    org_id: str = of("organization")
    """`org_` and 26 characters."""
    url: str = of("url")
    events: list[str] = of("events")
    created_at: Time = of("created_at")


class RegisteredEndpoint(Endpoint):
    """An endpoint with its secret, the only time that it can be read."""

    secret: str | None = omitted_when_none("secret")
    """`whsec_` and the base64 of the key. To get another, delete the endpoint and register it again."""


class Pagination(Reply):
    """Where in the list a page stands."""

    has_more: bool = of("has_more")
    next_page_token: str = of("next_cursor_or_empty")
    """Empty: this is the last page."""
    prev_page_token: str = of("previous_cursor_or_empty")
    """Empty: this is the first page."""


class Endpoints(Reply):
    """A page of endpoints, the latest first, without secrets."""

    items: list[Endpoint] = of("items")
    pagination: Pagination = of("itself")


class Detail(Reply):
    """What exactly is wrong."""

    reason: str
    param: str | None = of("param", None, exclude_if=lambda value: value is None)
    request_id: str


class ConnectError(Reply):
    """The form of every refusal: ConnectRPC's."""

    code: str
    message: str
    details: list[Detail]


_REASONS = {
    FieldErrorCode.REQUIRED: "missing_required_field",
    FieldErrorCode.TOO_SHORT: "missing_required_field",
    FieldErrorCode.UNKNOWN_EVENT_TYPE: "invalid_enum_value",
}
"""Of a field; anything else is an `invalid_field_value`."""

_OTHER_REASONS = {
    "invalid_argument": "invalid_field_value",
    "failed_precondition": "precondition_failed",
    "unauthenticated": "invalid_api_key",
    "permission_denied": "insufficient_permissions",
    "not_found": "resource_not_found",
    "already_exists": "resource_already_exists",
    "unimplemented": "feature_disabled",
    "internal": "internal_error",
    "unavailable": "service_unavailable",
}
"""By code, where no field is wrong. Of `resource_exhausted`, the status tells which."""


def error_body(problem: Problem) -> dict[str, Any]:
    """`{"code", "message", "details": [{"reason", "param"?, "request_id"}]}`."""
    request_id = f"req_{problem.request_id.lower()}"
    details = [
        {
            "reason": "invalid_cursor"
            if wrong.name == "page_token"
            else _REASONS.get(wrong.code, "invalid_field_value"),
            "param": wrong.name,
            "request_id": request_id,
        }
        for wrong in problem.fields
    ]
    if not details:
        exhausted = "rate_limit_exceeded" if "Retry-After" in problem.headers else "quota_exceeded"
        details = [{"reason": _OTHER_REASONS.get(problem.code, exhausted), "request_id": request_id}]
    return {"code": problem.code, "message": problem.message, "details": details}


# ── the contract ────────────────────────────────────────────────────────────────────────────────────────────────

CONTRACT = Dialect(
    name="factify",
    title="Factify, by Hookline",
    about="The webhooks of Factify, answered by Hookline. Unknown fields are ignored.",
    operations=(
        Operation(
            "POST",
            "/v1/webhooks",
            verbs.create_webhook,
            takes=NewEndpoint,
            scope=Scope.WEBHOOKS_WRITE,
            answers=RegisteredEndpoint,
            status=201,
            idempotent_by_key=True,
            refusals=(LimitExceeded,),
        ),
        Operation(
            "GET",
            "/v1/webhooks",
            verbs.list_webhooks,
            takes=EndpointQuery,
            scope=Scope.WEBHOOKS_READ,
            answers=Endpoints,
        ),
        Operation(
            "GET",
            "/v1/webhooks/{id}",
            verbs.get_webhook,
            takes=Nothing,
            scope=Scope.WEBHOOKS_READ,
            answers=Endpoint,
        ),
        Operation(
            "DELETE",
            "/v1/webhooks/{id}",
            verbs.delete_webhook,
            takes=Nothing,
            scope=Scope.WEBHOOKS_WRITE,
            status=204,
        ),
    ),
    field_names={
        "eventPatterns": "events",
        "first": "page_size",
        "after": "page_token",
        "before": "page_token",
        "organizationId": "X-Factify-Organization-Id",
    },
    names_items=False,
    statuses={
        MalformedJson: (400, "invalid_argument"),
        ValidationFailed: (400, "invalid_argument"),
        RotationInProgress: (400, "failed_precondition"),
        WebhookNotEnabled: (400, "failed_precondition"),
        Unauthenticated: (401, "unauthenticated"),
        Forbidden: (403, "permission_denied"),
        NotFound: (404, "not_found"),
        UnknownPath: (404, "not_found"),
        MethodNotAllowed: (405, "unimplemented"),
        IdempotencyConflict: (409, "already_exists"),
        RevisionConflict: (409, "already_exists"),
        PayloadTooLarge: (413, "invalid_argument"),
        UnsupportedMediaType: (415, "invalid_argument"),
        LimitExceeded: (429, "resource_exhausted"),
        RateLimited: (429, "resource_exhausted"),
        Internal: (500, "internal"),
        Unavailable: (503, "unavailable"),
    },
    error=ConnectError,
    error_body=error_body,
    token_prefixes=("ffy_",),
    staff_header=StaffHeader(
        "X-Factify-Organization-Id",
        "^org_[0-9a-hjkmnp-tv-z]{26}$",
        "For staff: act for this organization. Anybody else who sends it is refused (403).",
    ),
    terms=Terms(
        ids=TYPE_ID,
        events=KNOWN,
        signatures=(SignatureDraft(SignatureScheme.STANDARD_WEBHOOKS),),
        old=OldEndpoint,
    ),
)
