"""What goes wrong, as callers see it.

An expected refusal becomes a member of the mutation's union, by the one table below; from a plain field it becomes an
error with a code. Anything else is a bug: it is logged once, and the caller is told its request id and nothing more.
"""

import logging
import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry
from graphql import GraphQLError, GraphQLSyntaxError
from strawberry.types.execution import ExecutionContext

from models.webhook import Webhook as WebhookRow
from resolvers import errors
from resolvers.availability import unavailable
from schema.enums import DisabledReason, FieldErrorCode, WebhookStatus
from schema.fields import field

if TYPE_CHECKING:
    from schema.webhook import Webhook

log = logging.getLogger("hookline.graphql")


@strawberry.interface(
    description=(
        "Every member of a result union that is not its success. Select `... on UserError { code message }` and you "
        "also catch the members that are added later."
    )
)
class UserError:
    code: str = strawberry.field(description="Stable, documented, in SCREAMING_SNAKE. Branch on this.")
    message: str = strawberry.field(description="English, safe to show a developer. Never branch on this.")

    @classmethod
    def of(cls, refusal: Any) -> "UserError":
        """The member that tells of a refusal."""
        return cls(code=refusal.code, message=refusal.message)


@strawberry.type(description="One broken rule.")
class FieldError:
    path: list[str] = strawberry.field(description='Where in the arguments, e.g. `["input", "eventPatterns", "3"]`.')
    code: FieldErrorCode = strawberry.field(description="Which rule. Branch on this.")
    message: str = strawberry.field(description="What is wrong, in English.")


@strawberry.type(description="The input breaks rules. Nothing was changed. `code` is VALIDATION_FAILED.")
class ValidationFailed(UserError):
    fields: list[FieldError] = strawberry.field(description="Every broken rule that was found, at least one.")

    @classmethod
    def of(cls, refusal: errors.ValidationFailed) -> "ValidationFailed":
        problems = [problem.under("input") for problem in refusal.fields]
        fields = [FieldError(path=list(each.path), code=each.code, message=each.message) for each in problems]
        return cls(code=refusal.code, message=refusal.message, fields=fields)


@strawberry.type(
    description=(
        "Your organization has nothing with this id. Whether another one has is not told. `code` is NOT_FOUND."
    )
)
class NotFound(UserError):
    id: strawberry.ID = strawberry.field(description="The id that was asked for.")

    @classmethod
    def of(cls, refusal: errors.NotFound) -> "NotFound":
        return cls(code=refusal.code, message=refusal.message, id=strawberry.ID(refusal.id))


@strawberry.type(description="The API key lacks a scope. Nothing was changed. `code` is FORBIDDEN.")
class Forbidden(UserError):
    required_scopes: list[str] = strawberry.field(description="The scopes that are missing.")

    @classmethod
    def of(cls, refusal: errors.Forbidden) -> "Forbidden":
        return cls(code=refusal.code, message=refusal.message, required_scopes=list(refusal.required_scopes))


@strawberry.type(description="The organization has as many as it may. Nothing was changed. `code` is LIMIT_EXCEEDED.")
class LimitExceeded(UserError):
    limit: int = strawberry.field(description="How many it may have; see `Organization.limits`.")

    @classmethod
    def of(cls, refusal: errors.LimitExceeded) -> "LimitExceeded":
        return cls(code=refusal.code, message=refusal.message, limit=refusal.limit)


@strawberry.type(description="Too many at once. Nothing was changed. `code` is RATE_LIMITED.")
class RateLimited(UserError):
    retry_after_seconds: float = strawberry.field(description="How long to wait before asking again.")

    @classmethod
    def of(cls, refusal: errors.RateLimited) -> "RateLimited":
        return cls(code=refusal.code, message=refusal.message, retry_after_seconds=refusal.retry_after_seconds)


@strawberry.type(description="Somebody else wrote since you read. Nothing was changed. `code` is REVISION_CONFLICT.")
class RevisionConflict(UserError):
    row: strawberry.Private[WebhookRow]

    @field(description="The webhook as it stands: merge your change into it, and send its `revision`.")
    def current(self) -> Annotated["Webhook", strawberry.lazy("schema.webhook")]:
        from schema.webhook import Webhook  # which stands on this module

        return Webhook.of(self.row)

    @classmethod
    def of(cls, refusal: errors.RevisionConflict) -> "RevisionConflict":
        return cls(code=refusal.code, message=refusal.message, row=refusal.current)


@strawberry.type(
    description=(
        "The idempotency key was used for another request in the last 24 hours. Nothing was changed. "
        "`code` is IDEMPOTENCY_CONFLICT."
    )
)
class IdempotencyConflict(UserError):
    pass


@strawberry.type(
    description=(
        "The overlap of an earlier rotation is still open. Pass `force`, or call `expirePreviousWebhookSecret` first. "
        "Nothing was changed. `code` is ROTATION_IN_PROGRESS."
    )
)
class RotationInProgress(UserError):
    previous_secret_expires_at: datetime = strawberry.field(description="When that overlap ends by itself.")

    @classmethod
    def of(cls, refusal: errors.RotationInProgress) -> "RotationInProgress":
        return cls(
            code=refusal.code,
            message=refusal.message,
            previous_secret_expires_at=refusal.previous_secret_expires_at,
        )


@strawberry.type(
    description="The webhook is PAUSED or DISABLED. Nothing was changed. `code` is WEBHOOK_NOT_ENABLED.",
)
class WebhookNotEnabled(UserError):
    status: WebhookStatus = strawberry.field(description="What it is. Enable it by `updateWebhook`.")
    disabled_reason: DisabledReason | None = strawberry.field(description="Why, when it is DISABLED.")

    @classmethod
    def of(cls, refusal: errors.WebhookNotEnabled) -> "WebhookNotEnabled":
        return cls(
            code=refusal.code,
            message=refusal.message,
            status=refusal.status,
            disabled_reason=refusal.disabled_reason,
        )


MEMBERS: dict[type[errors.Refusal], type[UserError]] = {
    errors.ValidationFailed: ValidationFailed,
    errors.NotFound: NotFound,
    errors.Forbidden: Forbidden,
    errors.LimitExceeded: LimitExceeded,
    errors.RateLimited: RateLimited,
    errors.RevisionConflict: RevisionConflict,
    errors.IdempotencyConflict: IdempotencyConflict,
    errors.RotationInProgress: RotationInProgress,
    errors.WebhookNotEnabled: WebhookNotEnabled,
}
"""The one table: which refusal becomes which member, wherever a union has that member."""


class _Becomes:
    """A strawberry.ExceptionHandler for one row of the table."""

    def __init__(self, refusal: type[errors.Refusal], member: type[UserError]) -> None:
        self.exception_type = refusal
        self.error_type = member

    def handle(self, exception: errors.Refusal, *, field: Any, info: Any) -> UserError:
        return self.error_type.of(exception)


HANDLERS = [_Becomes(refusal, member) for refusal, member in MEMBERS.items()]

_ECHO = re.compile(r"(?s),? [Ff]ound: .*|(cannot represent [^:]*value): .*")


class RequestError(GraphQLError):
    """A refusal of the request as a whole, with a code for machines."""

    def __init__(self, message: str, code: str, nodes: Any = None) -> None:
        super().__init__(message, nodes, extensions={"code": code})


def for_callers(found: list[GraphQLError], execution: ExecutionContext | None) -> list[GraphQLError]:
    """An operation's errors, as its caller may see them. Logs the bugs among them."""
    request_id = getattr(execution.context, "request_id", "") if execution is not None else ""
    return [_for_caller(error, request_id) for error in found]


def _for_caller(error: GraphQLError, request_id: str) -> GraphQLError:
    cause: BaseException | None = error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    if isinstance(cause, errors.Refusal):
        return _retold(error, cause.message, extensions_of(cause))
    if isinstance(cause, GraphQLError) and error.extensions and "code" in error.extensions:
        return error
    if isinstance(error, GraphQLSyntaxError):
        return _retold(error, error.message, {"code": "GRAPHQL_PARSE_FAILED"})
    if isinstance(cause, GraphQLError) and (error.path is None or error.message.startswith("Argument ")):
        # GraphQL's own messages repeat the value that was found, which may be a secret.
        return _retold(error, _ECHO.sub(r"\1", error.message), {"code": "GRAPHQL_VALIDATION_FAILED"})
    if cause is not None and (refusal := unavailable(cause)) is not None:
        return _retold(error, refusal.message, extensions_of(refusal))
    where = ".".join(str(step) for step in error.path or ())
    log.error("request=%s graphql field=%s failed", request_id, where, exc_info=cause)
    message = f"something went wrong on our side; quote request id {request_id}"
    return _retold(error, message, {"code": "INTERNAL_SERVER_ERROR", "requestId": request_id})


def extensions_of(refusal: errors.Refusal) -> dict[str, Any]:
    """A refusal's particulars, for a field that has no union to tell them in."""
    told: dict[str, Any] = {"code": refusal.code}
    if isinstance(refusal, errors.Forbidden):
        told["requiredScopes"] = list(refusal.required_scopes)
    if isinstance(refusal, errors.ValidationFailed):
        told["fields"] = [
            {"path": list(field.path), "code": field.code.value, "message": field.message} for field in refusal.fields
        ]
    if isinstance(refusal, errors.RateLimited | errors.Unavailable):
        told["retryAfterSeconds"] = refusal.retry_after_seconds
    return told


def _retold(error: GraphQLError, message: str, extensions: dict[str, Any]) -> GraphQLError:
    return GraphQLError(message, error.nodes, error.source, error.positions, error.path, extensions=extensions)
