"""The REST door: who asks, in which dialect, with what; then the operation; then the answer or the refusal.

The routes belong to no dialect. Each path has one door, which asks the caller's key for the dialect and the dialect
for the operation, so that contracts can share paths.
"""

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Send
from starlette.types import Scope as ConnectionScope

from app.authentication import acting, authenticated
from app.rest import reading
from app.rest.dialect import Call, Dialect, Nothing, Operation
from app.rest.native import NATIVE
from app.rest.openapi import openapi_document
from app.rest.refusals import Internal, MethodNotAllowed, UnknownPath
from app.rest.request_id import request_id_of
from app.wiring import House
from resolvers.caller import Caller

log = logging.getLogger("hookline.rest")

DIALECTS: Mapping[str, Dialect] = {NATIVE.name: NATIVE}
"""By the name of the contract that is written in the caller's key."""


def routes() -> list[BaseRoute]:
    """All of REST: the operations, JSON refusals for whatever else is asked under /v1, and /openapi.json."""
    paths = dict.fromkeys(operation.path for dialect in DIALECTS.values() for operation in dialect.operations)
    # A door has a cap and a form of 413 of its own, so the app's cap, which answers in plain text, is lifted here.
    doors = [Route(path, Door(path), max_body_size=sys.maxsize) for path in (*paths, "/v1", "/v1/{rest:path}")]
    return [Route("/openapi.json", _OpenApi()), *doors]


class Door:
    """One path, all methods, all dialects."""

    def __init__(self, path: str) -> None:
        self.path = path

    async def __call__(self, scope: ConnectionScope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        with suppress(ClientDisconnect):  # nobody is there to answer
            response = await self._response(request)
            await response(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        dialect = NATIVE  # as long as nobody knows who asks
        try:
            self._operation(request, *DIALECTS.values())
            caller = await authenticated(request)
            dialect = DIALECTS.get(caller.contract, NATIVE)
            caller = await acting(caller, request)
            return await self._answer(self._operation(request, dialect), caller, request)
        except ClientDisconnect:
            raise
        except Exception as error:
            return _refused(dialect, error, request)

    def _operation(self, request: Request, *dialects: Dialect) -> Operation[Any]:
        served = {o.method: o for dialect in dialects for o in dialect.operations if o.path == self.path}
        if not served:
            raise UnknownPath()
        operation = served.get("GET" if request.method == "HEAD" else request.method)
        if operation is None:
            raise MethodNotAllowed([*served, "HEAD"] if "GET" in served else served)
        return operation

    async def _answer(self, operation: Operation[Any], caller: Caller, request: Request) -> Response:
        caller.require(operation.scope)  # the resolver asks again; here it spares reading the body
        given: Any = {}
        if operation.takes_body:
            house: House = request.app.state.house
            given = await reading.json_of(request, house.settings.max_body_bytes, required=operation.body_required)
        elif operation.takes is not Nothing:
            given = dict(request.query_params)
        key = reading.idempotency_key_of(request) if operation.idempotent_by_key else None
        call = Call(caller, request.path_params.get("id", ""), key)
        answer = await operation.handler(call, reading.typed(operation.takes, given))
        if answer.body is None:
            return Response(status_code=operation.status, headers=dict(answer.headers))
        return _json(operation.status, answer.body.model_dump_json(), answer.headers)


def _refused(dialect: Dialect, error: Exception, request: Request) -> Response:
    request_id = request_id_of(request.headers)
    if not dialect.expects(error):
        log.error("request=%s %s %s failed", request_id, request.method, request.url.path, exc_info=error)
        error = Internal()
    problem = dialect.problem_of(error, request_id)
    return _json(problem.status, orjson.dumps(dialect.error_body(problem)), problem.headers)


def _json(status: int, content: str | bytes, headers: Mapping[str, str]) -> Response:
    # What is answered may hold a secret, and is one caller's own.
    return Response(content, status, dict(headers) | {"Cache-Control": "no-store"}, media_type="application/json")


@cache
def _document() -> bytes:
    return orjson.dumps(openapi_document())


class _OpenApi:
    """Serves the document, to anybody."""

    async def __call__(self, scope: ConnectionScope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if request.method in ("GET", "HEAD"):
            response = Response(_document(), media_type="application/json")
        else:
            response = _refused(NATIVE, MethodNotAllowed(("GET", "HEAD")), request)
        await response(scope, receive, send)
