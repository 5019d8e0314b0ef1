"""Factorial (apidoc.factorialhr.com): one subscription per event type and company; a challenge, and no signature."""

from typing import Annotated, Any

from pydantic import Field
from pydantic.config import JsonDict

from app.rest import contract_verbs as verbs
from app.rest.contract import NUMBER, WHOLE, Catalogue, Moment, Reply, Request, Terms, of, to
from app.rest.dialect import Dialect, Nothing, Operation, Problem
from app.rest.refusals import (
    STATUSES,
    Internal,
    MalformedJson,
)
from models.webhook import PayloadEnvelope, SignatureScheme
from resolvers.caller import Scope
from resolvers.errors import LimitExceeded
from resolvers.inputs import DeliveryDraft, SignatureDraft

_NAMESPACES = """
api_public ats attendance bookkeeping companies compensations contracts custom_fields custom_resources documents
employee_updates employees expenses finance holidays job_catalog locations marketplace payroll payroll_employees
payroll_integrations_base performance posts project_management shift_management tasks teams time_planning time_settings
timeoff trainings work_schedule
"""
"""Of the 134 types that are documented, most names are not known to us; in these namespaces, any is taken."""

_IN_HEADER: JsonDict = {"pattern": "^[!-~]([ -~]*[!-~])?$"}
_VERSION = r"\d{4}-\d\d-\d\d|v2"
_DATED = "/api/{version}/resources/api_public/webhook_subscriptions"
_FIRST = "/api/v1/webhooks"

KNOWN = Catalogue(form=rf"({'|'.join(_NAMESPACES.split())})/[a-z0-9_]+/[a-z0-9_]+")

EventType = Annotated[str, Field(json_schema_extra=KNOWN.schema())]
Company = Annotated[int, WHOLE] | Annotated[str, Field(json_schema_extra=_IN_HEADER)]


# ── read ────────────────────────────────────────────────────────────────────────────────────────────────────────


class SubscriptionFields(Request):
    """What can be given of a subscription."""

    name: str | None = to("name", default=None, max_length=200)
    """For people."""
    challenge: str | None = to("secret", default=None, min_length=1, json_schema_extra=_IN_HEADER)
    """Sent with every delivery as `x-factorial-wh-challenge`; one is made when left out."""
    enabled: bool | None = to("active", default=None)
    """Whether to deliver."""
    api_version: str | None = to("fields.api_version", default=None, max_length=20)
    """The version of the payload."""


class NewSubscription(SubscriptionFields):
    """A subscription to be created."""

    target_url: str = to("url", json_schema_extra={"format": "uri"})
    """Where to deliver: https."""
    subscription_type: EventType = to("event", "subscription_type", "type")
    """The event type: `namespace/resource/action`."""
    company_id: Company = to("fields.company_id")
    """Whose events; one subscription per type and company."""


class FirstSubscription(SubscriptionFields):
    """A subscription to be created, as the first version of the API took it: an event and a URL."""

    target_url: str = to("url", "target_url", "url", json_schema_extra={"format": "uri"})
    """Where to deliver: https; also called `url`."""
    subscription_type: EventType = to("event", "subscription_type", "type", "event")
    """The event type: `namespace/resource/action`; also called `event`."""
    company_id: Company | None = to("fields.company_id", default=None)
    """Whose events; one subscription per type and company."""


class SubscriptionUpdate(SubscriptionFields):
    """What to change; what is left out stays."""

    target_url: str | None = to("url", "target_url", "url", default=None, json_schema_extra={"format": "uri"})
    """Where to deliver from now on: https."""
    subscription_type: EventType | None = to("event", "subscription_type", "type", default=None)
    """The event type: `namespace/resource/action`."""
    company_id: Company | None = to("fields.company_id", default=None)
    """Whose events; one subscription per type and company."""


class OldSubscription(FirstSubscription):
    """A subscription as the old API has it."""

    id: Annotated[int, Field(ge=1, lt=2**63), WHOLE] | None = to("id", default=None)
    created_at: Moment | None = to("created_at", default=None)


class SubscriptionQuery(Request):
    """Which part of the list."""

    limit: int = to("limit", default=100, ge=1, le=100, strict=False)
    """How many at most."""
    cursor: str | None = to("cursor", "cursor", "after", default=None)
    """`meta.end_cursor` of the page before."""


# ── written ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Subscription(Reply):
    """A subscription."""

    id: int = of("id")
    target_url: str = of("url")
    type: str = of("event")
    """The event type that was given as `subscription_type`."""
    company_id: Company | None = of("fields.company_id", None)
    name: str | None = of("name")
    challenge: str = of("secret")
    enabled: bool = of("active")
    """False as well when the last of 20 attempts has failed; `PUT {"enabled": true}` revives it."""
    api_version: str | None = of("fields.api_version", None)


class Meta(Reply):
    """Where in the list a page stands."""

    has_next_page: bool = of("has_more")
    has_previous_page: bool = of("has_fewer")
    end_cursor: str | None = of("next_cursor")
    """Null: this is the last page."""
    limit: int = of("limit")
    total: int = of("total")


class Subscriptions(Reply):
    """A page of subscriptions, the latest first."""

    data: list[Subscription] = of("items")
    meta: Meta = of("itself")


class SubscriptionError(Reply):
    """The forms of a refusal: what is wrong by field (422), or a text."""

    errors: dict[str, list[str]] | None = None
    error: str | None = None


def error_body(problem: Problem) -> dict[str, Any]:
    """`{"errors": {"field": ["text"]}}` for what is wrong with fields, else `{"error": "text"}`."""
    if problem.details:
        return {"errors": {name: [text] for name, text in problem.details.items()}}
    return {"error": problem.message}


# ── the contract ────────────────────────────────────────────────────────────────────────────────────────────────


def _operations(path: str, takes: type[Request], suffix: str, parameters: dict[str, str]) -> list[Operation[Any]]:
    """Both paths of the API have the same operations."""
    write, read = Scope.WEBHOOKS_WRITE, Scope.WEBHOOKS_READ
    return [
        Operation(
            "POST",
            path,
            verbs.create_webhook,
            name=f"createSubscription{suffix}",
            takes=takes,
            scope=write,
            answers=Subscription,
            status=201,
            idempotent_by_key=True,
            refusals=(LimitExceeded,),
            parameters=parameters,
        ),
        Operation(
            "GET",
            path,
            verbs.list_webhooks,
            name=f"listSubscriptions{suffix}",
            takes=SubscriptionQuery,
            scope=read,
            answers=Subscriptions,
            parameters=parameters,
        ),
        Operation(
            "GET",
            f"{path}/{{id}}",
            verbs.get_webhook,
            name=f"getSubscription{suffix}",
            takes=Nothing,
            scope=read,
            answers=Subscription,
            parameters=parameters,
        ),
        Operation(
            "PUT",
            f"{path}/{{id}}",
            verbs.change_webhook,
            name=f"updateSubscription{suffix}",
            takes=SubscriptionUpdate,
            scope=write,
            answers=Subscription,
            refusals=(LimitExceeded,),
            parameters=parameters,
        ),
        Operation(
            "DELETE",
            f"{path}/{{id}}",
            verbs.delete_webhook,
            name=f"deleteSubscription{suffix}",
            takes=Nothing,
            scope=write,
            answers=Subscription,
            parameters=parameters,
        ),
    ]


CONTRACT = Dialect(
    name="factorial",
    title="Factorial, by Hookline",
    about="The webhook subscriptions of Factorial, answered by Hookline. Unknown fields are ignored.",
    operations=(
        *_operations(_DATED, NewSubscription, "", {"version": _VERSION}),
        *_operations(_FIRST, FirstSubscription, "V1", {}),
    ),
    field_names={
        "url": "target_url",
        "eventPatterns": "subscription_type",
        "secret": "challenge",
        "customHeaders": "company_id",
        "first": "limit",
        "after": "cursor",
    },
    names_items=False,
    statuses={**STATUSES, MalformedJson: (400, "MALFORMED_JSON"), Internal: (500, "INTERNAL")},
    error=SubscriptionError,
    error_body=error_body,
    terms=Terms(
        ids=NUMBER,
        events=KNOWN,
        signatures=(SignatureDraft(SignatureScheme.STATIC_CHALLENGE, "x-factorial-wh-challenge"),),
        envelope=PayloadEnvelope.BARE_DATA,
        # Twenty attempts over 43 h, which the jitter of up to a tenth makes 48 at most.
        delivery=DeliveryDraft(
            max_attempts=20, retry_schedule_seconds=[60, 120, 300, 600, 900, 1800, 3600, *12 * [12_300]]
        ),
        headers={"x-factorial-author-type": "company", "x-factorial-author-id": "{company_id}"},
        secret_is_readable=True,
        unique_by=("event_patterns", "contract_fields.company_id"),
        disable_when_exhausted=True,
        old=OldSubscription,
        old_organization="fields.company_id",
    ),
)
