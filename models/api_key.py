"""An API key. Only the digest of its token is kept, so tokens of any old format can be imported."""

import hashlib
import secrets

from tortoise import fields
from tortoise.models import Model

from models.moment import MomentField

TOKEN_PREFIX = "hkl_"  # noqa: S105 — the public beginning of every token, not a token
_SHOWN = 12


class ApiKey(Model):
    """What a caller shows to act for an organization."""

    id = fields.UUIDField(primary_key=True)
    organization_id = fields.UUIDField()
    name = fields.CharField(max_length=200)
    prefix = fields.CharField(max_length=20, description="The token's beginning, to recognise it by.")
    digest = fields.CharField(max_length=64, unique=True, description="SHA-256 of the whole token, in hex.")
    scopes: list[str] = fields.JSONField(default=list)
    contract = fields.CharField(max_length=20, default="native")
    owner_email = fields.CharField(max_length=254, null=True, description="Whose it is. Staff may act for anybody.")
    created_at = MomentField()
    last_used_at = MomentField(null=True, description="To the minute.")
    expires_at = MomentField(null=True)
    revoked_at = MomentField(null=True)

    class Meta:
        table = "api_key"
        indexes = (("organization_id",),)


def new_token() -> str:
    """A fresh token: `hkl_` and 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """How a token is stored and looked up. Tokens are long and random, so one pass of SHA-256 is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def shown_prefix_of(token: str) -> str:
    """The part of a token that may be shown; at most a third of it."""
    return token[: min(_SHOWN, len(token) // 3)]
