"""A webhook: a registered address and what it wants."""

from enum import StrEnum
from typing import Any

from tortoise import fields
from tortoise.models import Model

from models.moment import MomentField


class WebhookStatus(StrEnum):
    """What becomes of a webhook's deliveries."""

    ENABLED = "ENABLED"
    """Deliveries are made."""
    PAUSED = "PAUSED"
    """Deliveries are kept, and made when it is enabled again."""
    DISABLED = "DISABLED"
    """Nothing is kept; what it missed can be replayed."""


class DisabledReason(StrEnum):
    """Why a webhook is DISABLED."""

    MANUAL = "MANUAL"
    """Somebody turned it off."""
    CONSECUTIVE_FAILURES = "CONSECUTIVE_FAILURES"
    """Nothing but failures for longer than the server allows (5 days by default), or, where its contract says so, a
    delivery that failed for the last time."""
    GONE = "GONE"
    """The receiver answered 410 Gone."""
    VERIFICATION_FAILED = "VERIFICATION_FAILED"
    """The receiver did not prove that it wants these deliveries."""


class SignatureScheme(StrEnum):
    """How a request is signed."""

    STANDARD_WEBHOOKS = "STANDARD_WEBHOOKS"
    """Standard Webhooks 1.0: `webhook-signature: v1,<base64 HMAC-SHA256 over id.timestamp.body>`."""
    STANDARD_WEBHOOKS_ED25519 = "STANDARD_WEBHOOKS_ED25519"
    """Standard Webhooks 1.0, asymmetric: `webhook-signature: v1a,<base64 ed25519>`."""
    TIMESTAMPED_HEX = "TIMESTAMPED_HEX"
    """`t=<unix>,v1=<hex>` over `<t>.<body>`, keyed with the secret's text as it stands."""
    TIMESTAMPED_HEX_NEWLINE = "TIMESTAMPED_HEX_NEWLINE"
    """`t=<unix>,v1=<hex>` over `<t>\\n<body>`."""
    PREFIXED_HEX = "PREFIXED_HEX"
    """`sha256=<hex>` over the body."""
    STATIC_CHALLENGE = "STATIC_CHALLENGE"
    """The secret itself in a header, no digest. Old receivers only."""


class PayloadEnvelope(StrEnum):
    """What is wrapped round an event's data."""

    STANDARD = "STANDARD"
    """`{type, timestamp, data}` (Standard Webhooks 1.0)."""
    BARE_DATA = "BARE_DATA"
    """The data alone."""
    TYPE_OBJECT = "TYPE_OBJECT"
    """`{type, object}`."""


class Webhook(Model):
    """A registered address. Deleted ones stay as rows, without secrets, so that old deliveries keep their place."""

    id = fields.UUIDField(primary_key=True)
    organization_id = fields.UUIDField()
    url = fields.TextField()
    name = fields.CharField(max_length=60, null=True)
    description = fields.CharField(max_length=200, null=True)
    event_patterns: list[str] = fields.JSONField()
    api_version = fields.CharField(max_length=20)
    envelope = fields.CharEnumField(PayloadEnvelope, default=PayloadEnvelope.STANDARD, max_length=20)
    signature_profiles: list[dict[str, str]] = fields.JSONField()
    timeout_ms = fields.IntField(description="Over connect, headers and body together.")
    max_attempts = fields.SmallIntField()
    retry_schedule: list[int] = fields.JSONField(description="Seconds before attempt 2, 3, …, before jitter.")
    max_per_second = fields.IntField(null=True)
    custom_headers = fields.BinaryField(null=True, description="Sealed JSON list of [name, value].")
    custom_header_names: list[str] = fields.JSONField(default=list)
    metadata: Any = fields.JSONField(null=True)
    status = fields.CharEnumField(WebhookStatus, default=WebhookStatus.ENABLED, max_length=10)
    disabled_reason = fields.CharEnumField(DisabledReason, null=True, max_length=24)
    disabled_at = MomentField(null=True)
    secret = fields.BinaryField(null=True, description="Sealed. Null once deleted.")
    secret_hint = fields.CharField(max_length=4, description="The secret's last four characters.")
    secret_created_at = MomentField()
    previous_secret = fields.BinaryField(null=True, description="Sealed, signs beside the new one.")
    previous_secret_expires_at = MomentField(null=True)
    revision = fields.IntField(default=1)
    created_at = MomentField()
    updated_at = MomentField()
    deleted_at = MomentField(null=True)
    contract = fields.CharField(max_length=20, default="native", description="The REST dialect it was made through.")
    contract_id = fields.CharField(
        max_length=64, null=True, description="Its id in that dialect, where that is not made from ours."
    )
    number = fields.BigIntField(null=True, description="Its number within the organization, for ids that are integers.")
    contract_fields: Any = fields.JSONField(null=True, description="What only that dialect knows and shows again.")
    disable_when_exhausted = fields.BooleanField(
        default=False, description="Turn it off when a delivery has failed for the last time."
    )

    class Meta:
        table = "webhook"
        indexes = (("organization_id", "id"),)


class WebhookHealth(Model):
    """How a webhook has been doing. Apart from the webhook, because each settled batch writes it."""

    webhook_id = fields.UUIDField(primary_key=True)
    consecutive_failures = fields.IntField(default=0, description="Failed attempts since the last success.")
    failing_since = MomentField(null=True, description="The first failure since the last success.")
    last_success_at = MomentField(null=True)
    last_failure_at = MomentField(null=True)
    last_delivery_failed = fields.BooleanField(default=False, description="Its last finished delivery failed.")

    class Meta:
        table = "webhook_health"
