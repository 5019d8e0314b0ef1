"""A fast receiver in a process of its own. It answers 200, and keeps when each event arrived.

    python -m benchmarks.receiver PORT

A path whose first part is the name of a behaviour, as in `/silence/7`, gets that in the place of an answer.

`GET /~count` answers how many requests came, `GET /~counts` how many events at each path, `GET /~arrivals` when each
event came first, by its `webhook-id`, in nanoseconds of the clock that all processes of a machine share
(CLOCK_MONOTONIC), and `GET /~arrivals/7` the same of the path `/7`; `GET /~forget` forgets them.
"""

import asyncio
import socket
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Callable

import orjson
import uvloop

from benchmarks.wire import OK, Behaviour, Client, Listening, Message, get

_PRIVATE = b"/~"
_DRIP_S = 0.5
_SLOW_S = 1.0
_NO_LINGERING = struct.pack("ii", 1, 0)


def slow(transport: asyncio.Transport) -> None:
    """An answer after a second."""
    _later(_SLOW_S, transport, lambda: transport.write(OK))


def silence(transport: asyncio.Transport) -> None:
    """Nothing, ever."""


def header_drip(transport: asyncio.Transport) -> None:
    """Headers that never end, byte by byte."""
    transport.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    _drip(transport, b"x")


def body_drip(transport: asyncio.Transport) -> None:
    """A long body, byte by byte."""
    transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    _drip(transport, b"x")


def endless_chunks(transport: asyncio.Transport) -> None:
    """A body without end, as fast as it is taken."""
    transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    _pour(transport, b"2000\r\n%s\r\n" % (b"x" * 0x2000))


def reset_in_mid_body(transport: asyncio.Transport) -> None:
    """Half of the promised body, and then a TCP reset."""
    transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")

    def reset() -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
        transport.abort()

    _later(_DRIP_S, transport, reset)


BEHAVIOURS: dict[bytes, Behaviour] = {
    one.__name__.encode(): one
    for one in (slow, silence, header_drip, body_drip, endless_chunks, reset_in_mid_body)
}  # fmt: skip


class Ear:
    """What the receiver heard."""

    def __init__(self) -> None:
        self.count = 0
        self.arrivals: defaultdict[str, dict[str, int]] = defaultdict(dict)
        """Of each path, when each event came first."""

    def hear(self, message: Message) -> bytes | Behaviour | None:
        """Takes a delivery, or answers a question about them."""
        path = message.path
        if path.startswith(_PRIVATE):
            return self._told(path.removeprefix(_PRIVATE).decode())
        self.count += 1
        self.arrivals[path.decode()].setdefault(message.header(b"webhook-id").decode(), time.monotonic_ns())
        return BEHAVIOURS.get(path.split(b"/", 2)[1])

    def _told(self, question: str) -> bytes:
        match question.partition("/"):
            case "count", _, _:
                return b"%d" % self.count
            case "counts", _, _:
                return orjson.dumps({path: len(events) for path, events in self.arrivals.items()})
            case "arrivals", "/", path:
                return orjson.dumps(self.arrivals["/" + path])
            case "arrivals", _, _:
                return orjson.dumps(self._first_arrivals())
            case "forget", _, _:
                self.count = 0
                self.arrivals.clear()
        return b""

    def _first_arrivals(self) -> dict[str, int]:
        first: dict[str, int] = {}
        for events in self.arrivals.values():
            for event_id, at in events.items():
                first[event_id] = min(at, first.get(event_id, at))
        return first


class Receiver:
    """The receiver's process, as others ask it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._client = Client("127.0.0.1", port)

    def origin(self, number: int) -> str:
        """One of a hundred origins, for webhooks that are to share no connections."""
        return f"http://127.0.0.{1 + number % 100}:{self._port}"

    async def count(self) -> int:
        """How many requests came."""
        return int(await self._ask("count"))

    async def counts(self) -> dict[str, int]:
        """How many events came to each path."""
        counts: dict[str, int] = orjson.loads(await self._ask("counts"))
        return counts

    async def arrivals(self, path: str = "") -> dict[str, int]:
        """When each event came first, in nanoseconds of `time.monotonic_ns`; to one path, or to any."""
        arrivals: dict[str, int] = orjson.loads(await self._ask(f"arrivals{path}"))
        return arrivals

    async def forget(self) -> None:
        """As if nothing had come."""
        await self._ask("forget")

    async def wait_for(self, count: int, seconds: float) -> None:
        """Until so many came. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while await self.count() < count:
                await asyncio.sleep(0.01)

    async def listens(self) -> None:
        """Until it answers. Raises TimeoutError after 10 seconds."""
        async with asyncio.timeout(10):
            while True:
                try:
                    await self.count()
                    return
                except OSError:
                    await asyncio.sleep(0.02)

    async def _ask(self, what: str) -> bytes:
        return (await self._client.ask(get(self._client.host, f"/~{what}"))).body


def _later(seconds: float, transport: asyncio.Transport, act: Callable[[], None]) -> None:
    """Acts by then, unless the other side has left."""
    asyncio.get_running_loop().call_later(seconds, lambda: None if transport.is_closing() else act())


def _drip(transport: asyncio.Transport, drop: bytes) -> None:
    def act() -> None:
        transport.write(drop)
        _later(_DRIP_S, transport, act)

    _later(_DRIP_S, transport, act)


def _pour(transport: asyncio.Transport, data: bytes) -> None:
    """Writes without end, and no more ahead than a few packets."""
    if not transport.get_write_buffer_size():
        transport.write(data)
    _later(0.001, transport, lambda: _pour(transport, data))


async def main(port: int) -> None:
    """Listens until it is ended."""
    ear = Ear()
    # 1,000 connect within a moment.
    server = await asyncio.get_running_loop().create_server(lambda: Listening(ear.hear), "0.0.0.0", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
