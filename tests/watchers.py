"""Clients of live streams that see every message, over WebSockets and as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import websockets
from websockets.asyncio.client import ClientConnection, connect

PROTOCOL = websockets.Subprotocol("graphql-transport-ws")
Json = dict[str, Any]


@dataclass
class Socket:
    """A WebSocket that speaks graphql-transport-ws."""

    wire: ClientConnection

    async def send(self, **message: Any) -> None:
        await self.wire.send(json.dumps(message))

    async def take(self) -> Json:
        """The next message."""
        async with asyncio.timeout(20):
            message: Json = json.loads(await self.wire.recv())
        return message

    async def subscribe(self, document: str, id: str = "1", **variables: Any) -> None:
        await self.send(id=id, type="subscribe", payload={"query": document, "variables": variables})

    async def data(self, id: str = "1") -> Any:
        """The one field of the next message, which has no errors."""
        message = await self.take()
        assert (message["type"], message["id"]) == ("next", id), message
        assert "errors" not in message["payload"], message
        [value] = message["payload"]["data"].values()
        return value

    async def closed(self) -> tuple[int, str]:
        """How the server closed it."""
        async with asyncio.timeout(20):
            await self.wire.wait_closed()
        assert self.wire.close_code is not None
        return self.wire.close_code, self.wire.close_reason or ""


@asynccontextmanager
async def open_socket(address: str, *, headers: dict[str, str] | None = None, **options: Any) -> AsyncIterator[Socket]:
    """Connected, and nothing said."""
    options = {"subprotocols": [PROTOCOL], "proxy": None, "max_size": None, **options}
    async with connect(f"ws://{address}/graphql", additional_headers=headers, **options) as wire:
        yield Socket(wire)


@asynccontextmanager
async def connected(address: str, token: str, **options: Any) -> AsyncIterator[Socket]:
    """Connected and acknowledged."""
    async with open_socket(address, **options) as socket:
        await socket.send(type="connection_init", payload={"authorization": f"Bearer {token}"})
        assert await socket.take() == {"type": "connection_ack"}
        yield socket


@dataclass
class Events:
    """An answer of server-sent events."""

    response: httpx.Response
    lines: AsyncIterator[str]

    async def take(self) -> tuple[str, Any]:
        """The next event: its name and its data. Comments are passed over. Raises StopAsyncIteration at the end."""
        name = ""
        async with asyncio.timeout(20):
            while True:
                line = await anext(self.lines)
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data:") and name:
                    data = line.removeprefix("data:").strip()
                    return name, json.loads(data) if data else None

    async def data(self) -> Any:
        """The one field of the next event, which has no errors."""
        name, payload = await self.take()
        assert name == "next", (name, payload)
        assert "errors" not in payload, payload
        [value] = payload["data"].values()
        return value


@asynccontextmanager
async def streamed(
    address: str,
    token: str | None,
    document: str,
    *,
    accept: str = "text/event-stream",
    headers: dict[str, str] | None = None,
    **variables: Any,
) -> AsyncIterator[Events]:
    """A subscription by POST. `headers`: more of them, as a browser's cookie in the place of a token."""
    headers = {"accept": accept, "accept-encoding": "gzip", **(headers or {})}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    body = {"query": document, "variables": variables}
    async with (
        httpx.AsyncClient(timeout=20, trust_env=False) as client,
        client.stream("POST", f"http://{address}/graphql", json=body, headers=headers) as response,
    ):
        yield Events(response, response.aiter_lines())
