"""What callers hand in, as plain data, whichever door it came through. Rules are checked by the resolvers."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from models.attempt import AttemptOutcome
from models.delivery import DeliveryStatus, DeliveryTrigger
from models.webhook import PayloadEnvelope, SignatureScheme, WebhookStatus
from resolvers.unset import UNSET, Unset


@dataclass(slots=True)
class SignatureDraft:
    """One signature put on every request. Without a header name, the scheme's own."""

    scheme: SignatureScheme
    header_name: str | None = None


@dataclass(slots=True)
class DeliveryDraft:
    """How to deliver; what is None keeps what stands (on create: the default)."""

    timeout_seconds: float | None = None
    max_attempts: int | None = None
    retry_schedule_seconds: list[int] | None = None
    max_per_second: int | Unset | None = UNSET


@dataclass(slots=True)
class WebhookDraft:
    """A webhook to be created."""

    url: str
    event_patterns: list[str]
    name: str | None = None
    description: str | None = None
    api_version: str | None = None
    envelope: PayloadEnvelope | None = None
    delivery: DeliveryDraft = field(default_factory=DeliveryDraft)
    signatures: list[SignatureDraft] | None = None
    secret: str | None = None
    custom_headers: list[tuple[str, str]] | None = None
    metadata: Any = None
    status: WebhookStatus = WebhookStatus.ENABLED
    idempotency_key: str | None = None


@dataclass(slots=True)
class PatternsPatch:
    """Exactly one of the three."""

    replace: list[str] | None = None
    add: list[str] | None = None
    remove: list[str] | None = None


@dataclass(slots=True)
class WebhookChange:
    """What to change. UNSET keeps; None clears, where the field can be empty."""

    url: str | Unset = UNSET
    event_patterns: PatternsPatch | Unset = UNSET
    name: str | Unset | None = UNSET
    description: str | Unset | None = UNSET
    api_version: str | Unset = UNSET
    envelope: PayloadEnvelope | Unset = UNSET
    delivery: DeliveryDraft | Unset = UNSET
    signatures: list[SignatureDraft] | Unset = UNSET
    custom_headers: list[tuple[str, str]] | Unset = UNSET
    metadata: Any = UNSET
    status: WebhookStatus | Unset = UNSET


@dataclass(slots=True)
class WebhookFilter:
    """All that is given must hold."""

    status: list[WebhookStatus] | None = None
    matches_event_type: str | None = None
    name_contains: str | None = None
    url_contains: str | None = None
    failing: bool | None = None
    """Its last finished delivery failed (True), or did not (False)."""


@dataclass(slots=True)
class MomentRange:
    """From `since`, included, to `until`, excluded."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(slots=True)
class DeliveryFilter:
    """All that is given must hold. `outcome` and the status codes are those of the last attempt."""

    status: list[DeliveryStatus] | None = None
    event_types: list[str] | None = None
    outcome: list[AttemptOutcome] | None = None
    status_code_gte: int | None = None
    status_code_lte: int | None = None
    created: MomentRange = field(default_factory=MomentRange)
    trigger: list[DeliveryTrigger] | None = None


@dataclass(slots=True)
class EventDraft:
    """An event to be published. `data` is any JSON value."""

    type: str
    data: Any
    occurred_at: datetime | None = None
    idempotency_key: str | None = None


@dataclass(slots=True)
class EventTypeDraft:
    """An entry of the catalogue, written whole."""

    name: str
    description: str | None = None
    deprecation_reason: str | None = None
    json_schema: Any = None
    example: Any = None
