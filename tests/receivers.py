"""Receivers on loopback for the tests, polite and hostile: what they answer is scripted, what came is kept.

    async with Receiver() as receiver:                                   # answers 200
    async with Receiver(500, 500, 200) as receiver:                      # in turn; the last one repeats
    async with Receiver(Answer(302, [("Location", "/elsewhere")])) as receiver:
    async with Receiver(lambda request: 410 if request.path == "/gone" else 200) as receiver:
    async with Receiver(header_drip) as receiver:                        # any `async def behaviour(exchange)`
        ...
        first, *_ = await receiver.wait_for(1)
        assert first.header("Content-Type") == "application/json"

`receiver.answers` may be changed at any moment. `in_a_thread` runs one beside a test that blocks its loop.
"""

import asyncio
import contextlib
import functools
import gzip
import inspect
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, cast

import httptools

from workers.delivery_errors import NameNotResolved


@dataclass(frozen=True)
class Received:
    """One request, as it came."""

    method: str
    path: str
    """With the query, if there was one."""
    headers: Sequence[tuple[str, str]]
    body: bytes
    time: float
    """Seconds since the epoch, when the last byte was in."""

    def header(self, name: str) -> str | None:
        """The value of the first header of this name, in whatever case it was written."""
        return next((value for known, value in self.headers if known.lower() == name.lower()), None)


@dataclass(frozen=True)
class Answer:
    """A whole answer. `delay`: seconds to wait first. Content-Length is added."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    delay: float = 0.0

    def to_bytes(self) -> bytes:
        phrase = HTTPStatus(self.status).phrase if self.status in set(HTTPStatus) else "Unheard Of"
        length = [] if self.status == 204 else [("Content-Length", str(len(self.body)))]
        lines = [f"HTTP/1.1 {self.status} {phrase}", *(f"{name}: {value}" for name, value in [*self.headers, *length])]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


class Exchange:
    """A request and the wire it came over, for a behaviour that writes its own answer."""

    def __init__(self, request: Received, transport: asyncio.Transport, writable: asyncio.Event) -> None:
        self.request = request
        self._transport = transport
        self._writable = writable

    async def write(self, data: bytes) -> None:
        """Write, and wait while the other side does not read."""
        self._transport.write(data)
        await asyncio.sleep(0)  # for a behaviour without end, to be told that the connection is gone
        await self._writable.wait()

    def close(self) -> None:
        """Close in order, after what was written."""
        self._transport.close()

    def half_close(self) -> None:
        """Close our direction and keep listening."""
        self._transport.write_eof()

    def reset(self) -> None:
        """Break off with a TCP reset."""
        no_lingering = struct.pack("ii", 1, 0)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_lingering)
        self._transport.abort()


Behaviour = Callable[[Exchange], Awaitable[None]]
Choice = Callable[[Received], int | Answer]
Script = int | Answer | Choice | Behaviour


class Receiver:
    """An HTTP/1.1 receiver with keep-alive, on a free port unless told one.

    `answers` are given in turn and the last repeats. `reads=False` makes it accept connections and read nothing.
    """

    def __init__(
        self,
        *answers: Script,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        reads: bool = True,
    ) -> None:
        self.answers: Sequence[Script] = answers or (200,)
        self.requests: list[Received] = []
        self.connections = 0
        """Accepted since the start; those that failed in the TLS handshake are not counted."""
        self.host = host
        self.port = port
        self.reads = reads
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._open: set[_Wire] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrivals: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._open)

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/hook"

    async def wait_for(self, count: int, timeout: float = 10) -> list[Received]:
        """The requests so far, as soon as there are `count`; fails when `timeout` seconds pass without one more."""
        if len(self.requests) < count:
            arrival = asyncio.get_running_loop().create_future()
            self._arrivals.append((count, arrival))
            while not arrival.done():
                came = len(self.requests)
                await asyncio.wait([arrival], timeout=timeout)
                if len(self.requests) == came:
                    raise AssertionError(f"{came} of {count} requests came, and no more within {timeout:g} s")
        return list(self.requests)

    async def start(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Wire(self), self.host, self.port, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and break off what is open; the port then refuses connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.break_off()
        while self._open:  # noqa: ASYNC110 - the loop tells no other way
            await asyncio.sleep(0)

    def break_off(self) -> None:
        """Close every open connection at once, as a receiver does that restarts."""
        for wire in tuple(self._open):
            wire.transport.abort()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def _answer(self, request: Received, wire: "_Wire") -> None:
        script = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(request)
        for count, arrival in self._arrivals:
            if count <= len(self.requests) and not arrival.done():
                arrival.set_result(None)
        if inspect.iscoroutinefunction(script):
            task = asyncio.ensure_future(script(Exchange(request, wire.transport, wire.writable)))
            wire.task = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        chosen = cast(Choice, script)(request) if callable(script) else script
        answer = Answer(chosen) if isinstance(chosen, int) else chosen
        if answer.delay:
            asyncio.get_running_loop().call_later(answer.delay, wire.transport.write, answer.to_bytes())
        else:
            wire.transport.write(answer.to_bytes())
        if (request.header("Connection") or "").lower() == "close":
            wire.transport.close()


class _Wire(asyncio.Protocol):
    """One accepted connection. The `on_…` methods are httptools' callbacks."""

    def __init__(self, receiver: Receiver) -> None:
        self.task: asyncio.Future[None] | None = None
        self.transport: asyncio.Transport
        self.writable = asyncio.Event()
        self.writable.set()
        self._receiver = receiver
        self._parser: Any = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._receiver.connections += 1
        self._receiver._open.add(self)
        if not self._receiver.reads:
            # Both loops begin to read only after this method.
            asyncio.get_running_loop().call_soon(self.transport.pause_reading)

    def connection_lost(self, error: Exception | None) -> None:
        self._receiver._open.discard(self)
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        if self._receiver.reads:
            self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._path = b""
        self._headers: list[tuple[str, str]] = []
        self._body = b""

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_body(self, piece: bytes) -> None:
        self._body += piece

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        received = Received(method, self._path.decode(), self._headers, self._body, time.time())
        self._receiver._answer(received, self)


@contextlib.contextmanager
def in_a_thread(receiver: Receiver) -> Iterator[Receiver]:
    """Run `receiver` on a loop in a thread of its own, for a test that blocks its own loop.

    `requests` may be read and `answers` set from any thread; `wait_for` belongs to the receiver's loop.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="receiver")
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(receiver.start(), loop).result(10)
        yield receiver
    finally:
        asyncio.run_coroutine_threadsafe(receiver.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


class ScriptedResolver:
    """A resolver of made-up names: each has its answers, given in turn; the last repeats.

    `ScriptedResolver({"rebound.test": [["93.184.215.14"], ["127.0.0.1"]]})`
    """

    def __init__(self, answers: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self.answers = {host: list(turns) for host, turns in answers.items()}
        self.questions: list[str] = []

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.questions.append(host)
        turns = self.answers.get(host, [[]])
        addresses = turns.pop(0) if len(turns) > 1 else turns[0]
        if not addresses:
            raise NameNotResolved(f"{host} did not resolve")
        return addresses


# What hostile and careless receivers do.

DRIP = 0.02
"""Seconds between two bytes of a drip."""


async def silence(exchange: Exchange) -> None:
    """Take the request and never say anything."""
    await asyncio.Event().wait()


async def header_drip(exchange: Exchange) -> None:
    """One more header every moment, without end."""
    await exchange.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        await exchange.write(b"X: y\r\n")
        await asyncio.sleep(DRIP)


async def endless_header_line(exchange: Exchange) -> None:
    """One header whose value never ends."""
    await exchange.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        await exchange.write(b"x" * 65_536)


async def endless_reason_phrase(exchange: Exchange) -> None:
    """A status line that never ends."""
    await exchange.write(b"HTTP/1.1 200 O")
    while True:
        await exchange.write(b"K" * 65_536)


async def ten_megabytes_of_headers(exchange: Exchange) -> None:
    """Ten thousand headers of a kilobyte."""
    await exchange.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(10_000):
        await exchange.write(b"X-%05d: %b\r\n" % (number, b"x" * 1_013))
    await exchange.write(b"Content-Length: 0\r\n\r\n")


async def body_drip(exchange: Exchange) -> None:
    """A promised body that comes a byte at a time."""
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        await exchange.write(b".")
        await asyncio.sleep(DRIP)


async def endless_chunks(exchange: Exchange) -> None:
    """A chunked body as fast as it is read, without end."""
    await exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await exchange.write(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")


async def endless_chunk_extension(exchange: Exchange) -> None:
    """A chunk whose extension never ends."""
    await exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=")
    while True:
        await exchange.write(b"x" * 65_536)


async def endless_trailer(exchange: Exchange) -> None:
    """A complete chunked body, and then a trailer that never ends."""
    await exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: ")
    while True:
        await exchange.write(b"x" * 65_536)


@functools.cache
def ten_megabytes_in_ten_kilobytes() -> bytes:
    """What `gzip_bomb` sends: zeros."""
    return gzip.compress(bytes(10_000_000))


async def gzip_bomb(exchange: Exchange) -> None:
    """A small body that is a thousand times as large when decoded."""
    answer = Answer(headers=[("Content-Encoding", "gzip")], body=ten_megabytes_in_ten_kilobytes())
    await exchange.write(answer.to_bytes())


async def half_close(exchange: Exchange) -> None:
    """Close one direction without an answer and keep the other open."""
    exchange.half_close()
    await asyncio.Event().wait()


async def reset_in_mid_body(exchange: Exchange) -> None:
    """Half of the promised body, then a TCP reset."""
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    await asyncio.sleep(DRIP)
    exchange.reset()


async def short_body(exchange: Exchange) -> None:
    """Less than Content-Length says, then an orderly close."""
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    exchange.close()


async def long_body(exchange: Exchange) -> None:
    """More than Content-Length says."""
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, world")


async def garbage(exchange: Exchange) -> None:
    """Something that is not HTTP."""
    await exchange.write(b"\x16\x03\x01 SSH-2.0-OpenSSH_9.2\r\n" * 10)


async def close_without_answer(exchange: Exchange) -> None:
    """Take the request and hang up."""
    exchange.close()


async def close_under_keep_alive(exchange: Exchange) -> None:
    """Answer as if the connection were to stay, and close it."""
    await exchange.write(Answer().to_bytes())
    exchange.close()


async def answer_twice(exchange: Exchange) -> None:
    """Two answers to one request."""
    await exchange.write(Answer(200, body=b"one").to_bytes() + Answer(500, body=b"two").to_bytes())


async def interim_flood(exchange: Exchange) -> None:
    """Interim answers without end."""
    while True:
        await exchange.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)


async def switch_protocols(exchange: Exchange) -> None:
    """An upgrade that nobody asked for."""
    await exchange.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
