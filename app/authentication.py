"""Who is calling: a key in `Authorization: Bearer …` or `x-api-key`, an access token as Bearer, or a browser's session;
and for whom."""

from starlette.requests import HTTPConnection

from app.access_tokens import AccessTokens, TokenRefused, looks_like_one
from app.browser_session import require_own_page, session_of
from app.wiring import House
from models.api_key import ApiKey, shown_prefix_of
from models.ids import new_id
from resolvers import keys, organizations, sessions
from resolvers.caller import Caller
from resolvers.errors import Forbidden, NotFound

ORGANIZATION_HEADER = "Hookline-Organization"
STAFF_HEADERS = {"factify": "X-Factify-Organization-Id"}
"""By contract, the header with which staff act for any organization."""


class Unauthenticated(Exception):
    """No key, or none that is valid."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


async def caller_of(connection: HTTPConnection) -> Caller:
    """The caller behind a request, acting for the organization that the request names. Counts the request.

    Raises Unauthenticated; RateLimited; Forbidden for an organization the key may not act for, or that there is not;
    and ValidationFailed for what cannot name one.
    """
    return await acting(await authenticated(connection), connection)


async def authenticated(connection: HTTPConnection) -> Caller:
    """Whose key, access token or session it is, acting for its own organization. Counts the request.

    Raises Unauthenticated, RateLimited, Forbidden.
    """
    caller = await _known(connection)
    caller.pay()
    return caller


async def _known(connection: HTTPConnection) -> Caller:
    house: House = connection.app.state.house
    token, is_bearer = _token_of(connection)
    if token is None:
        return await _of_session(house, connection)
    caller = await keys.authenticate(house.desk, token)  # first: keys of old formats may look like access tokens
    if caller is None and is_bearer and house.access_tokens is not None and looks_like_one(token):
        caller = await _bearer_of_access_token(house, house.access_tokens, token)
    if caller is None:
        raise Unauthenticated("this API key is not valid: it is unknown, expired or revoked")
    return caller


async def acting(caller: Caller, connection: HTTPConnection) -> Caller:
    """The caller, acting for the organization that a header of the request names, if one does.

    Raises Forbidden and ValidationFailed, as `caller_of`.
    """
    house: House = connection.app.state.house
    header, reference = ORGANIZATION_HEADER, connection.headers.get(ORGANIZATION_HEADER)
    try:
        if reference is not None:
            caller = await organizations.act_for(caller, reference)
        header = STAFF_HEADERS.get(caller.contract, "")
        reference = connection.headers.get(header)
        if reference is not None:
            caller = await organizations.act_for_as_staff(caller, reference, house.settings.staff_domain)
    except NotFound:
        raise Forbidden(["platform"], f"there is no organization that the header {header} could mean") from None
    return caller


async def _of_session(house: House, connection: HTTPConnection) -> Caller:
    session = session_of(connection, house.desk.sealer, house.desk.clock())
    caller = await sessions.authenticate(house.desk, session) if session is not None else None
    if caller is None:
        raise Unauthenticated("no API key: send it as `Authorization: Bearer <key>`")
    require_own_page(connection, house.settings.allowed_origins)
    return caller


async def _bearer_of_access_token(house: House, access_tokens: AccessTokens, token: str) -> Caller | None:
    try:
        read = await access_tokens.read(token)
    except TokenRefused as refused:
        raise Unauthenticated(f"this access token is not valid: {refused}") from None
    if await keys.is_known(token):  # a key that was revoked
        return None
    try:
        organization = await organizations.known(read.organization)
    except NotFound:
        message = f"the access token names the organization {read.organization!r}, which is not known here"
        raise Forbidden([], message) from None
    described = ApiKey(
        id=new_id(),
        organization_id=organization.id,
        name=f"access token of {read.subject}" if read.subject else "access token",
        prefix=shown_prefix_of(token),
        scopes=sorted(map(str, read.scopes)),
        contract=read.contract,
        created_at=read.issued_at,
        expires_at=read.expires_at,
    )
    return Caller(house.desk, organization.id, described, read.scopes, read.contract, organization.id)


def token_of(connection: HTTPConnection) -> str | None:
    """The key or access token as it was sent, or None."""
    return _token_of(connection)[0]


def _token_of(connection: HTTPConnection) -> tuple[str | None, bool]:
    """The key as it was sent, or None; and whether it was sent as Bearer."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip(), True
    return connection.headers.get("x-api-key") or None, False
