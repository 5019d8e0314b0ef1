"""Subscribers that count what they are sent and hardly look at it, so that hundreds of them cost little."""

import asyncio
import re
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import cast

import orjson

from benchmarks.wire import END_OF_HEAD, post

_SKIPPED = re.compile(rb'"skipped":(\d+)')
_NO_MASK = bytes(4)
_TEXT, _PING, _PONG = 1, 9, 10


class Watcher(asyncio.Protocol):
    """One subscription. Counts the messages, and what the server says it left out."""

    def __init__(self, host: str, token: str, document: str) -> None:
        self.messages = 0
        self.skipped = 0
        self.is_open = True
        self._host, self._token, self._document = host, token, document
        self._read = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._beginning())

    def data_received(self, data: bytes) -> None:
        self._read += data
        for message in self._taken():
            if b'"skipped"' in message:
                self.messages += 1
                self.skipped += sum(map(int, _SKIPPED.findall(message)))

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False

    def close(self) -> None:
        """Hangs up."""
        self._transport.abort()

    @abstractmethod
    def _beginning(self) -> bytes:
        """What is sent as soon as there is a connection."""

    @abstractmethod
    def _taken(self) -> Iterator[bytes]:
        """The messages that have been read whole; what comes after them stays."""


class EventSource(Watcher):
    """Watches by server-sent events."""

    def _beginning(self) -> bytes:
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "text/event-stream"}
        return post(self._host, "/graphql", {"query": self._document}, headers)

    def _taken(self) -> Iterator[bytes]:
        *whole, self._read = self._read.split(b"\r\n\r\n")
        yield from whole


class Socket(Watcher):
    """Watches over a WebSocket, in graphql-transport-ws."""

    _is_upgraded = False

    def _beginning(self) -> bytes:
        lines = [
            "GET /graphql HTTP/1.1",
            f"Host: {self._host}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Protocol: graphql-transport-ws",
        ]
        return "\r\n".join(lines).encode() + END_OF_HEAD

    def _taken(self) -> Iterator[bytes]:
        if not self._is_upgraded:
            head, found, self._read = self._read.rpartition(END_OF_HEAD)
            if not found:
                return
            assert head.startswith(b"HTTP/1.1 101 "), head
            self._is_upgraded = True
            self._say(type="connection_init", payload={"authorization": f"Bearer {self._token}"})
            self._say(type="subscribe", id="1", payload={"query": self._document})
        while len(self._read) >= 2:
            opcode, length, begin = self._read[0] & 15, self._read[1], 2
            if length > 125:
                begin = 4 if length == 126 else 10
                length = int.from_bytes(self._read[2:begin])
            if len(self._read) < begin + length:
                return
            payload, self._read = self._read[begin : begin + length], self._read[begin + length :]
            if opcode == _PING:
                self._send(_PONG, payload)
            yield payload

    def _say(self, **message: object) -> None:
        self._send(_TEXT, orjson.dumps(message))

    def _send(self, opcode: int, payload: bytes) -> None:
        """A frame, masked as clients must, with a mask that changes nothing."""
        size = len(payload)
        length = bytes([128 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
        self._transport.write(bytes([128 | opcode]) + length + _NO_MASK + payload)


@asynccontextmanager
async def watching(
    kind: type[Watcher], count: int, address: tuple[str, int], token: str, document: str
) -> AsyncIterator[list[Watcher]]:
    """So many subscribers, connected; whether they watch yet, the first message tells."""
    loop, host = asyncio.get_running_loop(), f"{address[0]}:{address[1]}"
    watchers: list[Watcher] = []
    try:
        for _ in range(count):
            _, watcher = await loop.create_connection(lambda: kind(host, token, document), *address)
            watchers.append(watcher)
        yield watchers
    finally:
        for watcher in watchers:
            watcher.close()
