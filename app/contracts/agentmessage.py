"""AgentMessage (agentmessage.io): endpoints of an organization, with every attempt to be looked at."""

from typing import Annotated, Literal

from pydantic import Field

from app.authentication import Unauthenticated
from app.rest import contract_verbs as verbs
from app.rest.bodies import Error
from app.rest.contract import (
    BARE_UUID,
    Catalogue,
    Moment,
    Reply,
    Request,
    Terms,
    Time,
    of,
    omitted_when_none,
    to,
)
from app.rest.dialect import Dialect, Nothing, Operation
from app.rest.native import error_body
from app.rest.refusals import STATUSES
from models.webhook import SignatureScheme
from resolvers.attempts import Verdict
from resolvers.caller import Scope
from resolvers.errors import Forbidden, LimitExceeded, RateLimited, ValidationFailed
from resolvers.inputs import SignatureDraft
from resolvers.webhooks import TEST_EVENT_TYPE

_EVENTS = """
brand.vetted brand.vetting_failed campaign.approved campaign.rejected campaign.shared wallet.balance_low
wallet.balance_zero subscription.past_due subscription.canceled api_key.created api_key.rotated api_key.revoked
phone_number.bulk_order.completed phone_number.campaign.assigned consent_pending.confirmed consent_pending.expired
lookup.completed
"""

KNOWN = Catalogue(names=frozenset(_EVENTS.split()), refuses_repeats=True)

EventType = Annotated[str, Field(json_schema_extra=KNOWN.schema())]
DeliveredType = Annotated[str, Field(json_schema_extra=KNOWN.schema(TEST_EVENT_TYPE))]


# ── read ────────────────────────────────────────────────────────────────────────────────────────────────────────


class NewEndpoint(Request):
    """An endpoint to be created."""

    url: str = to("url", json_schema_extra={"format": "uri"})
    """Where to deliver: https."""
    events: list[EventType] = to("events", min_length=1, max_length=50, json_schema_extra={"uniqueItems": True})
    """The event types it wants, each known and given once."""
    description: str | None = to("description", default=None, max_length=200)
    """For people."""
    api_version: str | None = to("api_version", default=None)
    """The version of the payload."""


class EndpointPatch(Request):
    """What to change; what is left out stays."""

    url: str | None = to("url", default=None, json_schema_extra={"format": "uri"})
    """Where to deliver from now on: https."""
    events: list[EventType] | None = to(
        "events", default=None, min_length=1, max_length=50, json_schema_extra={"uniqueItems": True}
    )
    """Replaces the whole set."""
    description: str | None = to("description", default=None, max_length=200)
    """Nothing but white space clears it."""
    active: bool | None = to("active", default=None)
    """Whether to deliver."""


class OldEndpoint(NewEndpoint):
    """An endpoint as the old API has it."""

    id: str | None = to("id", default=None)
    org_id: str | None = to("organization", default=None)
    secret: str | None = to("secret", default=None)
    active: bool | None = to("active", default=None)
    created_at: Moment | None = to("created_at", default=None)
    deleted_at: None = to("deleted_at", default=None)


class EndpointQuery(Request):
    """Which part of the list."""

    limit: int = to("limit", default=50, ge=1, le=100, strict=False)
    """How many at most."""
    cursor: str | None = to("cursor", default=None)
    """`meta.next_cursor` of the page before."""


class DeliveryQuery(Request):
    """Which attempts; all that is given must hold."""

    limit: int = to("limit", default=50, ge=1, le=200, strict=False)
    """How many at most."""
    cursor: str | None = to("cursor", default=None)
    """`meta.next_cursor` of the page before."""
    endpoint_id: str | None = to("webhook", default=None)
    """Those of one endpoint."""
    event_type: DeliveredType | None = to("event_type", default=None)
    """Those of one event type."""
    outcome: Verdict | None = to("verdict", default=None, strict=False)
    """Those that ended so."""
    since: Moment | None = to("since", default=None)
    """From this moment on."""
    until: Moment | None = to("until", default=None)
    """Before this moment."""
    http_status_min: int | None = to("status_least", default=None, ge=100, le=599, strict=False)
    """With a response status of at least this."""
    http_status_max: int | None = to("status_most", default=None, ge=100, le=599, strict=False)
    """With a response status of at most this."""


class Anything(Request):
    """A body that may be left out, and says nothing."""


# ── written ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Endpoint(Reply):
    """An endpoint."""

    id: str = of("id")
    """A UUID."""
    org_id: str = of("organization")
    """A UUID."""
    url: str = of("url")
    """Where it delivers."""
    events: list[str] = of("events")
    """The event types it wants."""
    description: str | None = omitted_when_none("description")
    """For people; absent when there is none."""
    active: bool = of("active")
    """Whether deliveries are made."""
    api_version: str = of("api_version")
    """The version of the payload."""
    created_at: Time = of("created_at")
    """When it was created."""
    updated_at: Time = of("updated_at")
    """When it was last changed."""
    deleted_at: Time | None = of("deleted_at")
    """Always null here: a deleted endpoint is not found."""


class EndpointWithSecret(Endpoint):
    """An endpoint with its secret, the only time that it can be read."""

    secret: str | None = of("secret")
    """The base64 of 32 bytes. Its text, as it stands, is the key of the signatures."""
    secret_displayed_once: bool = of("secret_is_shown")
    """True when the secret is here, now and never again."""


class Meta(Reply):
    """Where in the list a page stands."""

    total: int = of("total")
    """How many there are."""
    limit: int = of("limit")
    """How many a page holds at most."""
    offset: int = of("offset")
    """Always 0."""
    next_cursor: str | None = of("next_cursor")
    """Null: this is the last page."""


class Endpoints(Reply):
    """A page of endpoints, the latest first, never with secrets."""

    success: Literal[True] = True
    data: list[Endpoint] = of("items")
    meta: Meta = of("itself")


class OrganizationSecret(Reply):
    """The new secret of all endpoints, the only time that it can be read."""

    webhook_secret: str = of("secret")
    """The base64 of 32 bytes."""
    rotated_at: Time = of("rotated_at")
    """Since when deliveries are signed with it, and with it alone."""
    previous_valid_until: Time = of("previous_valid_until")
    """Until when receivers should accept the former one, for what is on its way."""


class TestResult(Reply):
    """How the receiver took it."""

    event_id: str = of("event_id")
    outcome: Verdict = of("verdict")
    url: str = of("url")
    response_status: int | None = of("response_status")
    response_time_ms: int = of("response_time_ms")
    response_body_excerpt: str | None = of("response_excerpt")
    error: str | None = of("error")


class Delivery(Reply):
    """One attempt to deliver one event to one endpoint."""

    id: str = of("id")
    """A UUID."""
    endpoint_id: str = of("webhook")
    event_id: str = of("event_id")
    event_type: str = of("event_type")
    url: str = of("url")
    attempt: int = of("number")
    """1 for the first."""
    outcome: Verdict = of("verdict")
    response_status: int | None = of("response_status")
    response_time_ms: int = of("response_time_ms")
    request_body_sha256: str | None = of("body_sha256")
    """In hex. Null when the event is no longer kept."""
    request_body_bytes: int = of("body_bytes")
    response_body_excerpt: str | None = of("response_excerpt")
    request_headers: dict[str, str] = of("request_headers")
    error: str | None = of("error")
    occurred_at: Time = of("at")


class DeliveriesMeta(Reply):
    """Where in the list a page stands."""

    limit: int = of("limit")
    next_cursor: str | None = of("next_cursor")
    """Null: this is the last page."""


class Deliveries(Reply):
    """A page of attempts, the latest first."""

    success: Literal[True] = True
    data: list[Delivery] = of("items")
    meta: DeliveriesMeta = of("itself")


# ── the contract ────────────────────────────────────────────────────────────────────────────────────────────────

CONTRACT = Dialect(
    name="agentmessage",
    title="AgentMessage, by Hookline",
    about="The webhooks of AgentMessage, answered by Hookline. Unknown fields are ignored.",
    operations=(
        Operation(
            "POST",
            "/v1/webhooks",
            verbs.create_webhook,
            name="createWebhookEndpoint",
            takes=NewEndpoint,
            scope=Scope.WEBHOOKS_WRITE,
            answers=EndpointWithSecret,
            status=201,
            idempotent_by_key=True,
            refusals=(LimitExceeded,),
        ),
        Operation(
            "GET",
            "/v1/webhooks",
            verbs.list_webhooks,
            name="listWebhookEndpoints",
            takes=EndpointQuery,
            scope=Scope.WEBHOOKS_READ,
            answers=Endpoints,
        ),
        Operation(
            "GET",
            "/v1/webhooks/{id}",
            verbs.get_webhook,
            name="getWebhookEndpoint",
            takes=Nothing,
            scope=Scope.WEBHOOKS_READ,
            answers=Endpoint,
        ),
        Operation(
            "PATCH",
            "/v1/webhooks/{id}",
            verbs.change_webhook,
            name="patchWebhookEndpoint",
            takes=EndpointPatch,
            scope=Scope.WEBHOOKS_WRITE,
            answers=Endpoint,
            refusals=(LimitExceeded,),
        ),
        Operation(
            "DELETE",
            "/v1/webhooks/{id}",
            verbs.delete_webhook,
            name="deleteWebhookEndpoint",
            takes=Nothing,
            scope=Scope.WEBHOOKS_WRITE,
            status=204,
        ),
        Operation(
            "POST",
            "/v1/webhooks/{id}/rotate-secret",
            verbs.rotate_secret,
            name="rotateWebhookEndpointSecret",
            takes=Anything,
            scope=Scope.WEBHOOKS_WRITE,
            answers=EndpointWithSecret,
            body_required=False,
        ),
        Operation(
            "POST",
            "/v1/webhook-secret/rotate",
            verbs.rotate_all_secrets,
            name="rotateWebhookSecret",
            takes=Anything,
            scope=Scope.ADMIN,
            answers=OrganizationSecret,
            body_required=False,
        ),
        Operation(
            "POST",
            "/v1/webhooks/{id}/test",
            verbs.send_test,
            name="testWebhookEndpoint",
            takes=Anything,
            scope=Scope.WEBHOOKS_WRITE,
            answers=TestResult,
            body_required=False,
            refusals=(RateLimited,),
        ),
        Operation(
            "GET",
            "/v1/webhooks/deliveries",
            verbs.list_attempts,
            name="listWebhookDeliveries",
            takes=DeliveryQuery,
            scope=Scope.DELIVERIES_READ,
            answers=Deliveries,
        ),
        Operation(
            "GET",
            "/v1/webhooks/deliveries/{id}",
            verbs.get_attempt,
            name="getWebhookDelivery",
            takes=Nothing,
            scope=Scope.DELIVERIES_READ,
            answers=Delivery,
        ),
    ),
    field_names={"eventPatterns": "events", "apiVersion": "api_version", "first": "limit", "after": "cursor"},
    names_items=False,
    statuses=STATUSES,
    texts={
        Unauthenticated: "authentication failed",
        Forbidden: "missing required scope",
        LimitExceeded: "webhook endpoint limit reached (max {limit})",
        ValidationFailed: "validation failed",
    },
    error=Error,
    error_body=error_body,
    token_prefixes=("am_live_", "am_test_"),
    terms=Terms(
        ids=BARE_UUID,
        events=KNOWN,
        signatures=(SignatureDraft(SignatureScheme.TIMESTAMPED_HEX_NEWLINE, "X-AmCore-Signature"),),
        secret_prefix="",
        old=OldEndpoint,
    ),
)
