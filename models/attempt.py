"""An attempt: one HTTP request of a delivery, with what was sent and what came back."""

from enum import IntEnum

from tortoise import fields
from tortoise.models import Model

from models.moment import MomentField


class AttemptOutcome(IntEnum):
    """How one HTTP request ended. Stored as its number: never renumber."""

    SUCCESS = 1
    """The receiver answered 2xx."""
    HTTP_ERROR = 2
    """The receiver answered 4xx or 5xx."""
    REDIRECT_REFUSED = 3
    """The receiver answered 3xx; redirects are never followed."""
    TIMEOUT = 4
    """The webhook's timeout ran out, over connect, headers and body together."""
    CONNECTION_ERROR = 5
    """No connection, or it broke before the answer was complete."""
    TLS_ERROR = 6
    """The TLS handshake failed: wrong name, expired or untrusted certificate."""
    DNS_ERROR = 7
    """The host name did not resolve."""
    BLOCKED_ADDRESS = 8
    """The host is, or resolves to, an address that deliveries may not reach."""
    RESPONSE_TOO_LARGE = 9
    """The answer's headers were larger than we read."""
    PROTOCOL_ERROR = 10
    """What came back was not HTTP."""
    ABANDONED = 11
    """The worker died, or lost its lease, before the result was known. Not counted against `max_attempts`."""


class Attempt(Model):
    """One finished HTTP request. Written only by the ledger, in the transaction that settles its delivery."""

    id = fields.UUIDField(primary_key=True)
    organization_id = fields.UUIDField()
    delivery_id = fields.UUIDField()
    webhook_id = fields.UUIDField()
    number = fields.SmallIntField(description="1 for the first attempt of its delivery.")
    outcome = fields.IntEnumField(AttemptOutcome)
    error = fields.TextField(null=True, description="One line, safe to show.")
    started_at = MomentField()
    duration_us = fields.BigIntField(description="Microseconds from before the connect to the last byte read.")
    request_url = fields.TextField(null=True)
    request_headers = fields.TextField(null=True, description="JSON list of [name, value], custom values redacted.")
    request_bytes = fields.IntField(default=0)
    response_status = fields.SmallIntField(null=True)
    response_headers = fields.TextField(null=True, description="JSON list of [name, value].")
    response_excerpt = fields.BinaryField(null=True, description="The first 1024 bytes, as they came.")
    response_truncated = fields.BooleanField(default=False)

    class Meta:
        table = "attempt"
        indexes = (("delivery_id", "number"),)
