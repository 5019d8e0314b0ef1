"""The enums that are stored, as GraphQL shows them: by name, with a description for each."""

from enum import Enum
from typing import TypeVar

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

from models.attempt import AttemptOutcome
from models.delivery import DeliveryStatus, DeliveryTrigger
from models.replay import ReplayStatus
from models.webhook import DisabledReason, PayloadEnvelope, SignatureScheme, WebhookStatus
from resolvers.errors import FieldErrorCode

E = TypeVar("E", bound=Enum)


def shown(enum: type[E], description: str, values: dict[E, str]) -> None:
    """Makes a stored enum a GraphQL enum. Each member must be described."""
    strawberry.enum(enum, description=description)
    definition: StrawberryEnumDefinition = enum.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        value.description = values[enum[value.name]]


shown(
    WebhookStatus,
    "What becomes of a webhook's deliveries.",
    {
        WebhookStatus.ENABLED: "Deliveries are made.",
        WebhookStatus.PAUSED: "Deliveries are kept, and made when it is enabled again.",
        WebhookStatus.DISABLED: "Nothing is kept; what it missed can be replayed.",
    },
)
shown(
    DisabledReason,
    "Why a webhook is DISABLED.",
    {
        DisabledReason.MANUAL: "Somebody turned it off.",
        DisabledReason.CONSECUTIVE_FAILURES: "Only failures for longer than the server allows, 5 days by default.",
        DisabledReason.GONE: "The receiver answered 410 Gone.",
        DisabledReason.VERIFICATION_FAILED: "The receiver did not prove that it wants these deliveries.",
    },
)
shown(
    SignatureScheme,
    "How a request is signed. `t` is the Unix time in seconds, of the attempt.",
    {
        SignatureScheme.STANDARD_WEBHOOKS: (
            "Standard Webhooks 1.0: headers `webhook-id`, `webhook-timestamp` and `webhook-signature: v1,<base64>`, "
            "the HMAC-SHA256 of `id.timestamp.body`, keyed with the bytes that the secret's base64 stands for."
        ),
        SignatureScheme.STANDARD_WEBHOOKS_ED25519: (
            "Standard Webhooks 1.0, asymmetric: the same headers with `v1a,<base64>`, an ed25519 signature which "
            "`SigningInfo.publicKey` verifies."
        ),
        SignatureScheme.TIMESTAMPED_HEX: (
            "`t=<t>,v1=<hex>`, the HMAC-SHA256 of `<t>.<body>`, keyed with the secret's text as it stands."
        ),
        SignatureScheme.TIMESTAMPED_HEX_NEWLINE: (
            "`t=<t>,v1=<hex>`, the HMAC-SHA256 of `<t>`, a newline and the body, keyed with the secret's text."
        ),
        SignatureScheme.PREFIXED_HEX: (
            "`sha256=<hex>`, the HMAC-SHA256 of the body alone, keyed with the secret's text. An old request can be "
            "played again: prefer a scheme with a timestamp."
        ),
        SignatureScheme.STATIC_CHALLENGE: "The secret itself in a header, no digest. For old receivers only.",
    },
)
shown(
    PayloadEnvelope,
    "What is wrapped round an event's data in the body of a request.",
    {
        PayloadEnvelope.STANDARD: '`{"type": …, "timestamp": …, "data": …}`, as Standard Webhooks 1.0 has it.',
        PayloadEnvelope.BARE_DATA: "The data alone.",
        PayloadEnvelope.TYPE_OBJECT: '`{"type": …, "object": …}`, with the data as `object`.',
    },
)
shown(
    DeliveryStatus,
    "Where a delivery stands.",
    {
        DeliveryStatus.PENDING: "It waits for its first attempt.",
        DeliveryStatus.SENDING: "An attempt is under way.",
        DeliveryStatus.RETRYING: "It failed at least once and waits for `nextAttemptAt`.",
        DeliveryStatus.SUCCEEDED: "The receiver answered 2xx. Final.",
        DeliveryStatus.DEAD_LETTERED: "Given up: no attempts are left, or the receiver is gone. Can be replayed.",
        DeliveryStatus.CANCELED: "Its webhook was deleted or disabled before it was delivered. Final.",
    },
)
shown(
    DeliveryTrigger,
    "Why a delivery was made.",
    {
        DeliveryTrigger.EVENT: "The event was published.",
        DeliveryTrigger.TEST: "Somebody called `testWebhook`. Counted in no statistics.",
        DeliveryTrigger.REPLAY: "Somebody asked for it again.",
    },
)
shown(
    ReplayStatus,
    "Where a replay stands.",
    {
        ReplayStatus.QUEUED: "It waits for a worker, or is being counted.",
        ReplayStatus.RUNNING: "Its deliveries are made, or have yet to end. It rests while the webhook is PAUSED.",
        ReplayStatus.COMPLETED: "All that was selected was made, and has ended. Final.",
        ReplayStatus.CANCELED: "Somebody canceled it, or the webhook was disabled or deleted. Final.",
    },
)
shown(
    AttemptOutcome,
    "How one HTTP request ended.",
    {
        AttemptOutcome.SUCCESS: "The receiver answered 2xx.",
        AttemptOutcome.HTTP_ERROR: "The receiver answered 4xx or 5xx.",
        AttemptOutcome.REDIRECT_REFUSED: "The receiver answered 3xx; redirects are never followed.",
        AttemptOutcome.TIMEOUT: "The webhook's timeout ran out, over connect, headers and body together.",
        AttemptOutcome.CONNECTION_ERROR: "No connection came about, or it broke before the answer was complete.",
        AttemptOutcome.TLS_ERROR: "The TLS handshake failed: wrong name, or an expired or untrusted certificate.",
        AttemptOutcome.DNS_ERROR: "The host name did not resolve.",
        AttemptOutcome.BLOCKED_ADDRESS: "The host is, or resolves to, an address that deliveries may not reach.",
        AttemptOutcome.RESPONSE_TOO_LARGE: "The answer's headers were larger than is read.",
        AttemptOutcome.PROTOCOL_ERROR: "What came back was not HTTP.",
        AttemptOutcome.ABANDONED: "Cut off by a fault on our side before the result was known; not counted as a try.",
    },
)
shown(
    FieldErrorCode,
    "What is wrong with a field.",
    {
        FieldErrorCode.REQUIRED: "It must be given, and cannot be null or empty.",
        FieldErrorCode.INVALID_FORMAT: "It is not of the form that is asked for.",
        FieldErrorCode.TOO_LONG: "The text is too long.",
        FieldErrorCode.TOO_SHORT: "The text or list is too short.",
        FieldErrorCode.TOO_MANY: "The list has too many items.",
        FieldErrorCode.OUT_OF_RANGE: "The number or moment is too small or too large.",
        FieldErrorCode.DUPLICATE: "It stands there twice, or is taken.",
        FieldErrorCode.UNKNOWN_EVENT_TYPE: "The catalogue has no such event type; see `Query.eventTypes`.",
        FieldErrorCode.UNSUPPORTED_VERSION: "The server does not speak this version.",
        FieldErrorCode.HTTPS_REQUIRED: "The URL must begin with `https://`.",
        FieldErrorCode.ADDRESS_NOT_ALLOWED: "The host is, or resolves to, an address that deliveries may not reach.",
        FieldErrorCode.HEADER_NOT_ALLOWED: "HTTP or the signature owns this header.",
        FieldErrorCode.WEAK_SECRET: "The secret is too easy to guess.",
        FieldErrorCode.SCHEMA_MISMATCH: "The data does not match the event type's JSON Schema.",
        FieldErrorCode.TOO_LARGE: "It is too many bytes.",
    },
)

__all__ = [
    "AttemptOutcome",
    "DeliveryStatus",
    "DeliveryTrigger",
    "DisabledReason",
    "FieldErrorCode",
    "PayloadEnvelope",
    "ReplayStatus",
    "SignatureScheme",
    "WebhookStatus",
]
