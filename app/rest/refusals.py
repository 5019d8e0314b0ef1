"""What the door itself refuses, and the one table that says which status and code each refusal gets.

Refusal (resolvers/errors.py)
├── …                        what resolvers refuse
├── MalformedJson            the body is not JSON
├── UnknownPath              nothing is served here
├── MethodNotAllowed         something is, but not with this method
├── PayloadTooLarge          the body is longer than the door reads
├── UnsupportedMediaType     the body says that it is not JSON
└── Internal                 a bug of ours, masked
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from app.authentication import Unauthenticated
from resolvers.errors import (
    Forbidden,
    IdempotencyConflict,
    LimitExceeded,
    NotFound,
    RateLimited,
    Refusal,
    RevisionConflict,
    RotationInProgress,
    Unavailable,
    ValidationFailed,
    WebhookNotEnabled,
)


class MalformedJson(Refusal):
    """The body is not JSON, or not JSON that can be kept: text that is not UTF-8, numbers beyond all bounds."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the body is not valid JSON: {why}")


class UnknownPath(Refusal):
    """Nothing is served at this path."""

    def __init__(self) -> None:
        super().__init__("there is nothing at this path; /openapi.json says what there is")


class MethodNotAllowed(Refusal):
    """The path is served, but not with this method."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self.allowed = ", ".join(sorted(allowed))
        super().__init__(f"this path takes {self.allowed}")


class PayloadTooLarge(Refusal):
    """The body is longer than the door reads."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the body must be at most {most} bytes")


class UnsupportedMediaType(Refusal):
    """The body's content type is not JSON."""

    def __init__(self) -> None:
        super().__init__("send the body as application/json")


class Internal(Refusal):
    """Something of ours went wrong; the log knows what, under the request's id."""

    def __init__(self) -> None:
        super().__init__("something went wrong on our side; tell us the request_id and we can find out what")


STATUSES: Mapping[type[Exception], tuple[int, str]] = MappingProxyType(
    {
        MalformedJson: (400, "MALFORMED_JSON"),
        Unauthenticated: (401, "UNAUTHORIZED"),
        Forbidden: (403, "FORBIDDEN"),
        NotFound: (404, "NOT_FOUND"),
        UnknownPath: (404, "NOT_FOUND"),
        MethodNotAllowed: (405, "METHOD_NOT_ALLOWED"),
        LimitExceeded: (409, "LIMIT_EXCEEDED"),
        IdempotencyConflict: (409, "IDEMPOTENCY_CONFLICT"),
        RevisionConflict: (409, "REVISION_CONFLICT"),
        RotationInProgress: (409, "ROTATION_IN_PROGRESS"),
        WebhookNotEnabled: (409, "WEBHOOK_NOT_ENABLED"),
        PayloadTooLarge: (413, "PAYLOAD_TOO_LARGE"),
        UnsupportedMediaType: (415, "UNSUPPORTED_MEDIA_TYPE"),
        ValidationFailed: (422, "VALIDATION_FAILED"),
        RateLimited: (429, "RATE_LIMITED"),
        Internal: (500, "INTERNAL"),
        Unavailable: (503, "UNAVAILABLE"),
    }
)
"""Every refusal's status and code, in the native form."""
