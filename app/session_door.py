"""`/session`: a key is exchanged for a cookie once, and the page that was given the key forgets it.

POST     with `Authorization: Bearer <key>`: begins a session
GET      whose session it is
DELETE   ends it, and what is watched with it
"""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from app.authentication import Unauthenticated, authenticated, token_of
from app.browser_session import LIFETIME_MS, begin, end, require_own_page, session_of
from app.request_id import request_id_of
from app.rest.native import NATIVE
from app.wiring import House
from models.ids import Prefix, encode, new_id
from models.moment import from_ms, rfc_3339, to_ms
from resolvers import keys, organizations, sessions
from resolvers.availability import unavailable
from resolvers.caller import Caller, Session
from resolvers.errors import Forbidden, RateLimited, Unavailable


def routes() -> list[BaseRoute]:
    """For the app. No key is asked for in the documents of REST: this is for the pages that we serve."""
    return [Route("/session", _session, methods=["GET", "POST", "DELETE"])]


async def _session(request: Request) -> Response:
    doors = {"POST": _begun, "DELETE": _ended}
    try:
        return await doors.get(request.method, _told)(request)
    except Exception as error:
        refusal = unavailable(error) or error
        if not isinstance(refusal, Unauthenticated | Forbidden | RateLimited | Unavailable):
            raise
        problem = NATIVE.problem_of(refusal, request_id_of(request))
        return _json(problem.status, NATIVE.error_body(problem), dict(problem.headers))


async def _begun(request: Request) -> Response:
    house: House = request.app.state.house
    if token_of(request) is None:  # a session begets no session
        raise Unauthenticated("no API key: send it as `Authorization: Bearer <key>`")
    caller = await authenticated(request)
    if await keys.authenticate_by_id(house.desk, caller.key.id) is None:
        raise Forbidden([], "only an API key is exchanged for a session: an access token has an end of its own")
    now = house.desk.clock()
    ends = now + LIFETIME_MS
    if caller.key.expires_at is not None:
        ends = min(ends, to_ms(caller.key.expires_at))
    session = Session(new_id(), caller.key.id, ends)
    response = _json(201, await _described(caller, session))
    begin(response, request, session, house.desk.sealer, now)
    return response


async def _told(request: Request) -> Response:
    house: House = request.app.state.house
    session = session_of(request, house.desk.sealer, house.desk.clock())
    caller = await sessions.authenticate(house.desk, session) if session is not None else None
    if session is None or caller is None:
        raise Unauthenticated("there is no session: begin one by POST with `Authorization: Bearer <key>`")
    return _json(200, await _described(caller, session))


async def _ended(request: Request) -> Response:
    house: House = request.app.state.house
    require_own_page(request, house.settings.allowed_origins)
    session = session_of(request, house.desk.sealer, house.desk.clock())
    if session is not None:
        await sessions.end(session)
    response = Response(status_code=204)
    end(response, request)
    return response


async def _described(caller: Caller, session: Session) -> dict[str, Any]:
    organization = await organizations.own(caller)
    return {
        "organization": {"id": encode(Prefix.ORGANIZATION, organization.id), "name": organization.name},
        "api_key": {"id": encode(Prefix.API_KEY, caller.key.id), "name": caller.key.name},
        "scopes": sorted(map(str, caller.scopes)),
        "expires_at": rfc_3339(from_ms(session.expires_at)),
    }


def _json(status: int, body: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(
        orjson.dumps(body), status, (headers or {}) | {"Cache-Control": "no-store"}, media_type="application/json"
    )
