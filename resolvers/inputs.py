"""What callers hand in, as plain data, whichever door it came through. Rules are checked by the resolvers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
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


class ContractId(StrEnum):
    """An id that a contract's callers know a webhook by and that is not ours in another spelling."""

    NUMBER = "NUMBER"
    """1, 2, 3 … within the organization, never given twice."""
    OBJECT_ID = "OBJECT_ID"
    """24 hexadecimal digits, of which the first eight are the second of its making."""


@dataclass(slots=True)
class ContractDraft:
    """What a contract says of a webhook that is made through it. Its door has checked the event types."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    """What only this contract knows and shows again."""
    id_kind: ContractId | None = None
    """Gives it an id of this kind, unless `id` brings one."""
    id: str | int | None = None
    """The id that its callers know already; an integer is a NUMBER."""
    unique_by: tuple[str, ...] = ()
    """Of one contract and organization, no two webhooks agree in all of these columns (`contract_fields.x`, too)."""
    created_at: datetime | None = None
    """Since when its callers know it, where that is not now."""
    secret_created_at: datetime | None = None
    """Since when it has its secret, where that is another moment."""
    secret_prefix: str = "whsec_"  # noqa: S105 — the public beginning of a secret
    """What a secret made here begins with."""
    disable_when_exhausted: bool = False


@dataclass(slots=True)
class ContractChange:
    """What a contract changes besides what every webhook has."""

    fields: dict[str, Any] = field(default_factory=dict)
    """What is named is replaced; `+name` adds to a list, `-name` takes from it."""
    secret: str | None = None
    """Signs from now on; the former one is gone at once."""
    unique_by: tuple[str, ...] = ()


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
    contract: ContractDraft | None = None


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
    contract: ContractChange | None = None


@dataclass(slots=True)
class WebhookFilter:
    """All that is given must hold."""

    status: list[WebhookStatus] | None = None
    matches_event_type: str | None = None
    name_contains: str | None = None
    url_contains: str | None = None
    failing: bool | None = None
    """Its last finished delivery failed (True), or did not (False)."""
    contract: str | None = None
    """The contract it was made through."""


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
class ReplayDraft:
    """What to make again: exactly one of the four."""

    delivery_ids: Sequence[str] | None = None
    event_ids: Sequence[str] | None = None
    failed: MomentRange | None = None
    missing: MomentRange | None = None


@dataclass(slots=True)
class EventTypeDraft:
    """An entry of the catalogue, written whole."""

    name: str
    description: str | None = None
    deprecation_reason: str | None = None
    json_schema: Any = None
    example: Any = None
