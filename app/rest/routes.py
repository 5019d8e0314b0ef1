"""The REST door: who asks, in which dialect, with what; then the operation; then the answer or the refusal.

The routes belong to no dialect. Each path has one door, which asks the caller's key for the dialect and the dialect
for the operation, so that contracts can share paths.
"""

import logging
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Send
from starlette.types import Scope as ConnectionScope

from app import contracts
from app.authentication import acting, authenticated, token_of
from app.rest import reading
from app.rest.dialect import Call, Dialect, Nothing, Operation
from app.rest.native import NATIVE
from app.rest.openapi import openapi_document
from app.rest.refusals import Internal, MethodNotAllowed, UnknownPath
from app.rest.request_id import request_id_of
from app.wiring import House
from models.api_key import digest_of
from resolvers import keys
from resolvers.availability import Room, unavailable
from resolvers.caller import Caller
from resolvers.errors import Unavailable

log = logging.getLogger("hookline.rest")


@cache
def dialects() -> Mapping[str, Dialect]:
    """By the name of the contract that is written in the caller's key."""
    return {NATIVE.name: NATIVE, **contracts.pages()}


def routes() -> list[BaseRoute]:
    """All of REST: the operations, JSON refusals for whatever else is asked below them, and the documents."""
    paths = {operation.path: None for dialect in dialects().values() for operation in dialect.operations}
    # Starlette takes the first that fits: a path without parameters comes before one that could mean it.
    paths = dict.fromkeys(sorted(paths, key=lambda path: path.count("{")))
    roots = {path.split("/")[1]: None for path in paths}
    rest = [path for root in roots for path in (f"/{root}", f"/{root}/{{rest:path}}")]
    # A door has a cap and a form of 413 of its own, so the app's cap, which answers in plain text, is lifted here.
    doors = [Route(path, Door(path), max_body_size=sys.maxsize) for path in (*paths, *rest)]
    documents = [Route(f"/openapi/{name}.json", _OpenApi(name)) for name in contracts.pages()]
    return [Route("/openapi.json", _OpenApi(NATIVE.name)), *documents, *doors]


class Door:
    """One path, all methods, all dialects."""

    def __init__(self, path: str) -> None:
        self.path = path
        serving = [dialect for dialect in dialects().values() if any(o.path == path for o in dialect.operations)]
        self._usual_dialect = serving[0] if len(serving) == 1 else NATIVE
        """As long as nobody knows who asks."""

    async def __call__(self, scope: ConnectionScope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        room: Room = request.app.state.room
        with suppress(ClientDisconnect):  # nobody is there to answer
            try:
                with room:
                    response = await self._response(request)
            except Unavailable as full:
                response = _refused(_dialect_met(request) or self._usual_dialect, full, request)
            await response(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        dialect = self._usual_dialect
        try:
            try:
                caller = await authenticated(request)
            except Exception as error:
                away = unavailable(error)
                met = _dialect_met(request) if away else await _dialect_of_stranger(request)
                dialect = met or dialect
                self._operation(request, dialects().values())  # what is not there is not there for strangers, too
                raise away or error from None
            dialect = dialects().get(caller.contract, NATIVE)
            operation = self._operation(request, [dialect])
            caller = await acting(caller, request)
            return await self._answer(dialect, operation, caller, request)
        except ClientDisconnect:
            raise
        except Exception as error:
            return _refused(dialect, error, request)

    def _operation(self, request: Request, spoken: Iterable[Dialect]) -> Operation[Any]:
        here = [o for dialect in spoken for o in dialect.operations if o.path == self.path]
        served = {o.method: o for o in here if o.is_at(request.path_params)}
        if not served:
            raise UnknownPath()
        operation = served.get("GET" if request.method == "HEAD" else request.method)
        if operation is None:
            raise MethodNotAllowed([*served, "HEAD"] if "GET" in served else served)
        return operation

    async def _answer(self, dialect: Dialect, operation: Operation[Any], caller: Caller, request: Request) -> Response:
        caller.require(*operation.scopes)  # the resolver asks again; here it spares reading the body
        house: House = request.app.state.house
        given: Any = {}
        if operation.takes_body:
            given = await reading.json_of(request, house.settings.max_body_bytes, required=operation.body_required)
        elif operation.takes is not Nothing:
            given = dict(request.query_params)
        key = reading.idempotency_key_of(request) if operation.idempotent_by_key else None
        call = Call(caller, dialect, operation, request.path_params, key)
        answer = await operation.handler(call, reading.typed(operation.takes, given))
        headers = dict(answer.headers)
        if dialect is not NATIVE:
            headers |= house.settings.deprecation_headers()
        if answer.body is None:
            return Response(status_code=operation.status, headers=headers)
        return _json(operation.status, answer.body.model_dump_json(by_alias=True), headers)


async def _dialect_of_stranger(request: Request) -> Dialect | None:
    """That of the contract of a key that no longer opens, or that a token looks like."""
    token = token_of(request)
    if token is None:
        return None
    known = await keys.contract_of(token)
    return dialects().get(known, NATIVE) if known is not None else _dialect_like(token)


def _dialect_met(request: Request) -> Dialect | None:
    """That of the contract of a key that this process has met, or that a token looks like. Asks no database."""
    token = token_of(request)
    if token is None:
        return None
    house: House = request.app.state.house
    met = house.desk.keys.contract_met(digest_of(token))
    return dialects().get(met, NATIVE) if met is not None else _dialect_like(token)


def _dialect_like(token: str) -> Dialect | None:
    return next((d for d in dialects().values() if d.token_prefixes and token.startswith(d.token_prefixes)), None)


def _refused(dialect: Dialect, error: Exception, request: Request) -> Response:
    request_id = request_id_of(request.headers)
    error = unavailable(error) or error
    if not dialect.expects(error):
        log.error("request=%s %s %s failed", request_id, request.method, request.url.path, exc_info=error)
        error = Internal()
    problem = dialect.problem_of(error, request_id)
    return _json(problem.status, orjson.dumps(dialect.error_body(problem)), problem.headers)


def _json(status: int, content: str | bytes, headers: Mapping[str, str]) -> Response:
    # What is answered may hold a secret, and is one caller's own.
    return Response(content, status, dict(headers) | {"Cache-Control": "no-store"}, media_type="application/json")


class _OpenApi:
    """Serves a dialect's document, to anybody."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def __call__(self, scope: ConnectionScope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if request.method in ("GET", "HEAD"):
            response = Response(_document(self._name), media_type="application/json")
        else:
            response = _refused(dialects()[self._name], MethodNotAllowed(("GET", "HEAD")), request)
        await response(scope, receive, send)


@cache
def _document(name: str) -> bytes:
    return orjson.dumps(openapi_document(dialects()[name]))
