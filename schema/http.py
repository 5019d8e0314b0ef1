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
a key that asks too much                      429   with Retry-After (context_of says so)
nothing, as the database is away; no room     503   with Retry-After
a browser that wants to see a page            the page

Subscriptions come as server-sent events (graphql-sse in distinct mode: `Accept: text/event-stream`) or over a WebSocket
(graphql-transport-ws; who calls is said by `connection_init` or by the handshake).
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from math import ceil
from typing import Any

import orjson
from cross_web import AsyncHTTPRequestAdapter, HTTPException, StarletteRequestAdapter
from graphql import GraphQLError, get_operation_ast
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData, process_result
from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import ConnectionInitMessage, SubscribeMessage
from strawberry.types import ExecutionResult

from resolvers import exact_json
from resolvers.availability import Room
from resolvers.errors import RateLimited, Unavailable
from schema.api import schema
from schema.context import Context
from schema.documents import DocumentRefused, StoredDocuments
from schema.errors import RequestError
from schema.limits import document_of

JSON = "application/json"
RESPONSE = "application/graphql-response+json"
INVALID_STATUS = HTTPStatus.BAD_REQUEST
"""Of a document that cannot be read or is not valid. The draft says 422 for the latter; its audit still wants 400."""

_CREDENTIALS = ("authorization", "x-api-key", "hookline-organization")
"""What `connection_init` may say in the place of headers, which browsers cannot set on a WebSocket."""
_LONGEST_REASON = 120
"""Of a WebSocket's close frame, in bytes; RFC 6455 leaves 123."""

ContextOf = Callable[[HTTPConnection], Awaitable[Context]]
Page = Callable[[Request], Response]


class GraphQLRefused(Exception):
    """The request is refused as a whole, before anything of it is read. `context_of` raises it for 401 and 403."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = {"www-authenticate": "Bearer"} | dict(headers or {}) if status == 401 else dict(headers or {})

    @classmethod
    def until_later(cls, status: int, refusal: RateLimited | Unavailable) -> "GraphQLRefused":
        """A refusal that says when to come back."""
        return cls(status, refusal.code, refusal.message, {"retry-after": _seconds(refusal.retry_after_seconds)})

    @property
    def is_for_now(self) -> bool:
        """Whether the same request may be taken later."""
        return "retry-after" in self.headers


def graphql_app(
    context_of: ContextOf,
    page: Page | None = None,
    *,
    max_body_bytes: int = 8 * 1024 * 1024,
    allowed_origins: Sequence[str] = (),
    documents: StoredDocuments | None = None,
    room: Room | None = None,
) -> "GraphQLApp":
    """The ASGI app that serves the schema, for a Route and a WebSocketRoute alike.

    `context_of` says who calls; it raises GraphQLRefused for whoever may not. `page` answers a browser that opens the
    address. Give its Route no smaller `max_body_size` than `max_body_bytes`: Starlette's own 413 is plain text.
    `allowed_origins`: whose pages may open a WebSocket, besides our own. `documents`: those that a digest names.
    `room`: for the requests that may wait; streams take none of it.
    """
    return GraphQLApp(
        context_of, page, max_body_bytes, allowed_origins, documents or StoredDocuments(), room or Room(sys.maxsize)
    )


class _Request(StarletteRequestAdapter):
    """Media types are the same in upper and lower case."""

    @property
    def content_type(self) -> str | None:
        given = super().content_type
        return given and given.lower()


class _Socket(BaseGraphQLTransportWSHandler[Context, None]):
    """A WebSocket whose caller is asked for at the start, and again with each operation: keys may be revoked."""

    view: "GraphQLApp"
    _said: Mapping[str, object] = {}

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        said: object = message.get("payload") or {}
        first = not (self.connection_init_received or self.connection_timed_out)
        if isinstance(said, dict) and first:
            if self.connection_init_timeout_task:
                self.connection_init_timeout_task.cancel()
            self._said = said
            try:
                await self._ask_who_calls()
            except GraphQLRefused as refused:
                await self._close_out(refused)
                return
        await super().handle_connection_init(message)

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        if not self.connection_acknowledged or (await self._may_ask(message) and await self._is_found(message)):
            await super().handle_subscribe(message)

    async def _may_ask(self, message: SubscribeMessage) -> bool:
        try:
            await self._ask_who_calls()
        except GraphQLRefused as refused:
            if refused.is_for_now:  # what is watched goes on
                problem = RequestError(refused.message, refused.code)
                await self.send_message({"id": message["id"], "type": "error", "payload": [problem.formatted]})
            else:
                await self._close_out(refused)
            return False
        return True

    async def _is_found(self, message: SubscribeMessage) -> bool:
        """Fills in the document of a digest. Whether the message has any that may be run."""
        payload = message["payload"]
        try:
            text = self.view.documents.text_of(payload.get("query"), payload.get("extensions"))
        except DocumentRefused as refused:
            problem = RequestError(refused.message, refused.code)
            await self.send_message({"id": message["id"], "type": "error", "payload": [problem.formatted]})
            return False
        if text is not None:
            payload["query"] = text
        return True

    async def _ask_who_calls(self) -> None:
        """Raises GraphQLRefused."""
        socket: WebSocket = self.websocket.ws  # type: ignore[attr-defined]
        self.context = await self.view.context_of_socket(socket, self._said)

    async def _close_out(self, refused: GraphQLRefused) -> None:
        """With 4403, after which clients do not come back; or with 1013, after which they try again later."""
        code = 1013 if refused.is_for_now else 4403
        await self.websocket.close(code, refused.message.encode()[:_LONGEST_REASON].decode(errors="ignore"))


class _Events(StreamingResponse):
    """A stream of server-sent events, which is broken off when the process is to stop: clients then come back.

    A stream that ended in order would tell them that there is no more.
    """

    open: "set[_Events]" = set()  # noqa: RUF012 — all of this process

    async def stream_response(self, send: Send) -> None:
        self._streaming = asyncio.create_task(super().stream_response(send))
        self.open.add(self)
        try:
            await self._streaming
        except asyncio.CancelledError:
            self._streaming.cancel()
            with suppress(asyncio.CancelledError):
                await self._streaming
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self.open.discard(self)

    def break_off(self) -> None:
        """Ends it without a word."""
        self._streaming.cancel()


def break_off_streams() -> None:
    """Breaks off every stream of server-sent events in this process. Of WebSockets the server takes care itself."""
    for events in list(_Events.open):
        events.break_off()


class GraphQLApp(GraphQL[Context, None]):
    """Strawberry's ASGI app, made to keep to the specification."""

    request_adapter_class = _Request
    graphql_transport_ws_handler_class = _Socket

    def __init__(
        self,
        context_of: ContextOf,
        page: Page | None,
        max_body_bytes: int,
        allowed_origins: Sequence[str],
        documents: StoredDocuments,
        room: Room,
    ) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL),
            allowed_origins=allowed_origins,
        )
        self.documents = documents
        self._context_of = context_of
        self._page = page
        self._max_body_bytes = max_body_bytes
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            response = await self._answer(Request(scope, self._bounded(receive)))
            await response(scope, receive, send)
            return
        await super().__call__(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        accept = request.headers.get("accept")
        if self._page is not None and request.method in ("GET", "HEAD") and _wants_page(request):
            return self._page(request)
        wanted = negotiated(accept)
        media = wanted or (JSON if _wants_events(accept) else None)
        if media is None:
            return _error(JSON, 406, "NOT_ACCEPTABLE", f"accept {RESPONSE} or {JSON}")
        if request.method not in ("GET", "POST"):
            return _error(media, 405, "METHOD_NOT_ALLOWED", "use GET or POST", {"allow": "GET, POST"})
        try:
            if wanted is None:  # a stream: it is not for the answer that it waits
                return await self.run(request)
            with self._room:
                return await self.run(request)
        except Unavailable as full:
            return _refused(media, GraphQLRefused.until_later(503, full))
        except GraphQLRefused as refused:
            return _refused(media, refused)
        except DocumentRefused as refused:
            status = INVALID_STATUS if media == RESPONSE else HTTPStatus.OK
            return _error(media, status, refused.code, refused.message)
        except HTTPException as refused:
            if isinstance(refused.__cause__, InvalidOperationTypeError):
                message = f"{refused.__cause__.operation_type.value}s go by POST"
                return _error(media, 405, "METHOD_NOT_ALLOWED", message, {"allow": "POST"})
            code = "NOT_ACCEPTABLE" if refused.status_code == 406 else "BAD_REQUEST"
            return _error(media, refused.status_code, code, refused.reason)

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
        if isinstance(request, WebSocket):
            return None  # type: ignore[return-value]  # who calls is said by connection_init: see _Socket
        return await self._context_of(request)

    async def context_of_socket(self, socket: WebSocket, said: Mapping[str, object]) -> Context:
        """Who calls over a WebSocket, by what its `connection_init` said and else by its handshake. As `context_of`."""
        given = {name.lower(): value for name, value in said.items() if isinstance(value, str)}
        given = {name: value for name, value in given.items() if name in _CREDENTIALS and value.isascii()}
        # A key that was said is not to be beaten by one in the handshake, and least of all by a cookie.
        named = {"authorization", "x-api-key"} & given.keys()
        dropped = given.keys() | ({"authorization", "x-api-key", "cookie"} if named else set())
        headers = [item for item in socket.scope["headers"] if item[0].decode("latin-1").lower() not in dropped]
        headers += [(name.encode(), value.encode()) for name, value in given.items()]
        return await self._context_of(HTTPConnection({**socket.scope, "headers": headers}))

    async def create_streaming_response(
        self,
        request: Request | WebSocket,
        stream: Callable[[], AsyncIterator[str]],
        sub_response: Response,
        headers: Mapping[str, str],
    ) -> Response:
        return _Events(stream(), headers=headers)

    async def parse_http_body(self, request: AsyncHTTPRequestAdapter) -> GraphQLRequestData | list[GraphQLRequestData]:
        if request.method == "POST" and (request.content_type or "").partition(";")[0].strip() != JSON:
            raise GraphQLRefused(415, "UNSUPPORTED_MEDIA_TYPE", f"send the request as {JSON}")
        data = await self._usual_data(request) or await super().parse_http_body(request)
        if isinstance(data, list):
            return data
        data = replace(data, query=self.documents.text_of(data.query, data.extensions))
        # Some clients accept everything with everything: only what is a subscription, or must be, is streamed.
        if _is_subscription(data):
            if data.protocol == "http":
                reason = "subscriptions are streamed: accept text/event-stream, or open a WebSocket"
                raise HTTPException(HTTPStatus.NOT_ACCEPTABLE, reason)
        elif data.protocol == "sse" and negotiated(request.headers.get("accept")) is not None:
            data = replace(data, protocol="http")
        return data

    async def _usual_data(self, request: AsyncHTTPRequestAdapter) -> GraphQLRequestData | None:
        """What is posted as it should be and asks for JSON alone. Of the rest Strawberry says what is wrong with it."""
        accept = request.headers.get("accept") or ""
        if request.method != "POST" or _wants_events(accept) or "multipart" in accept.lower():
            return None
        given = self.parse_json(await request.get_body())
        match given:
            case {"query": str(query)}:
                variables, extensions = given.get("variables"), given.get("extensions")
                if isinstance(variables, dict | None) and isinstance(extensions, dict | None):
                    return GraphQLRequestData(query, variables, given.get("operationName"), extensions)
        return None

    def parse_json(self, data: str | bytes) -> Any:
        parsed = super().parse_json(data)
        if not isinstance(parsed, dict | list):
            raise HTTPException(400, "a JSON object is wanted")
        return parsed

    def decode_json(self, data: str | bytes) -> object:
        try:
            decoded: object = exact_json.parsed(data.encode() if isinstance(data, str) else data)
        except json.JSONDecodeError:
            raise
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from error
        return decoded

    def encode_json(self, data: object) -> str:
        return orjson.dumps(data).decode()  # text, because a WebSocket sends bytes as binary frames

    async def get_sub_response(self, request: Request | WebSocket) -> Response:
        response = await super().get_sub_response(request)
        response.media_type = negotiated(request.headers.get("accept"))
        return response

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        answer = process_result(result)
        if result.data is None and result.errors and all(map(_is_of_request, result.errors)):
            del answer["data"]  # nothing was run, which is not the same as a null
        return answer

    def create_response(
        self, response_data: GraphQLHTTPResponse | list[GraphQLHTTPResponse], sub_response: Response
    ) -> Response:
        media = sub_response.media_type or JSON
        status = INVALID_STATUS if media == RESPONSE and "data" not in response_data else HTTPStatus.OK
        headers = {}
        if (after := _to_come_back_after(response_data)) is not None:
            status, headers = HTTPStatus.SERVICE_UNAVAILABLE, {"retry-after": _seconds(after)}
        response = Response(orjson.dumps(response_data), status, headers, media_type=f"{media}; charset=utf-8")
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


def _wants_events(accept: str | None) -> bool:
    return accept is not None and "text/event-stream" in accept.lower()


def _is_of_request(error: GraphQLError) -> bool:
    return error.path is None and (error.extensions or {}).get("code") != "OPERATION_TIMEOUT"


def _is_subscription(data: GraphQLRequestData) -> bool:
    if data.query is None or "subscription" not in data.query:
        return False
    try:
        operation = get_operation_ast(document_of(data.query), data.operation_name)
    except GraphQLError:  # said later, and better
        return False
    return operation is not None and operation.operation.value == "subscription"


def _to_come_back_after(answer: GraphQLHTTPResponse | list[GraphQLHTTPResponse]) -> float | None:
    """Seconds, when nothing at all could be answered because the database is away."""
    if isinstance(answer, list):
        return None
    errors: list[Any] = answer.get("errors") or []
    if not errors or any(value is not None for value in (answer.get("data") or {}).values()):
        return None
    told = (error.get("extensions") or {} for error in errors)
    return next((each["retryAfterSeconds"] for each in told if each.get("code") == Unavailable.code), None)


def _seconds(span: float) -> str:
    return str(max(1, ceil(span)))


def _refused(media: str, refused: GraphQLRefused) -> Response:
    return _error(media, refused.status, refused.code, refused.message, refused.headers)


def _error(media: str, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    body = orjson.dumps({"errors": [{"message": message, "extensions": {"code": code}}]})
    return Response(body, status, headers, f"{media}; charset=utf-8")
