"""API keys."""

from datetime import datetime
from typing import Annotated

import strawberry

from models.api_key import ApiKey as ApiKeyRow
from models.ids import Prefix
from schema.errors import Forbidden, NotFound, ValidationFailed
from schema.node import Node, id_of


@strawberry.type(description="What a caller shows to act for an organization: `Authorization: Bearer <token>`.")
class ApiKey(Node):
    name: str = strawberry.field(description="Whose it is or what it is for.")
    prefix: str = strawberry.field(description="The token's beginning, to recognise it by. The token is not kept.")
    scopes: list[str] = strawberry.field(
        description=(
            "What it may do: `webhooks:read`, `webhooks:write`, `events:read`, `events:publish`, `deliveries:read`, "
            "`deliveries:replay`, `admin` (keys and event types), `platform` (every organization), or `*`: all but "
            "`platform`."
        )
    )
    contract: str = strawberry.field(description="The REST dialect it speaks; `native` is Hookline's own.")
    created_at: datetime = strawberry.field(description="When it was made.")
    last_used_at: datetime | None = strawberry.field(description="When it was last shown, to the minute.")
    expires_at: datetime | None = strawberry.field(description="When it stops being accepted. Null: never.")
    revoked_at: datetime | None = strawberry.field(description="When it was revoked, for good.")

    @classmethod
    def of(cls, row: ApiKeyRow) -> "ApiKey":
        return cls(
            id=id_of(Prefix.API_KEY, row.id),
            name=row.name,
            prefix=row.prefix,
            scopes=row.scopes,
            contract=row.contract,
            created_at=row.created_at,
            last_used_at=row.last_used_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
        )


@strawberry.input(
    description=(
        "A new key of this organization. So a backend makes short-lived keys for browsers: few scopes, and `expiresAt`."
    )
)
class CreateApiKeyInput:
    name: str = strawberry.field(description="Whose it is or what it is for; at most 200 characters.")
    scopes: list[str] = strawberry.field(
        description="What it may do; at least one, and none that your own key lacks. See `ApiKey.scopes`."
    )
    contract: str = strawberry.field(
        default="native", description="The REST dialect it speaks; `native` is Hookline's own."
    )
    expires_at: datetime | None = strawberry.field(description="When it stops being accepted. Left out: never.")


@strawberry.input(description="Which key to end.")
class RevokeApiKeyInput:
    id: strawberry.ID = strawberry.field(description="`key_…`")


@strawberry.type(description="The key is made.")
class CreateApiKeyPayload:
    api_key: ApiKey = strawberry.field(description="The key.")
    token: str = strawberry.field(description="What to send as `Authorization: Bearer …`. Readable this once.")


@strawberry.type(description="The key is not accepted any more.")
class RevokeApiKeyPayload:
    api_key: ApiKey = strawberry.field(description="The key, with `revokedAt`.")


CreateApiKeyResult = Annotated[
    CreateApiKeyPayload | ValidationFailed | Forbidden,
    strawberry.union("CreateApiKeyResult", description="What `createApiKey` answers."),
]
RevokeApiKeyResult = Annotated[
    RevokeApiKeyPayload | NotFound | Forbidden,
    strawberry.union("RevokeApiKeyResult", description="What `revokeApiKey` answers."),
]
