"""The httpx transport of deliveries: what was vetted is what is dialed, and a receiver gets its time and no more.

httpx's own transport resolves a name after anyone could have checked it, times each read apart, decodes what it reads,
and scans its whole pool for each request (150 to 300 requests/s at 50 in flight). This one

- resolves once, vets every answer and dials the literal address (`workers.resolver`),
- puts resolving, connecting, TLS, sending and reading under one deadline,
- reads the answer raw and to a cap (`workers.connection`),
- keeps connections alive in a pool that takes and gives in constant time.

HTTP/1.1 only, and no redirects, cookies, proxies or environment variables. Errors are drawn in
`workers.delivery_errors`.
"""

import asyncio
import contextlib
import errno
import os
import re
import socket
import ssl
from collections import deque
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache

import certifi
import httpx

from workers.address_guard import AddressGuard
from workers.connection import AnswerLimits, AnswerReader, Connection, Origin
from workers.delivery_errors import (
    BlockedAddress,
    NameNotResolved,
    ResponseHeadTooLarge,
    TLSFailed,
    outcome_of,
    outcome_of_status,
)
from workers.resolver import Resolver, SystemResolver, vetted_addresses

__all__ = [
    "AnswerLimits",
    "BlockedAddress",
    "DeliveryRequest",
    "DeliveryResponse",
    "DeliveryTransport",
    "NameNotResolved",
    "ResponseHeadTooLarge",
    "TLSFailed",
    "outcome_of",
    "outcome_of_status",
    "tls_context",
]

STAGGER = 0.25
"""Seconds an address may stay silent before the next one is dialed beside it (RFC 8305 §8)."""
ADDRESSES_TRIED = 6
"""Of one host, at most. All are vetted."""


def tls_context() -> ssl.SSLContext:
    """TLS 1.2 or newer, names checked, trusting the system's authorities; Mozilla's where the system has none."""
    paths = ssl.get_default_verify_paths()
    system_has_some = paths.cafile or (paths.capath and os.listdir(paths.capath))
    context = ssl.create_default_context(cafile=None if system_has_some else certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class DeliveryRequest(httpx.Request):
    """A POST with headers that are sent as they stand, Host and Content-Length among them.

    httpx's own request takes 10 µs to put in order what nobody reads again; `headers` and `stream` are made when
    somebody does. `total`: the seconds for everything from the name to the last byte. Raises UnicodeEncodeError for
    headers that are not ASCII.
    """

    def __init__(self, url: httpx.URL, headers: Iterable[tuple[str, str]], body: bytes, *, total: float) -> None:
        self.method = "POST"
        self.url = url
        self.extensions = {"timeout": {"total": total}}
        self.raw_headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers]
        self._content = body

    @cached_property
    def headers(self) -> httpx.Headers:  # type: ignore[override]
        return httpx.Headers(self.raw_headers)

    @cached_property
    def stream(self) -> httpx.ByteStream:  # type: ignore[override]
        return httpx.ByteStream(self._content)


class DeliveryResponse(httpx.Response):
    """A complete response. `.content`, `.read()` and `.aread()` give the body as it came over the wire.

    `.extensions["truncated"]` tells whether the body was cut.
    """

    def __init__(self, answer: AnswerReader) -> None:
        body = bytes(answer.body)
        super().__init__(
            answer.status,
            headers=answer.headers,
            stream=httpx.ByteStream(body),
            extensions={"truncated": answer.truncated},
        )
        # httpx decodes a body when it reads it, and does not read what it has: so a bomb stays small. Giving it
        # `content=` would do the same after 20 µs of header keeping.
        self._content = body


class DeliveryTransport(httpx.AsyncBaseTransport):
    """Sends requests to strangers. Call `handle_async_request` directly: AsyncClient doubles the cost.

    `request.extensions["timeout"]` may carry `total`, the seconds for everything from the name to the last byte
    (`timeout` when absent), and `connect`, the seconds of that for reaching the receiver; httpx's other timeouts are
    each part of the total and not looked at.

    The cheapest request is a `DeliveryRequest`.

    `keep_alive`: seconds an idle connection is kept. `idle_per_origin`, `idle_in_all`: how many are.
    """

    def __init__(
        self,
        *,
        guard: AddressGuard | None = None,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
        limits: AnswerLimits | None = None,
        timeout: float = 15.0,
        keep_alive: float = 30.0,
        idle_per_origin: int = 20,
        idle_in_all: int = 1000,
    ) -> None:
        self.guard = guard or AddressGuard()
        self.resolver = resolver or SystemResolver()
        self.timeout = timeout
        self._tls = tls or tls_context()
        self._limits = limits or AnswerLimits()
        self._pool = _IdlePool(keep_alive, idle_per_origin, idle_in_all)
        self._connections: set[Connection] = set()
        self._closed = False
        self._all_lost = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and return the complete response; the errors are those of `workers.delivery_errors`."""
        if self._closed:
            raise RuntimeError("the transport is closed")
        origin = origin_of(request.url)
        message = request_bytes(request, await request.aread())
        timeouts = request.extensions.get("timeout", {})
        deadline = asyncio.get_running_loop().time() + timeouts.get("total", self.timeout)

        if connection := self._pool.take(origin):
            if self.guard.kind_refused(connection.peer):
                connection.abort()
            else:
                try:
                    return self._response(connection, await connection.exchange(message, deadline))
                except httpx.ReadError:
                    # The receiver closed the idle connection while our request was on its way, and so, in all
                    # likelihood, has not taken it: once more, on a connection of its own.
                    if connection.heard or self._closed:
                        raise
        connection = await self._dial(origin, deadline, timeouts.get("connect"))
        return self._response(connection, await connection.exchange(message, deadline))

    async def aclose(self) -> None:
        """Close every connection, idle or not; requests on their way end in ReadError."""
        self._closed = True
        self._pool.close()
        for connection in tuple(self._connections):
            connection.abort()
        if self._connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_lost.wait(), timeout=1)
        if isinstance(self.resolver, SystemResolver):
            self.resolver.close()

    def _response(self, connection: Connection, answer: AnswerReader) -> httpx.Response:
        if connection.reusable:
            if self._closed:
                connection.abort()
            else:
                self._pool.give(connection)
        return DeliveryResponse(answer)

    async def _dial(self, origin: Origin, deadline: float, connect_timeout: float | None) -> Connection:
        _, host, port = origin
        loop = asyncio.get_running_loop()
        latest = deadline if connect_timeout is None else min(deadline, loop.time() + connect_timeout)
        try:
            async with asyncio.timeout_at(latest):
                addresses = await vetted_addresses(host, port, self.resolver, self.guard)
                sock, peer = await _first_to_answer(addresses[:ADDRESSES_TRIED], port)
                connection = await self._open(Connection(origin, peer, self._limits, self._lost), sock)
        except TimeoutError:
            raise httpx.ConnectTimeout(f"no connection to {host} within the timeout") from None
        except OSError as error:
            raise httpx.ConnectError(f"no connection to {host}: {_connect_reason(error)}") from error
        if not connection.lost:
            self._connections.add(connection)
        if self._closed:
            connection.abort()
        return connection

    async def _open(self, connection: Connection, sock: socket.socket) -> Connection:
        scheme, host, _ = connection.origin
        secure = scheme == "https"
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                sock=sock,
                ssl=self._tls if secure else None,
                # A certificate names no root dot, and `example.com.` is `example.com`.
                server_hostname=host.rstrip(".") if secure else None,
            )
        except (OSError, ValueError) as error:
            # The socket is connected already, so it is TLS that failed; ValueError: no certificate names such a host.
            sock.close()
            raise TLSFailed(f"TLS with {host} failed: {_tls_reason(error)}") from error
        except BaseException:
            sock.close()
            raise
        return connection

    def _lost(self, connection: Connection) -> None:
        self._pool.forget(connection)
        self._connections.discard(connection)
        if self._closed and not self._connections:
            self._all_lost.set()


class _IdlePool:
    """Connections kept alive, the latest used first out.

    Two views of the same connections: by origin, and in the order they came to rest. In both the oldest stands first,
    so the oldest of all is also the first of its origin, and every step but `forget` takes constant time.
    """

    def __init__(self, keep_alive: float, per_origin: int, in_all: int) -> None:
        self._keep_alive = keep_alive
        self._per_origin = per_origin
        self._in_all = in_all
        self._by_origin: dict[Origin, deque[Connection]] = {}
        self._oldest_first: dict[Connection, None] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None

    def take(self, origin: Origin) -> Connection | None:
        """The connection to `origin` used last, now the caller's; None when there is none."""
        idle = self._by_origin.get(origin)
        if not idle:
            return None
        connection = idle[-1]
        self.forget(connection)
        return connection

    def give(self, connection: Connection) -> None:
        """Keep a reusable connection. When that is one too many, the oldest is closed."""
        loop = asyncio.get_running_loop()
        idle = self._by_origin.setdefault(connection.origin, deque())
        idle.append(connection)
        self._oldest_first[connection] = None
        connection.idle_since = loop.time()
        if len(idle) > self._per_origin:
            self._drop(idle[0])
        elif len(self._oldest_first) > self._in_all:
            self._drop(next(iter(self._oldest_first)))
        if self._sweep_timer is None:
            self._sweep_timer = loop.call_later(self._keep_alive, self._sweep)

    def forget(self, connection: Connection) -> None:
        """Keep this connection no longer, if it was kept."""
        if connection not in self._oldest_first:
            return
        del self._oldest_first[connection]
        idle = self._by_origin[connection.origin]
        if idle[-1] is connection:
            idle.pop()
        else:
            idle.remove(connection)
        if not idle:
            del self._by_origin[connection.origin]

    def close(self) -> None:
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for connection in tuple(self._oldest_first):
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        self.forget(connection)
        connection.abort()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while oldest := next(iter(self._oldest_first), None):
            rested_until = oldest.idle_since + self._keep_alive
            if rested_until > loop.time():
                self._sweep_timer = loop.call_at(rested_until, self._sweep)
                return
            self._drop(oldest)
        self._sweep_timer = None


async def _first_to_answer(addresses: Sequence[str], port: int) -> tuple[socket.socket, str]:
    """A socket connected to the first of `addresses` that answers, and that address (RFC 8305, "Happy Eyeballs").

    The next is dialed as soon as one fails, or when STAGGER seconds brought no answer. Raises the error of the first
    to fail when all did.
    """
    if len(addresses) == 1:
        return await _connected(addresses[0], port)
    waiting = deque(addresses)
    dialing: set[asyncio.Task[tuple[socket.socket, str]]] = set()
    failures: list[BaseException] = []
    try:
        while waiting or dialing:
            if waiting:
                dialing.add(asyncio.create_task(_connected(waiting.popleft(), port)))
            done, dialing = await asyncio.wait(
                dialing, timeout=STAGGER if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                if error := task.exception():
                    failures.append(error)
                    continue
                dialing |= done - {task}
                return task.result()
        raise failures[0]
    finally:
        for task in dialing:
            task.add_done_callback(_close_late_comer)
            task.cancel()


def _close_late_comer(task: asyncio.Task[tuple[socket.socket, str]]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result()[0].close()


async def _connected(address: str, port: int) -> tuple[socket.socket, str]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's delay off only for sockets that name it.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock, address


_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.6.2
_TARGET = re.compile(rb"[\x21-\x7e]+")
_ALLOWED_IN_VALUE = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])  # RFC 9110 §5.5


def origin_of(url: httpx.URL) -> Origin:
    """Whom a request for `url` goes to. Raises UnsupportedProtocol, and LocalProtocolError for a port there is not."""
    if url.scheme not in ("http", "https"):
        raise httpx.UnsupportedProtocol(f"{url.scheme or 'a missing scheme'} is neither http nor https")
    port = url.port if url.port is not None else 443 if url.scheme == "https" else 80
    if not 0 < port < 65_536:
        raise httpx.LocalProtocolError(f"there is no port {port}")
    return url.scheme, url.raw_host.decode("ascii"), port


def request_bytes(request: httpx.Request, body: bytes) -> bytes:
    """The request as it goes over the wire: `Host` first, the other headers in their order, the body unchanged.

    Raises LocalProtocolError for what could be read as a second header or a second request.
    """
    method, target = request.method.encode(), request.url.raw_path
    if not _TOKEN.fullmatch(method) or method in (b"HEAD", b"CONNECT"):
        raise httpx.LocalProtocolError("the method cannot be sent")
    if not _TARGET.fullmatch(target):
        raise httpx.LocalProtocolError("the URL holds characters that cannot be sent")
    host = length = None
    others: list[bytes] = []
    for name, value in request.raw_headers if isinstance(request, DeliveryRequest) else request.headers.raw:
        role = _role(name)
        if role is None or value.translate(None, _ALLOWED_IN_VALUE):
            raise httpx.LocalProtocolError(f"the header {name!r} holds characters that cannot be sent")
        match role:
            case "":
                pass
            case "host":
                if host is not None:
                    raise httpx.LocalProtocolError("there is more than one Host header")
                host = value
                continue
            case "content-length":
                length = value
            case "transfer-encoding":
                raise httpx.LocalProtocolError("a body is sent whole: Transfer-Encoding has no place")
        others += (name, b": ", value, b"\r\n")
    if host is None:
        raise httpx.LocalProtocolError("there is no Host header")
    if length != str(len(body)).encode() and (body or length is not None):
        raise httpx.LocalProtocolError("Content-Length is not the length of the body")
    return b"".join((method, b" ", target, b" HTTP/1.1\r\nHost: ", host, b"\r\n", *others, b"\r\n", body))


@lru_cache(maxsize=1024)
def _role(name: bytes) -> str | None:
    """What a header is called whatever its case, if it is one that we look at; else "". None: it is no header name."""
    if not _TOKEN.fullmatch(name):
        return None
    lower = name.lower().decode()
    return lower if lower in ("host", "content-length", "transfer-encoding") else ""


def _tls_reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return "the handshake was not completed"


_CONNECT_REASONS = {
    errno.ECONNREFUSED: "it was refused",
    errno.ECONNRESET: "it was reset",
    errno.EHOSTUNREACH: "the host cannot be reached",
    errno.ENETUNREACH: "the network cannot be reached",
}


def _connect_reason(error: OSError) -> str:
    # Not the error's own text, which holds the address dialed.
    return _CONNECT_REASONS.get(error.errno or 0, "it could not be made")
