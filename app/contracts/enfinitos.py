"""Enfinitos (docs.enfinitos.com): labelled subscriptions, each answer with its contract's version."""

from typing import Annotated, Any, Literal

from pydantic import Field

from app.rest import contract_verbs as verbs
from app.rest.contract import TYPE_ID, Catalogue, Moment, Reply, Request, Terms, Time, of, to
from app.rest.dialect import Dialect, Nothing, Operation, Problem
from app.rest.refusals import STATUSES
from models.webhook import SignatureScheme
from resolvers.caller import Scope
from resolvers.errors import LimitExceeded, ValidationFailed
from resolvers.inputs import DeliveryDraft, SignatureDraft

_EVENTS = """
right.issued right.suspended right.resumed right.revoked right.expired basis.registered offer.proposed offer.accepted
offer.rejected offer.countered offer.withdrawn challenge.opened challenge.resolved challenge.withdrawn
delivery.observed proof_pack.sealed key.issued key.revoked key.rotated
"""

KNOWN = Catalogue(names=frozenset(_EVENTS.split()), everything=True)

EventKind = Annotated[str, Field(json_schema_extra=KNOWN.schema())]
Version = Literal["v1.0"]


# ── read ────────────────────────────────────────────────────────────────────────────────────────────────────────


class NewSubscription(Request):
    """A subscription to be created."""

    url: str = to("url", json_schema_extra={"format": "uri"})
    """Where to deliver: https."""
    events: list[EventKind] = to("events", min_length=1)
    """The event kinds it wants, or `["*"]` for everything."""
    label: str = to("name", min_length=1, max_length=60)
    """For people."""


class OldSubscription(NewSubscription):
    """A subscription as the old API has it."""

    subscriptionId: str | None = to("id", default=None, max_length=64)  # noqa: N815 — the contract's own spelling
    signingSecret: str | None = to("secret", "signingSecret", "secret", default=None)  # noqa: N815
    developerId: str | None = to("organization", default=None)  # noqa: N815
    active: bool | None = to("active", default=None)
    createdAt: Moment | None = to("created_at", default=None)  # noqa: N815
    secretLastRotatedAt: Moment | None = to("secret_created_at", default=None)  # noqa: N815


class SubscriptionQuery(Request):
    """Which part of the list."""

    limit: int = to("limit", default=50, ge=1, le=100, strict=False)
    """How many at most."""
    cursor: str | None = to("cursor", default=None)
    """`nextCursor` of the page before."""


class Anything(Request):
    """A body that may be left out, and says nothing."""


# ── written ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Subscription(Reply):
    """A subscription."""

    subscriptionId: str = of("id")  # noqa: N815
    developerId: str = of("organization")  # noqa: N815
    """The organization."""
    url: str = of("url")
    events: list[str] = of("events")
    label: str | None = of("name")
    active: bool = of("active")
    createdAt: Time = of("created_at")  # noqa: N815
    lastDeliveredAt: Time | None = of("last_success_at")  # noqa: N815
    """When a delivery last succeeded."""
    secretLastRotatedAt: Time = of("secret_created_at")  # noqa: N815
    """When its signing secret was made."""


class SubscriptionAndSecret(Reply):
    """A subscription with its signing secret, the only time that it can be read."""

    subscription: Subscription = of("itself")
    signingSecret: str | None = of("secret")  # noqa: N815
    """`whsec_…`. Its text as it stands, prefix included, is the key of the signatures."""


class CreatedSubscription(Reply):
    """A subscription with its signing secret, as answered."""

    ok: Literal[True] = True
    data: SubscriptionAndSecret = of("itself")
    contractVersion: Version = "v1.0"  # noqa: N815


class TheSubscription(Reply):
    """A subscription by itself."""

    subscription: Subscription = of("itself")


class GotSubscription(Reply):
    """A subscription, as answered."""

    ok: Literal[True] = True
    data: TheSubscription = of("itself")
    contractVersion: Version = "v1.0"  # noqa: N815


class SubscriptionPage(Reply):
    """A page of subscriptions, the latest first."""

    subscriptions: list[Subscription] = of("items")
    nextCursor: str | None = of("next_cursor")  # noqa: N815
    """Null: this is the last page."""
    total: int = of("total")


class Subscriptions(Reply):
    """A page of subscriptions, as answered."""

    ok: Literal[True] = True
    data: SubscriptionPage = of("itself")
    contractVersion: Version = "v1.0"  # noqa: N815


class Removal(Reply):
    """Which subscription is gone."""

    subscriptionId: str = of("id")  # noqa: N815
    deleted: Literal[True] = True


class DeletedSubscription(Reply):
    """Which subscription is gone, as answered."""

    ok: Literal[True] = True
    data: Removal = of("itself")
    contractVersion: Version = "v1.0"  # noqa: N815


class ErrorBody(Reply):
    """What was refused, and why."""

    code: str
    message: str
    requestId: str  # noqa: N815
    details: dict[str, str] | None = of("details", None, exclude_if=lambda value: value is None)
    """What is wrong, by field."""


class SubscriptionError(Reply):
    """The form of every refusal."""

    ok: Literal[False] = False
    error: ErrorBody
    contractVersion: Version = "v1.0"  # noqa: N815


def error_body(problem: Problem) -> dict[str, Any]:
    """`{"ok": false, "error": {…}, "contractVersion": "v1.0"}`."""
    error: dict[str, Any] = {"code": problem.code, "message": problem.message, "requestId": problem.request_id}
    if problem.details:
        error["details"] = problem.details
    return {"ok": False, "error": error, "contractVersion": "v1.0"}


# ── the contract ────────────────────────────────────────────────────────────────────────────────────────────────

CONTRACT = Dialect(
    name="enfinitos",
    title="Enfinitos, by Hookline",
    about="The webhooks of Enfinitos, answered by Hookline. Unknown fields are ignored.",
    operations=(
        Operation(
            "POST",
            "/v1/webhooks",
            verbs.create_webhook,
            takes=NewSubscription,
            scope=Scope.EVERYTHING,
            answers=CreatedSubscription,
            status=201,
            idempotent_by_key=True,
            refusals=(LimitExceeded,),
        ),
        Operation(
            "GET",
            "/v1/webhooks",
            verbs.list_webhooks,
            takes=SubscriptionQuery,
            scope=Scope.EVERYTHING,
            answers=Subscriptions,
        ),
        Operation(
            "GET",
            "/v1/webhooks/{id}",
            verbs.get_webhook,
            takes=Nothing,
            scope=Scope.EVERYTHING,
            answers=GotSubscription,
        ),
        Operation(
            "DELETE",
            "/v1/webhooks/{id}",
            verbs.delete_webhook,
            takes=Nothing,
            scope=Scope.EVERYTHING,
            answers=DeletedSubscription,
        ),
        *(
            Operation(
                "POST",
                f"/v1/webhooks/{{id}}/{path}",
                verbs.rotate_secret,
                name=name,
                takes=Anything,
                scope=Scope.EVERYTHING,
                answers=CreatedSubscription,
                body_required=False,
            )
            for path, name in (("rotate-secret", "rotateSecret"), ("rotate", "rotate"))  # no document says which
        ),
    ),
    field_names={
        "eventPatterns": "events",
        "name": "label",
        "first": "limit",
        "after": "cursor",
    },
    statuses={**STATUSES, ValidationFailed: (400, "VALIDATION_FAILED")},
    error=SubscriptionError,
    error_body=error_body,
    token_prefixes=("sk_live_", "sk_sandbox_", "sk_test_"),
    terms=Terms(
        ids=TYPE_ID,
        events=KNOWN,
        signatures=(SignatureDraft(SignatureScheme.TIMESTAMPED_HEX, "Enfinitos-Signature"),),
        delivery=DeliveryDraft(timeout_seconds=10, max_attempts=5, retry_schedule_seconds=[30, 120, 600, 3600]),
        old=OldSubscription,
        old_wrappers=("data", "subscription"),
        shows_figures=True,
    ),
)
