"""API keys: making, importing, revoking them, and telling whose a token is."""

import re
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from models.api_key import ApiKey, digest_of, new_token, shown_prefix_of
from models.ids import Prefix, decode, new_id
from models.moment import from_ms, now_ms, to_ms
from resolvers import validation
from resolvers.caller import Caller, Scope, spelt_out
from resolvers.desk import Desk
from resolvers.errors import FieldErrorCode, FieldProblem, Forbidden, NotFound, ValidationFailed
from resolvers.key_ring import living_keys
from resolvers.lookup import own

MAX_NAME = 200
MIN_TOKEN, MAX_TOKEN = 16, 4096
MAX_EMAIL = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets
_EMAIL = re.compile(r"[!-?A-~]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")  # printable ASCII and one @


async def list_(caller: Caller) -> list[ApiKey]:
    """The organization's keys, the latest first, revoked ones included."""
    caller.require(Scope.ADMIN)
    return await ApiKey.filter(organization_id=caller.organization_id).order_by("-id")


async def create(
    caller: Caller,
    *,
    name: str,
    scopes: Sequence[str],
    contract: str = "native",
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its token, which can be read this once. Nobody gives away a scope they do not have.

    Raises ValidationFailed, Forbidden.
    """
    caller.require(Scope.ADMIN)
    problems = list(_problems(name, scopes, expires_at))
    if contract not in caller.desk.contracts:
        message = f"must be one of {', '.join(caller.desk.contracts)}"
        problems.append(FieldProblem(("contract",), FieldErrorCode.INVALID_FORMAT, message))
    if problems:
        raise ValidationFailed(problems)
    missing = sorted(str(scope) for scope in spelt_out(list(scopes)) - caller.scopes)
    if missing:
        raise Forbidden(missing, f"a key cannot give scopes that it lacks: {', '.join(missing)}")
    return await create_for(caller.organization_id, name, scopes, contract, expires_at)


async def revoke(caller: Caller, id: str) -> ApiKey:
    """Ends a key, at once and for good; revoking it again changes nothing. Raises NotFound, Forbidden."""
    caller.require(Scope.ADMIN)
    return await _revoked(await own(caller, ApiKey.all(), Prefix.API_KEY, id))


async def authenticate(desk: Desk, token: str) -> Caller | None:
    """Who shows this token; None when it is unknown, revoked or expired, or its organization is gone."""
    return await _caller(desk, await desk.keys.key_of(digest_of(token)))


async def authenticate_by_id(desk: Desk, key_id: UUID) -> Caller | None:
    """The same for whoever has shown the token before."""
    return await _caller(desk, next(iter(await living_keys("id", [key_id])), None))


async def _caller(desk: Desk, key: ApiKey | None) -> Caller | None:
    if key is None:
        return None
    now = from_ms(desk.clock())
    if key.expires_at is not None and key.expires_at <= now:
        return None
    await desk.keys.note_use(key, now)
    return Caller(desk, key.organization_id, key, spelt_out(key.scopes), key.contract)


async def is_known(token: str) -> bool:
    """Whether it is or was the token of a key. One that was revoked opens nothing, whatever else it may be."""
    return await ApiKey.filter(digest=digest_of(token)).exists()


async def contract_of(token: str) -> str | None:
    """The contract of the key that this token is or was of, so that a refusal can be told in its form."""
    key = await ApiKey.filter(digest=digest_of(token)).first()
    return None if key is None else key.contract


async def create_for(
    organization_id: UUID,
    name: str,
    scopes: Sequence[str],
    contract: str = "native",
    expires_at: datetime | None = None,
    owner_email: str | None = None,
) -> tuple[ApiKey, str]:
    """For the operator: a new key of an organization, and its token. Raises ValidationFailed."""
    token = new_token()
    return await import_token(organization_id, token, name, scopes, contract, expires_at, owner_email), token


async def import_token(
    organization_id: UUID,
    token: str,
    name: str,
    scopes: Sequence[str],
    contract: str = "native",
    expires_at: datetime | None = None,
    owner_email: str | None = None,
) -> ApiKey:
    """For the operator: a key with a token that callers have already, of any format. Raises ValidationFailed."""
    problems = [*_problems(name, scopes, expires_at), *_email_problems(owner_email)]
    if not MIN_TOKEN <= len(token) <= MAX_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        message = f"must be {MIN_TOKEN} to {MAX_TOKEN} printable ASCII characters without blanks"
        problems.append(FieldProblem(("token",), FieldErrorCode.INVALID_FORMAT, message))
    elif await ApiKey.filter(digest=digest_of(token)).exists():
        problems.append(FieldProblem(("token",), FieldErrorCode.DUPLICATE, "is known already"))
    if problems:
        raise ValidationFailed(problems)
    return await ApiKey.create(
        id=new_id(),
        organization_id=organization_id,
        name=name,
        prefix=shown_prefix_of(token),
        digest=digest_of(token),
        scopes=list(dict.fromkeys(scopes)),
        contract=contract,
        owner_email=owner_email,
        created_at=from_ms(now_ms()),
        expires_at=expires_at,
    )


async def list_all(organization_id: UUID | None = None) -> list[ApiKey]:
    """For the operator: every key, or those of one organization."""
    rows = ApiKey.all() if organization_id is None else ApiKey.filter(organization_id=organization_id)
    return await rows.order_by("id")


async def revoke_any(id: str) -> ApiKey:
    """For the operator: ends any key. Raises NotFound."""
    key_id = decode(Prefix.API_KEY, id)
    key = await ApiKey.filter(id=key_id).first() if key_id is not None else None
    if key is None:
        raise NotFound(id)
    return await _revoked(key)


def _email_problems(email: str | None) -> validation.Problems:
    if email is not None and (len(email) > MAX_EMAIL or not _EMAIL.fullmatch(email)):
        message = f"must be an e-mail address of at most {MAX_EMAIL} characters"
        yield FieldProblem(("email",), FieldErrorCode.INVALID_FORMAT, message)


async def _revoked(key: ApiKey) -> ApiKey:
    if key.revoked_at is None:
        key.revoked_at = from_ms(now_ms())
        await key.save(update_fields=["revoked_at"])
    return key


def _problems(name: str, scopes: Sequence[str], expires_at: datetime | None) -> validation.Problems:
    if not name.strip():
        yield FieldProblem(("name",), FieldErrorCode.REQUIRED, "must not be empty")
    yield from validation.text_problems("name", name, MAX_NAME)
    known = [str(scope) for scope in Scope]
    if not scopes:
        yield FieldProblem(("scopes",), FieldErrorCode.TOO_SHORT, f"must name at least one of {', '.join(known)}")
    for i, scope in enumerate(scopes):
        if scope not in known:
            message = f"must be one of {', '.join(known)}"
            yield FieldProblem(("scopes", str(i)), FieldErrorCode.INVALID_FORMAT, message)
    if expires_at is not None and (expires_at.tzinfo is None or to_ms(expires_at) <= now_ms()):
        yield FieldProblem(("expiresAt",), FieldErrorCode.OUT_OF_RANGE, "must be a moment in the future")
