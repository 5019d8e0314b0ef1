"""What is read and what is written, as types. From these the bodies are parsed, and OpenAPI is made.

They say what a field *is*; what it may *hold* is checked by the resolvers, and only described here.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    RootModel,
    Tag,
    WithJsonSchema,
)
from pydantic.config import JsonDict

from models import webhook as rows
from models.attempt import AttemptOutcome
from models.event_pattern import MAX_LENGTH, NAME_FORM, PATTERN_FORM
from models.ids import Prefix, encode
from models.moment import rfc_3339
from models.webhook import WebhookStatus
from resolvers.events import Published
from resolvers.inputs import EventDraft, PatternsPatch, WebhookChange, WebhookDraft
from resolvers.validation import MAX_IDEMPOTENCY_KEY
from resolvers.webhooks import Created, Rotated, Tested

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")

_WEBHOOK_ID = "whk_01jx5s3k9pe8ratq6y2m4c7v0b"
_EVENT_ID = "evt_01jx5s4m2hf1vbxw8z3n5d6g7k"
_EXAMPLE: JsonDict = {
    "id": _WEBHOOK_ID,
    "org_id": "org_01jx5s2zqwe3sv5h7k9m1n3p5r",
    "url": "https://example.com/hooks",
    "events": ["order.created", "order.canceled"],
    "active": True,
    "description": "Orders, for the warehouse",
    "name": "Warehouse",
    "api_version": "2026-04-01",
    "created_at": "2026-04-26T12:00:00.000Z",
    "updated_at": "2026-04-26T12:00:00.000Z",
    "deleted_at": None,
}
_SECRET = "whsec_c2VjcmV0cyBhcmUgc2hvd24gb25jZSwgaGVyZSE="  # noqa: S105 — an example
_EVENT_EXAMPLE: JsonDict = {
    "id": _EVENT_ID,
    "type": "order.created",
    "occurred_at": "2026-04-26T12:00:00.000Z",
    "received_at": "2026-04-26T12:00:00.251Z",
    "matched_webhook_count": 2,
    "duplicate": False,
}


def _with(*examples: JsonDict) -> JsonDict:
    return {"examples": list(examples)}


def _read_moment(value: object) -> datetime:
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass  # the 30th of February, the year 0
    raise ValueError("must be a moment with its time zone, such as 2026-04-26T12:00:00Z")


Moment = Annotated[
    datetime,
    PlainValidator(_read_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""Read: RFC 3339, with a time zone."""

WrittenMoment = Annotated[
    datetime,
    PlainSerializer(rfc_3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""Written: RFC 3339 in UTC, to the millisecond."""


def _read_whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_read_whole)
"""After the bounds of an `int` that is read: JSON may also write 60 as 60.0."""

_NAMES: JsonDict = {"pattern": f"^({NAME_FORM})$", "maxLength": MAX_LENGTH}
_PATTERNS: JsonDict = {"pattern": f"^({PATTERN_FORM})$", "maxLength": MAX_LENGTH}

EventName = Annotated[str, Field(json_schema_extra=_NAMES)]
EventPattern = Annotated[str, Field(json_schema_extra=_PATTERNS)]
"""What both may hold is checked by the resolvers."""

IDEMPOTENCY_KEY: JsonDict = {"minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY, "pattern": "^[ -~]*$"}
"""As JSON Schema."""


class Request(BaseModel):
    """A body that is read. Types are taken at their word: `"1"` is no number. Unknown fields are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", use_attribute_docstrings=True)


class Reply(BaseModel):
    """A body that is written."""

    model_config = ConfigDict(use_attribute_docstrings=True)


def _described(**keywords: Any) -> Any:
    """A field that may be left out, with keywords for the documentation only."""
    return Field(default=None, json_schema_extra=keywords)


# ── webhooks, read ──────────────────────────────────────────────────────────────────────────────────────────────


class NewWebhook(Request):
    """A webhook to be created."""

    model_config = ConfigDict(
        json_schema_extra=_with({"url": "https://example.com/hooks", "events": ["order.created", "order.canceled"]})
    )

    url: str = Field(json_schema_extra={"format": "uri", "maxLength": 2048})
    """Where to deliver: an absolute https URL, without credentials or fragment."""
    events: list[EventPattern] = Field(json_schema_extra={"minItems": 1, "maxItems": 50, "uniqueItems": True})
    """Which events: an event type, `prefix.*`, or `*`. Once the organization's catalogue has types, only those."""
    description: str | None = _described(maxLength=200)
    """For people."""
    name: str | None = _described(maxLength=60)
    """For people, and short."""
    api_version: str | None = _described()
    """The version of the payload; the server's newest when left out."""
    secret: str | None = _described()
    """`whsec_` and the base64 of 24 to 64 bytes. Leave it out: the server makes a better one."""

    def to_draft(self, idempotency_key: str | None) -> WebhookDraft:
        return WebhookDraft(
            url=self.url,
            event_patterns=self.events,
            name=self.name,
            description=self.description,
            api_version=self.api_version,
            secret=self.secret,
            idempotency_key=idempotency_key,
        )


class WebhookPatch(Request):
    """What to change; what is left out stays."""

    model_config = ConfigDict(json_schema_extra=_with({"events": ["order.*"], "active": True}))

    url: str = _described(format="uri", maxLength=2048)
    """Where to deliver from now on."""
    events: list[EventPattern] = _described(minItems=1, maxItems=50, uniqueItems=True)
    """Replaces the whole set."""
    description: str | None = _described(maxLength=200)
    """Null, or nothing but white space, clears it."""
    name: str | None = _described(maxLength=60)
    """Null, or nothing but white space, clears it."""
    active: bool = _described()
    """False: from now on nothing is delivered or kept. True: deliver, also after Hookline turned it off by itself."""
    api_version: str = _described()
    """The version of the payload."""

    def to_change(self) -> WebhookChange:
        given = self.model_fields_set
        change = WebhookChange()
        if "url" in given:
            change.url = self.url
        if "events" in given:
            change.event_patterns = PatternsPatch(replace=self.events)
        if "description" in given:
            change.description = self.description
        if "name" in given:
            change.name = self.name
        if "active" in given:
            change.status = WebhookStatus.ENABLED if self.active else WebhookStatus.DISABLED
        if "api_version" in given:
            change.api_version = self.api_version
        return change


class SecretRotation(Request):
    """How to rotate; an empty body rotates with the defaults."""

    model_config = ConfigDict(json_schema_extra=_with({}, {"overlap_seconds": 0}))

    overlap_seconds: Annotated[int, WHOLE] = Field(default=86400, json_schema_extra={"minimum": 0, "maximum": 604800})
    """How long the old secret signs beside the new one, in seconds. 0: it has leaked, cut now. At most 7 days."""
    force: bool = False
    """Rotate though an earlier overlap is still open, ending it."""
    secret: str | None = _described()
    """`whsec_` and the base64 of 24 to 64 bytes. Leave it out: the server makes a better one."""


class WebhookTrial(Request):
    """What to send; an empty body sends `webhook.test`."""

    model_config = ConfigDict(json_schema_extra=_with({}, {"event_type": "order.created", "data": {"id": 1}}))

    event_type: EventName | None = None
    """The type of the event that is sent; it need not be one the webhook wants."""
    data: Any = None
    """The data of the event that is sent: any JSON value."""


class WebhookQuery(BaseModel):
    """Which part of the list."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    limit: int = Field(default=50, ge=1, le=100)
    """How many at most."""
    cursor: str | None = None
    """`meta.next_cursor` of the page before."""


# ── webhooks, written ───────────────────────────────────────────────────────────────────────────────────────────


class Webhook(Reply):
    """A registered address and what it wants."""

    model_config = ConfigDict(json_schema_extra=_with(_EXAMPLE))

    id: str
    """`whk_` and 26 characters."""
    org_id: str
    """The organization it belongs to: `org_` and 26 characters."""
    url: str
    """Where it delivers."""
    events: list[str]
    """What it wants: event types, `prefix.*`, or `*`."""
    active: bool
    """Whether deliveries are made. False: somebody turned it off or paused it, or its receiver failed for days."""
    description: str | None
    """For people."""
    name: str | None
    """For people, and short."""
    api_version: str
    """The version of the payload."""
    created_at: WrittenMoment
    """When it was created."""
    updated_at: WrittenMoment
    """When it was last changed."""
    deleted_at: WrittenMoment | None
    """Always null here: a deleted webhook is not found."""

    @classmethod
    def of(cls, row: rows.Webhook) -> "Webhook":
        return cls(**_shown(row))


def _shown(row: rows.Webhook) -> dict[str, Any]:
    return {
        "id": encode(Prefix.WEBHOOK, row.id),
        "org_id": encode(Prefix.ORGANIZATION, row.organization_id),
        "url": row.url,
        "events": row.event_patterns,
        "active": row.status == WebhookStatus.ENABLED,
        "description": row.description,
        "name": row.name,
        "api_version": row.api_version,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "deleted_at": row.deleted_at,
    }


class CreatedWebhook(Webhook):
    """A webhook with its secret, the only time that it can be read."""

    model_config = ConfigDict(
        json_schema_extra=_with(
            _EXAMPLE | {"secret": _SECRET, "secret_displayed_once": True},
            _EXAMPLE | {"secret": None, "secret_displayed_once": False},
        )
    )

    secret: str | None
    """The key that signs its deliveries. Null when the request repeats an earlier one under its Idempotency-Key."""
    secret_displayed_once: bool
    """True when `secret` is here, now and never again."""

    @classmethod
    def created(cls, created: Created) -> "CreatedWebhook":
        return cls(**_shown(created.webhook), secret=created.secret, secret_displayed_once=created.secret is not None)


class RotatedWebhook(Webhook):
    """A webhook with its new secret, the only time that it can be read."""

    model_config = ConfigDict(
        json_schema_extra=_with(
            _EXAMPLE
            | {
                "secret": _SECRET,
                "secret_displayed_once": True,
                "previous_secret_expires_at": "2026-04-27T12:00:00.000Z",
            }
        )
    )

    secret: str
    """The new key that signs its deliveries."""
    secret_displayed_once: Literal[True]
    """`secret` is here now and never again."""
    previous_secret_expires_at: WrittenMoment | None
    """Until when deliveries carry two signatures. Null: the old secret is gone already."""

    @classmethod
    def rotated(cls, rotated: Rotated) -> "RotatedWebhook":
        return cls(
            **_shown(rotated.webhook),
            secret=rotated.secret,
            secret_displayed_once=True,
            previous_secret_expires_at=rotated.previous_secret_expires_at,
        )


class PageMeta(Reply):
    """Where in the list a page stands."""

    total: int
    """How many there are on all pages together."""
    limit: int
    """How many a page holds at most."""
    next_cursor: str | None
    """Send it back as `cursor` for the next page. Null: this is the last one."""


class WebhookList(Reply):
    """A page of webhooks, newest first. Never with secrets."""

    model_config = ConfigDict(
        json_schema_extra=_with(
            {"success": True, "data": [_EXAMPLE], "meta": {"total": 1, "limit": 50, "next_cursor": None}}
        )
    )

    success: Literal[True]
    data: list[Webhook]
    meta: PageMeta


class WebhookTrialResult(Reply):
    """How the receiver took it."""

    model_config = ConfigDict(
        json_schema_extra=_with(
            {
                "delivery_id": "dlv_01jx5s4m2hf1vbxw8z3n5d6g7k",
                "event_id": _EVENT_ID,
                "outcome": "SUCCESS",
                "url": "https://example.com/hooks",
                "response_status": 204,
                "response_time_ms": 38.214,
                "response_body_excerpt": "",
                "error": None,
            }
        )
    )

    delivery_id: str
    event_id: str
    outcome: Annotated[str, WithJsonSchema({"type": "string", "enum": [outcome.name for outcome in AttemptOutcome]})]
    """How the request ended."""
    url: str | None
    """Where it was sent."""
    response_status: int | None
    """Null when nothing was answered."""
    response_time_ms: float
    """From before the connect to the last byte read, in milliseconds."""
    response_body_excerpt: str | None
    """The first 1024 bytes of the answer. Null when nothing was answered."""
    error: str | None
    """One line on what went wrong. Null when nothing did."""

    @classmethod
    def of(cls, tested: Tested) -> "WebhookTrialResult":
        delivery, attempt = tested.delivery, tested.attempt
        excerpt = attempt.response_excerpt
        return cls(
            delivery_id=encode(Prefix.DELIVERY, delivery.id),
            event_id=encode(Prefix.EVENT, delivery.event_id),
            outcome=attempt.outcome.name,
            url=attempt.request_url,
            response_status=attempt.response_status,
            response_time_ms=attempt.duration_us / 1000,
            response_body_excerpt=None if excerpt is None else bytes(excerpt).decode(errors="replace"),
            error=attempt.error,
        )


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────────────


class NewEvent(Request):
    """An event to be published."""

    model_config = ConfigDict(json_schema_extra=_with({"type": "order.created", "data": {"order_id": 4711}}))

    type: EventName
    """What happened, in words of your own: `order.created`."""
    data: Any
    """Any JSON value, sent on as it is."""
    occurred_at: Moment | None = None
    """When it happened; now, when left out."""
    idempotency_key: str | None = _described(**IDEMPOTENCY_KEY)
    """Your own key; the same one within 24 hours is the same event. Comes before the header Idempotency-Key."""

    def to_draft(self, idempotency_key: str | None) -> EventDraft:
        return EventDraft(
            type=self.type,
            data=self.data,
            occurred_at=self.occurred_at,
            idempotency_key=self.idempotency_key if self.idempotency_key is not None else idempotency_key,
        )


_MANY: JsonDict = {"minItems": 1, "maxItems": 1000}


class EventBatch(Request):
    """Up to 1000 events, of which all are published, or none."""

    events: list[NewEvent] = Field(json_schema_extra=_MANY)


def _shape_of(value: object) -> str | None:
    if isinstance(value, list):
        return "<list>"
    if isinstance(value, dict):
        return "<batch>" if "events" in value and "type" not in value else "<event>"
    return None


def _any_of(schema: JsonDict) -> None:
    schema["anyOf"] = schema.pop("oneOf")


class Publication(
    RootModel[
        Annotated[
            Annotated[NewEvent, Tag("<event>")]
            | Annotated[list[NewEvent], Field(json_schema_extra=_MANY), Tag("<list>")]
            | Annotated[EventBatch, Tag("<batch>")],
            Discriminator(
                _shape_of,
                custom_error_type="publication_type",
                custom_error_message="must be an event, a list of events, or an object with a list of events",
            ),
        ]
    ]
):
    """One event, or up to 1000, of which all are published, or none."""

    model_config = ConfigDict(json_schema_extra=_any_of)

    @property
    def one(self) -> NewEvent | None:
        """The event, when it came alone."""
        return self.root if isinstance(self.root, NewEvent) else None

    @property
    def many(self) -> Sequence[NewEvent]:
        """The events, when they came as a list."""
        if isinstance(self.root, NewEvent):
            return [self.root]
        return self.root.events if isinstance(self.root, EventBatch) else self.root

    @property
    def path(self) -> tuple[str, ...]:
        """Where in the body the list is."""
        return ("events",) if isinstance(self.root, EventBatch) else ()


class PublishedEvent(Reply):
    """An event, stored, with its deliveries on their way."""

    model_config = ConfigDict(json_schema_extra=_with(_EVENT_EXAMPLE))

    id: str
    """`evt_` and 26 characters; the `webhook-id` of its deliveries."""
    type: str
    occurred_at: WrittenMoment
    received_at: WrittenMoment
    matched_webhook_count: int
    """How many webhooks wanted it."""
    duplicate: bool
    """True when the idempotency key had been seen: this is the event of then, and nothing was sent again."""

    @classmethod
    def of(cls, published: Published) -> "PublishedEvent":
        event = published.event
        return cls(
            id=encode(Prefix.EVENT, event.id),
            type=event.type,
            occurred_at=event.occurred_at,
            received_at=event.received_at,
            matched_webhook_count=published.matched_webhook_count,
            duplicate=published.duplicate,
        )


class PublishedEvents(Reply):
    """The events of a list, in its order."""

    model_config = ConfigDict(json_schema_extra=_with({"success": True, "data": [_EVENT_EXAMPLE]}))

    success: Literal[True]
    data: list[PublishedEvent]


class PublicationReply(RootModel[PublishedEvent | PublishedEvents]):
    """As asked: one event, or a list of them."""


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────────────────


class ErrorBody(Reply):
    """What was refused, and why."""

    code: str
    """Stable. Branch on this."""
    message: str
    """English, safe to show a developer. Never branch on this."""
    request_id: str
    """The answer's X-Request-Id."""
    details: Annotated[
        dict[str, str] | None, WithJsonSchema({"type": "object", "additionalProperties": {"type": "string"}})
    ] = None
    """What is wrong, by field: `url`, `events.3`. Only with VALIDATION_FAILED."""


class Error(Reply):
    """The form of every refusal."""

    success: Literal[False]
    error: ErrorBody
