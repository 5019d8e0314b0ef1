"""Who is calling: a key in `Authorization: Bearer …` or `x-api-key`, and the organization it acts for."""

from starlette.requests import HTTPConnection

from app.wiring import House
from resolvers import keys, organizations
from resolvers.caller import Caller
from resolvers.errors import Forbidden, NotFound

ORGANIZATION_HEADER = "Hookline-Organization"


class Unauthenticated(Exception):
    """No key, or none that is valid."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


async def caller_of(connection: HTTPConnection) -> Caller:
    """The caller behind a request. Raises Unauthenticated, or Forbidden for an organization the key may not act for."""
    house: House = connection.app.state.house
    token = token_of(connection)
    if token is None:
        raise Unauthenticated("no API key: send it as `Authorization: Bearer <key>`")
    caller = await keys.authenticate(house.desk, token)
    if caller is None:
        raise Unauthenticated("this API key is not valid: it is unknown, expired or revoked")
    reference = connection.headers.get(ORGANIZATION_HEADER)
    if reference is None:
        return caller
    try:
        return await organizations.act_for(caller, reference)
    except NotFound:
        raise Forbidden(
            ["platform"], f"there is no organization that the header {ORGANIZATION_HEADER} could mean"
        ) from None


def token_of(connection: HTTPConnection) -> str | None:
    """The key as it was sent, or None."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return connection.headers.get("x-api-key") or None
