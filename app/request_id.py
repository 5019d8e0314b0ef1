"""Every answer carries an X-Request-Id, and whatever is logged of the request carries the same."""

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.rest.request_id import HEADER
from app.rest.request_id import request_id_of as of_headers

_NAME = HEADER.lower().encode()


class RequestIds:
    """Settles each request's id at the door: the caller's own when it is well formed, else a fresh one.

    What is behind the door finds it in the request's headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(HTTPConnection(scope)).encode()
        scope["headers"] = [*(item for item in scope["headers"] if item[0] != _NAME), (_NAME, request_id)]

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [item for item in message.get("headers", ()) if item[0].lower() != _NAME]
                message["headers"] = [*headers, (_NAME, request_id)]
            await send(message)

        await self._app(scope, receive, send_with_id)


def request_id_of(connection: HTTPConnection) -> str:
    """The id of a request; for a WebSocket, of its connection."""
    return of_headers(connection.headers)
