"""One connection to a receiver, and the reading of its answers: asyncio's Protocol below, httptools' parser above.

A receiver is a stranger. What it sends is counted before it is kept, is never decoded, and ends at the deadline.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import httptools
import httpx

from workers.delivery_errors import ResponseHeadTooLarge

Origin = tuple[str, str, int]
"""Whom a connection was made for: scheme, host and port. Only requests to the same three may use it again."""


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """How much of one answer is read. Memory is bounded by these and one read of the socket (256 KiB)."""

    header_count: int = 200
    head_bytes: int = 64 * 1024
    """Status line and headers, interim (1xx) answers included. As much again is read of chunk sizes and trailers."""
    body_bytes: int = 64 * 1024
    """Kept of the body, as it came over the wire; after that the connection is dropped."""
    interim_answers: int = 10


class AnswerReader:
    """Reads one HTTP/1.1 answer. The `on_…` methods are httptools' callbacks."""

    def __init__(self, limits: AnswerLimits) -> None:
        self.status = 0
        """The status code; 0 until the headers of the final answer are complete."""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.truncated = False
        self.complete = False
        self.keep_alive = False
        self._limits = limits
        self._interim_answers = 0
        self._header_bytes = 0
        self._overhead = 0  # bytes that were not body: what the parser may be holding for us
        self._measured = False  # whether the answer says where its body ends
        self._error: httpx.RemoteProtocolError | None = None  # raised in a callback, through the parser
        self._parser: Any = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> bool:
        """Take in what arrived; True when the answer is done, complete or cut at its limit.

        Raises RemoteProtocolError and ResponseHeadTooLarge.
        """
        self._overhead += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._error is not None:
                raise self._error from None
            if not self.complete and not self.truncated:
                raise httpx.RemoteProtocolError(f"the answer is not HTTP/1.1: {error}") from None
        if not self.complete and self._overhead > self._limits.head_bytes:
            if not self.status:
                raise self._head_too_large()
            if self._overhead > 2 * self._limits.head_bytes:  # endless chunk extensions or trailers
                self.truncated = True
        return self.complete or self.truncated

    def ends_with_connection(self) -> bool:
        """Whether the closing of the connection completes the answer: its body had no stated end."""
        return self.status > 0 and not self._measured

    def let_go(self) -> None:
        """Drop the parser, which refers back to this reader."""
        self._parser = None

    def on_message_begin(self) -> None:
        if self.complete:  # a second answer to one request
            self.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:  # a trailer, or a second answer
            return
        self._header_bytes += len(name) + len(value) + 4
        if len(self.headers) == self._limits.header_count or self._header_bytes > self._limits.head_bytes:
            raise self._head_too_large()
        self.headers.append((name, value))
        match name.lower():
            case b"content-length":
                self._measured = True
            case b"transfer-encoding":
                self._measured = b"chunked" in value.lower()

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise self._refusal(f"the answer is not HTTP/1.1: it says HTTP/{version}")
        if status < 100:
            raise self._refusal(f"the answer is not HTTP/1.1: there is no status {status:03}")
        if status == 101:
            raise self._refusal("the answer switches to another protocol")
        if status >= 200:
            self.status = status
            return
        self._interim_answers += 1
        if self._interim_answers > self._limits.interim_answers:
            raise self._refusal("too many interim (1xx) answers")
        self.headers.clear()
        self._measured = False

    def on_body(self, piece: bytes) -> None:
        if self.complete:
            return
        self._overhead -= len(piece)
        room = self._limits.body_bytes - len(self.body)
        self.body += piece[:room]
        if len(piece) > room:
            self.truncated = True
            raise _EnoughRead

    def on_message_complete(self) -> None:
        if self.status and not self.complete:
            self.complete = True
            self.keep_alive = self._parser.should_keep_alive()

    def _refusal(self, why: str) -> httpx.RemoteProtocolError:
        self._error = httpx.RemoteProtocolError(why)
        return self._error

    def _head_too_large(self) -> ResponseHeadTooLarge:
        lines, kib = self._limits.header_count, self._limits.head_bytes // 1024
        self._error = ResponseHeadTooLarge(f"the answer's headers exceed {lines} lines or {kib} KiB")
        return self._error


class _EnoughRead(Exception):
    """Stops the parser; caught where it was fed."""


class Connection(asyncio.Protocol):
    """A connection to one receiver. It carries one request at a time.

    `origin`: whom it was dialed for. `peer`: the literal address that was dialed. `on_lost` is called once, when it is
    gone for good.
    """

    def __init__(
        self, origin: Origin, peer: str, limits: AnswerLimits, on_lost: Callable[["Connection"], None]
    ) -> None:
        self.origin = origin
        self.peer = peer
        self.idle_since = 0.0
        """On the loop's clock; kept by the pool."""
        self.reusable = False
        """Whether another request may follow the one just answered."""
        self.heard = False
        """Whether any byte arrived for the latest request."""
        self.lost = False
        self._limits = limits
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._reader: AnswerReader | None = None
        self._done: asyncio.Future[httpx.HTTPError | None] | None = None
        """Resolved when the answer is done, with what went wrong, if anything did."""

    async def exchange(self, message: bytes, deadline: float) -> AnswerReader:
        """Send a request and read its answer, all before `deadline` (on the loop's clock).

        Raises ReadTimeout, ReadError when the connection ends early, RemoteProtocolError and ResponseHeadTooLarge.
        After any of them, and after being cancelled, the connection is closed.
        """
        self.heard = self.reusable = False
        if self._transport.is_closing():
            raise httpx.ReadError("the connection was closed before the answer began")
        self._reader = reader = AnswerReader(self._limits)
        self._done = done = self._loop.create_future()
        # A timer instead of asyncio.timeout, and no task: this is the hot path.
        timer = self._loop.call_at(deadline, self._run_out_of_time)
        try:
            self._transport.write(message)
            if error := await done:
                raise error
        except BaseException:
            self.abort()
            raise
        finally:
            timer.cancel()
            reader.let_go()
            self._reader = self._done = None
        self.reusable = (
            reader.complete
            and reader.keep_alive
            and not self._transport.is_closing()
            and not self._transport.get_write_buffer_size()  # answered without reading all we sent
        )
        if not self.reusable:
            self.abort()
        return reader

    def abort(self) -> None:
        """Close at once. What was not sent is dropped."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._reader is None or self._done is None or self._done.done():
            self.abort()  # an answer to nothing, or more than was asked for
        else:
            self.heard = True
            try:
                if self._reader.feed(data):
                    self._finish()
            except httpx.HTTPError as error:
                self._finish(error)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if self._reader is not None:
            if error is None and self._reader.ends_with_connection():
                self._reader.complete = True
                self._finish()
            else:
                manner = "closed" if error is None else "reset"
                moment = "was complete" if self.heard else "began"
                self._finish(httpx.ReadError(f"the connection was {manner} before the answer {moment}"))
        self._on_lost(self)

    def _run_out_of_time(self) -> None:
        moment = "was not complete" if self.heard else "did not begin"
        self._finish(httpx.ReadTimeout(f"the answer {moment} within the timeout"))

    def _finish(self, error: httpx.HTTPError | None = None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(error)
