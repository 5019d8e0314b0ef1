"""GraphQL over HTTP (the specification's draft of August 2026), with every answer in JSON, errors of the transport too.

what came                                     answer
a document that ran, well or in part          200
one that could not be read or is not valid    200 as application/json, 400 as application/graphql-response+json
no document, or malformed JSON                400
no or an unknown key                          401   (context_of says so)
a key that may not act for the organization   403   (context_of says so)
another method; a mutation by GET             405 with Allow
an Accept that neither media type satisfies   406
a body larger than allowed                    413
a body that is not application/json           415
a browser that wants to see a page            the page
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from cross_web import AsyncHTTPRequestAdapter, HTTPException, StarletteRequestAdapter
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData, process_result
from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult

from schema.api import schema
from schema.context import Context

JSON = "application/json"
RESPONSE = "application/graphql-response+json"
INVALID_STATUS = HTTPStatus.BAD_REQUEST
"""Of a document that cannot be read or is not valid. The draft says 422 for the latter; its audit still wants 400."""

_LONG_NUMBER = re.compile(r"\d{19}")
"""Such integers orjson would round to floats; an event's data is to arrive as it was sent."""

ContextOf = Callable[[HTTPConnection], Awaitable[Context]]
Page = Callable[[Request], Response]


class GraphQLRefused(Exception):
    """The request is refused as a whole, before anything of it is read. Raised by `context_of` for 401 and 403."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = {"www-authenticate": "Bearer"} | dict(headers or {}) if status == 401 else dict(headers or {})


def graphql_app(
    context_of: ContextOf, page: Page | None = None, *, max_body_bytes: int = 8 * 1024 * 1024
) -> "GraphQLApp":
    """The ASGI app that serves the schema, for a Route and a WebSocketRoute alike.

    `context_of` says who calls; it raises GraphQLRefused for whoever may not. `page` answers a browser that opens the
    address. Give its Route no smaller `max_body_size` than `max_body_bytes`: Starlette's own 413 is plain text.
    """
    return GraphQLApp(context_of, page, max_body_bytes)


class _Request(StarletteRequestAdapter):
    """Media types are the same in upper and lower case."""

    @property
    def content_type(self) -> str | None:
        given = super().content_type
        return given and given.lower()


class GraphQLApp(GraphQL[Context, None]):
    """Strawberry's ASGI app, made to keep to the specification."""

    request_adapter_class = _Request

    def __init__(self, context_of: ContextOf, page: Page | None, max_body_bytes: int) -> None:
        super().__init__(schema, graphql_ide=None, subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,))
        self._context_of = context_of
        self._page = page
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            response = await self._answer(Request(scope, self._bounded(receive)))
            await response(scope, receive, send)
            return
        try:
            await super().__call__(scope, receive, send)
        except GraphQLRefused as refused:
            await send({"type": "websocket.close", "code": 4000 + refused.status, "reason": refused.message})

    async def _answer(self, request: Request) -> Response:
        accept = request.headers.get("accept")
        if self._page is not None and request.method in ("GET", "HEAD") and _wants_page(request):
            return self._page(request)
        media = negotiated(accept)
        if media is None:
            return _error(JSON, 406, "NOT_ACCEPTABLE", f"accept {RESPONSE} or {JSON}")
        if request.method not in ("GET", "POST"):
            return _error(media, 405, "METHOD_NOT_ALLOWED", "use GET or POST", {"allow": "GET, POST"})
        try:
            return await self.run(request)
        except GraphQLRefused as refused:
            return _error(media, refused.status, refused.code, refused.message, refused.headers)
        except HTTPException as refused:
            if isinstance(refused.__cause__, InvalidOperationTypeError):
                message = f"{refused.__cause__.operation_type.value}s go by POST"
                return _error(media, 405, "METHOD_NOT_ALLOWED", message, {"allow": "POST"})
            return _error(media, refused.status_code, "BAD_REQUEST", refused.reason)

    def _bounded(self, receive: Receive) -> Receive:
        """Reads a body up to the limit, whatever its Content-Length says."""
        read, most = 0, self._max_body_bytes

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise GraphQLRefused(413, "PAYLOAD_TOO_LARGE", f"the body may have at most {most} bytes")
            return message

        return bounded

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        return await self._context_of(request)

    async def parse_http_body(self, request: AsyncHTTPRequestAdapter) -> GraphQLRequestData | list[GraphQLRequestData]:
        if request.method == "POST" and (request.content_type or "").partition(";")[0].strip() != JSON:
            raise GraphQLRefused(415, "UNSUPPORTED_MEDIA_TYPE", f"send the request as {JSON}")
        return await super().parse_http_body(request)

    def parse_json(self, data: str | bytes) -> Any:
        parsed = super().parse_json(data)
        if not isinstance(parsed, dict | list):
            raise HTTPException(400, "a JSON object is wanted")
        return parsed

    def decode_json(self, data: str | bytes) -> object:
        decoded: object = orjson.loads(data)
        if not _LONG_NUMBER.search(data if isinstance(data, str) else data.decode()):
            return decoded
        try:
            return json.loads(data)
        except ValueError as error:  # of more digits than Python converts
            raise json.JSONDecodeError(str(error), "", 0) from error

    def encode_json(self, data: object) -> str:
        return orjson.dumps(data).decode()  # text, because a WebSocket sends bytes as binary frames

    async def get_sub_response(self, request: Request | WebSocket) -> Response:
        response = await super().get_sub_response(request)
        response.media_type = negotiated(request.headers.get("accept"))
        return response

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        answer = process_result(result)
        if result.data is None and result.errors and all(error.path is None for error in result.errors):
            del answer["data"]  # nothing was run, which is not the same as a null
        return answer

    def create_response(
        self, response_data: GraphQLHTTPResponse | list[GraphQLHTTPResponse], sub_response: Response
    ) -> Response:
        media = sub_response.media_type or JSON
        status = INVALID_STATUS if media == RESPONSE and "data" not in response_data else HTTPStatus.OK
        response = Response(orjson.dumps(response_data), status, media_type=f"{media}; charset=utf-8")
        response.headers.raw.extend(sub_response.headers.raw)
        return response


def negotiated(accept: str | None) -> str | None:
    """Which of the two media types a client wants; None when neither will do.

    Who accepts anything gets application/json, with which no client can go wrong.
    """
    if not accept:
        return JSON
    new, old = _quality(accept, RESPONSE), _quality(accept, JSON)
    if max(new, old) <= 0:
        return None
    named = RESPONSE in accept
    return RESPONSE if named and new >= old else JSON if old > 0 else RESPONSE


def _quality(accept: str, media: str) -> float:
    """How much a media type is wanted, 0 to 1; the most specific range decides (RFC 9110 §12.5.1)."""
    best = (-1, 0.0)
    for part in accept.lower().split(","):
        name, *parameters = [piece.strip() for piece in part.split(";")]
        ranges = [f"{media.partition('/')[0]}/*", media]
        if name != "*/*" and name not in ranges:
            continue
        specific = ranges.index(name) + 1 if name in ranges else 0
        best = max(best, (specific, _q(parameters)))
    return best[1]


def _q(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _wants_page(request: Request) -> bool:
    """A browser that opens the address, not one that sends a query."""
    return "text/html" in request.headers.get("accept", "") and "query" not in request.query_params


def _error(media: str, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    body = orjson.dumps({"errors": [{"message": message, "extensions": {"code": code}}]})
    return Response(body, status, headers, f"{media}; charset=utf-8")
