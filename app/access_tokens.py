"""Access tokens (JWT, RFC 9068) of an issuer that the operator trusts: who bears one, and what they may do."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt

from app.key_set import ALGORITHMS, KeySet
from app.settings import Grant, Settings
from resolvers.caller import ORDINARY, Scope, spelt_out

LEEWAY_SECONDS = 30
"""By so much the issuer's clock may differ from ours."""
MAX_TOKEN = 16_384

_OWN_WORDS = {str(scope): (scope,) for scope in ORDINARY - {Scope.ADMIN}}
"""What words mean that are scopes of ours. An issuer's `admin` is hardly the administrator of webhooks."""


class TokenRefused(Exception):
    """The token is none of the issuer's, or not any more. The message says why, and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a verified token says."""

    organization: str
    """An organization's id or external id."""
    scopes: frozenset[Scope]
    contract: str
    subject: str | None
    issued_at: datetime
    expires_at: datetime


class AccessTokens:
    """Verifies the tokens of the issuer that the settings name."""

    def __init__(self, settings: Settings, transport: httpx.AsyncBaseTransport, clock: Callable[[], int]) -> None:
        self._settings = settings
        self._keys = KeySet(settings.jwks_url(), transport, clock)

    async def aclose(self) -> None:
        """Ends a look-up of keys under way."""
        await self._keys.aclose()

    async def read(self, token: str) -> AccessToken:
        """What the token says, once it is proven to be the issuer's, meant for us, and in force.

        Raises TokenRefused.
        """
        try:
            claims = await self._verified(token)
        except (jwt.InvalidTokenError, RecursionError) as error:  # the latter from JSON of endless depth
            raise TokenRefused(_REASONS.get(type(error), "it is malformed or forged")) from None
        now = datetime.now(UTC)
        try:
            return AccessToken(
                organization=self._organization_in(claims),
                scopes=self._scopes_in(claims),
                contract=self._settings.oauth_contract,
                subject=claims["sub"] if isinstance(claims.get("sub"), str) else None,
                issued_at=datetime.fromtimestamp(claims["iat"], UTC) if "iat" in claims else now,
                expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC),
            )
        except (ValueError, TypeError, OverflowError, OSError):
            raise TokenRefused("its times make no sense") from None

    async def _verified(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN:
            raise TokenRefused("it is too long")
        header = jwt.get_unverified_header(token)
        algorithm, kid = str(header.get("alg")), header.get("kid")
        if algorithm not in ALGORITHMS.values():
            raise TokenRefused(f"it must be signed with {', '.join(ALGORITHMS.values())}")
        key = await self._keys.key(kid, algorithm)
        if key is None:
            raise TokenRefused("the issuer shows no such key")
        audience = self._settings.oauth_audience
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=self._settings.oauth_issuer,
            audience=audience,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iss"], "verify_aud": audience is not None},
        )

    def _organization_in(self, claims: dict[str, Any]) -> str:
        name = self._settings.oauth_organization_claim
        value = claims.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise TokenRefused(f"it names no organization: its claim `{name}` must be text or a whole number")
        return str(value)

    def _scopes_in(self, claims: dict[str, Any]) -> frozenset[Scope]:
        value = claims.get(self._settings.oauth_scopes_claim, "")
        words = set(value.split()) if isinstance(value, str) else set(map(str, value)) if _is_list(value) else set()
        return granted(words, self._settings.oauth_scopes)


def granted(words: set[str], grants: tuple[Grant, ...] | None) -> frozenset[Scope]:
    """What a token's words allow, as the settings say it."""
    if grants is None:
        return frozenset(scope for word in words for scope in _OWN_WORDS.get(word, ()))
    return spelt_out([str(scope) for word, scopes in grants if word is None or word in words for scope in scopes])


def looks_like_one(token: str) -> bool:
    """Whether it has the three parts of a signed JWT (RFC 7515 §7.1)."""
    return token.count(".") == 2


def _is_list(value: object) -> bool:
    return isinstance(value, list)


_REASONS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidIssuerError: "its issuer is not the one accepted here",
    jwt.InvalidAudienceError: "it is meant for another audience",
    jwt.MissingRequiredClaimError: "it lacks a claim among exp, iss and aud",
}
