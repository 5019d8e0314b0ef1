"""The refusals that are expected. Each door maps them in one table; anything else that is raised is a bug.

Refusal
├── ValidationFailed      the input breaks rules; says which field and how
├── NotFound              no such thing in the caller's organization
├── Forbidden             the key lacks a scope
├── LimitExceeded         the organization has as many as it may
├── RateLimited           too many at once; says when to come back
├── RevisionConflict      somebody else wrote first; carries what stands now
├── IdempotencyConflict   the key was used for another request
├── RotationInProgress    the overlap of an earlier rotation is still open
├── WebhookNotEnabled     the webhook is paused or disabled
└── Unavailable           not now: see resolvers/availability.py
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from models.webhook import DisabledReason, Webhook, WebhookStatus


class FieldErrorCode(StrEnum):
    """What is wrong with a field. Stable: callers branch on it."""

    REQUIRED = "REQUIRED"
    INVALID_FORMAT = "INVALID_FORMAT"
    TOO_LONG = "TOO_LONG"
    TOO_SHORT = "TOO_SHORT"
    TOO_MANY = "TOO_MANY"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    DUPLICATE = "DUPLICATE"
    UNKNOWN_EVENT_TYPE = "UNKNOWN_EVENT_TYPE"
    UNSUPPORTED_VERSION = "UNSUPPORTED_VERSION"
    HTTPS_REQUIRED = "HTTPS_REQUIRED"
    ADDRESS_NOT_ALLOWED = "ADDRESS_NOT_ALLOWED"
    HEADER_NOT_ALLOWED = "HEADER_NOT_ALLOWED"
    WEAK_SECRET = "WEAK_SECRET"  # noqa: S105 — a code, not a secret
    SCHEMA_MISMATCH = "SCHEMA_MISMATCH"
    TOO_LARGE = "TOO_LARGE"


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One broken rule. `path` is in GraphQL's words below `input`, e.g. `("eventPatterns", "3")`."""

    path: tuple[str, ...]
    code: FieldErrorCode
    message: str

    def under(self, *parents: str) -> "FieldProblem":
        """The same problem, one level deeper."""
        return FieldProblem((*parents, *self.path), self.code, self.message)


class Refusal(Exception):
    """An expected refusal.

    `code` is stable; `message` is English, safe to show a developer, and never repeats a secret.
    """

    code = "REFUSED"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ValidationFailed(Refusal):
    """The input breaks rules. Nothing was changed."""

    code = "VALIDATION_FAILED"

    def __init__(self, fields: Iterable[FieldProblem]) -> None:
        self.fields: Sequence[FieldProblem] = tuple(fields)
        first = self.fields[0]
        more = f" (and {len(self.fields) - 1} more)" if len(self.fields) > 1 else ""
        super().__init__(f"{'.'.join(first.path)}: {first.message}{more}")

    @classmethod
    def of(cls, path: str | tuple[str, ...], code: FieldErrorCode, message: str) -> "ValidationFailed":
        """A refusal for one problem."""
        return cls([FieldProblem((path,) if isinstance(path, str) else path, code, message)])


class NotFound(Refusal):
    """No such thing in the caller's organization; whether it exists elsewhere is not told."""

    code = "NOT_FOUND"

    def __init__(self, id: str) -> None:
        super().__init__("there is nothing with this id in your organization")
        self.id = id


class Forbidden(Refusal):
    """The key lacks a scope."""

    code = "FORBIDDEN"

    def __init__(self, required_scopes: Sequence[str], message: str | None = None) -> None:
        super().__init__(message or f"this key lacks the scope {' and '.join(required_scopes)}")
        self.required_scopes = tuple(required_scopes)


class LimitExceeded(Refusal):
    """The organization has as many as it may."""

    code = "LIMIT_EXCEEDED"

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class RateLimited(Refusal):
    """Too many at once."""

    code = "RATE_LIMITED"

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class RevisionConflict(Refusal):
    """Somebody else wrote first."""

    code = "REVISION_CONFLICT"

    def __init__(self, current: Webhook) -> None:
        super().__init__(f"the webhook has been changed since: its revision is {current.revision} now")
        self.current = current


class IdempotencyConflict(Refusal):
    """The idempotency key was used for another request within its lifetime of 24 hours."""

    code = "IDEMPOTENCY_CONFLICT"

    def __init__(self) -> None:
        super().__init__("this idempotency key was used for a different request; use a new key for a new request")


class RotationInProgress(Refusal):
    """The overlap of an earlier rotation is still open."""

    code = "ROTATION_IN_PROGRESS"

    def __init__(self, previous_secret_expires_at: datetime) -> None:
        super().__init__(
            "an earlier rotation's overlap is still open; pass `force` to end it, or expire the previous secret first"
        )
        self.previous_secret_expires_at = previous_secret_expires_at


class WebhookNotEnabled(Refusal):
    """The webhook is paused or disabled."""

    code = "WEBHOOK_NOT_ENABLED"

    def __init__(self, status: WebhookStatus, disabled_reason: DisabledReason | None) -> None:
        super().__init__(f"the webhook is {status}; enable it first")
        self.status = status
        self.disabled_reason = disabled_reason


class Unavailable(Refusal):
    """Not now. Nothing is wrong with the request, which may be sent again, a change under its idempotency key."""

    code = "UNAVAILABLE"

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
