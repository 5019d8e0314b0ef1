"""Receivers that hang, drip, flood, lie and break off: each ends in time, with its outcome, and costs no memory.

Every story is told on asyncio's loop and on uvloop, which run the same transport over different sockets.
"""

import asyncio
import gc
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, TypeVar

import httpx
import psutil
import pytest
import uvloop

from models.attempt import AttemptOutcome
from tests.certificates import Authority
from tests.receivers import (
    Answer,
    Behaviour,
    Exchange,
    Receiver,
    ScriptedResolver,
    answer_twice,
    body_drip,
    close_under_keep_alive,
    close_without_answer,
    endless_chunk_extension,
    endless_chunks,
    endless_header_line,
    endless_reason_phrase,
    endless_trailer,
    garbage,
    gzip_bomb,
    half_close,
    header_drip,
    interim_flood,
    long_body,
    reset_in_mid_body,
    short_body,
    silence,
    switch_protocols,
    ten_megabytes_in_ten_kilobytes,
    ten_megabytes_of_headers,
)
from workers.address_guard import AddressGuard
from workers.transport import DeliveryTransport, outcome_of, outcome_of_status

T = TypeVar("T")

DEADLINE = 0.3
"""Seconds an attempt gets here."""
MUST_END = DEADLINE + 0.5

LOOPBACK = AddressGuard([ip_network("127.0.0.0/8")])


async def redirect_to_metadata(exchange: Exchange) -> None:
    """Sends us to where a cloud keeps its credentials."""
    await exchange.write(Answer(307, [("Location", "http://169.254.169.254/latest/")]).to_bytes())


TOO_LARGE = "the answer's headers exceed 200 lines or 64 KiB"
BEHAVIOURS: list[tuple[Behaviour, AttemptOutcome, str]] = [
    (silence, AttemptOutcome.TIMEOUT, "the answer did not begin within the timeout"),
    (header_drip, AttemptOutcome.TIMEOUT, "the answer was not complete within the timeout"),
    (body_drip, AttemptOutcome.TIMEOUT, "the answer was not complete within the timeout"),
    (ten_megabytes_of_headers, AttemptOutcome.RESPONSE_TOO_LARGE, TOO_LARGE),
    (endless_header_line, AttemptOutcome.RESPONSE_TOO_LARGE, TOO_LARGE),
    (endless_reason_phrase, AttemptOutcome.RESPONSE_TOO_LARGE, TOO_LARGE),
    (endless_chunks, AttemptOutcome.SUCCESS, "truncated at 65536 bytes"),
    (endless_chunk_extension, AttemptOutcome.SUCCESS, "truncated at 0 bytes"),
    (endless_trailer, AttemptOutcome.SUCCESS, "truncated at 2 bytes"),
    (gzip_bomb, AttemptOutcome.SUCCESS, f"{len(ten_megabytes_in_ten_kilobytes())} bytes"),
    (half_close, AttemptOutcome.CONNECTION_ERROR, "the connection was closed before the answer began"),
    (close_without_answer, AttemptOutcome.CONNECTION_ERROR, "the connection was closed before the answer began"),
    (reset_in_mid_body, AttemptOutcome.CONNECTION_ERROR, "the connection was reset before the answer was complete"),
    (short_body, AttemptOutcome.CONNECTION_ERROR, "the connection was closed before the answer was complete"),
    (long_body, AttemptOutcome.SUCCESS, "5 bytes"),
    (answer_twice, AttemptOutcome.SUCCESS, "3 bytes"),
    (redirect_to_metadata, AttemptOutcome.REDIRECT_REFUSED, "0 bytes"),
    (close_under_keep_alive, AttemptOutcome.SUCCESS, "0 bytes"),
    (garbage, AttemptOutcome.PROTOCOL_ERROR, "the answer is not HTTP/1.1: Expected HTTP/, RTSP/ or ICE/"),
    (interim_flood, AttemptOutcome.PROTOCOL_ERROR, "too many interim (1xx) answers"),
    (switch_protocols, AttemptOutcome.PROTOCOL_ERROR, "the answer switches to another protocol"),
]


def on_asyncio(story: Callable[[], Coroutine[Any, Any, T]]) -> T:
    with asyncio.Runner() as runner:
        return runner.run(story())


def on_uvloop(story: Callable[[], Coroutine[Any, Any, T]]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(story())


@pytest.fixture(params=[on_asyncio, on_uvloop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Any:
    return request.param


@dataclass(frozen=True)
class Attempted:
    outcome: AttemptOutcome
    said: str


async def attempt(transport: DeliveryTransport, url: str, must_end: float = MUST_END) -> Attempted:
    """One delivery as the engine makes it, which must end by itself."""
    request = httpx.Request("POST", url, content=b"{}")
    request.extensions["timeout"] = {"total": DEADLINE}
    async with asyncio.timeout(must_end):
        try:
            response = await transport.handle_async_request(request)
        except httpx.HTTPError as error:
            return Attempted(*outcome_of(error))
    manner = "truncated at " if response.extensions["truncated"] else ""
    return Attempted(outcome_of_status(response.status_code), f"{manner}{len(response.content)} bytes")


@pytest.mark.parametrize(
    ("behaviour", "outcome", "said"), BEHAVIOURS, ids=lambda value: value.__name__ if callable(value) else ""
)
def test_a_hostile_receiver_ends_in_time_with_its_outcome(
    run: Any, behaviour: Behaviour, outcome: AttemptOutcome, said: str
) -> None:
    async def story() -> Attempted:
        transport = DeliveryTransport(guard=LOOPBACK)
        async with Receiver(behaviour) as receiver:
            attempted = await attempt(transport, receiver.url)
            await transport.aclose()
        return attempted

    assert run(story) == Attempted(outcome, said)


@pytest.mark.parametrize(
    ("behaviour", "outcome", "said"), BEHAVIOURS, ids=lambda value: value.__name__ if callable(value) else ""
)
def test_a_hostile_answer_spoils_neither_the_next_request_nor_its_receiver(
    run: Any, behaviour: Behaviour, outcome: AttemptOutcome, said: str
) -> None:
    async def story() -> list[Attempted]:
        transport = DeliveryTransport(guard=LOOPBACK)
        async with Receiver(behaviour, Answer(200, body=b"fine")) as receiver:
            attempts = [await attempt(transport, receiver.url) for _ in range(2)]
            await transport.aclose()
        return attempts

    assert run(story) == [Attempted(outcome, said), Attempted(AttemptOutcome.SUCCESS, "4 bytes")]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"\0\0\0\0", "Expected HTTP/, RTSP/ or ICE/"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "it says HTTP/2.0"),
        (b"HTTP/3.0 200 OK\r\n\r\n", "Invalid HTTP version"),
        (b"HTTP/1.1 99 No\r\n\r\n", "Invalid status code"),
        (b"HTTP/1.1 000 No\r\n\r\n", "there is no status 000"),
        (b"HTTP/1.1 200 OK\r\nNo colon\r\n\r\n", "Invalid header token"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Invalid character in Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "Duplicate Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "Invalid character in chunk size"),
    ],
)
def test_what_is_not_http_is_a_protocol_error(run: Any, raw: bytes, said: str) -> None:
    async def behaviour(exchange: Any) -> None:
        await exchange.write(raw)

    async def story() -> Attempted:
        transport = DeliveryTransport(guard=LOOPBACK)
        async with Receiver(behaviour) as receiver:
            attempted = await attempt(transport, receiver.url)
            await transport.aclose()
        return attempted

    assert run(story) == Attempted(AttemptOutcome.PROTOCOL_ERROR, f"the answer is not HTTP/1.1: {said}")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def test_tls_that_proves_nothing_ends_in_time_on_either_loop(run: Any, authority: Authority) -> None:
    servers: list[ssl.SSLContext] = [
        authority.server("elsewhere.test"),
        authority.server("hooks.test", days=-1),
        authority.server("hooks.test", self_signed=True),
        authority.server("hooks.test"),
    ]

    async def story() -> list[AttemptOutcome]:
        outcomes = []
        for server in servers:
            names = ScriptedResolver({"hooks.test": [["127.0.0.1"]]})
            transport = DeliveryTransport(guard=LOOPBACK, resolver=names, tls=authority.client())
            async with Receiver(tls=server) as receiver:
                outcomes.append((await attempt(transport, f"https://hooks.test:{receiver.port}/")).outcome)
                await transport.aclose()
        return outcomes

    assert run(story) == [AttemptOutcome.TLS_ERROR] * 3 + [AttemptOutcome.SUCCESS]


def test_a_handshake_that_hangs_ends_in_time_on_either_loop(run: Any) -> None:
    async def story() -> Attempted:
        transport = DeliveryTransport(guard=LOOPBACK)
        async with Receiver(reads=False) as receiver:
            attempted = await attempt(transport, f"https://127.0.0.1:{receiver.port}/")
            await transport.aclose()
        return attempted

    assert run(story) == Attempted(AttemptOutcome.TIMEOUT, "no connection to 127.0.0.1 within the timeout")


def test_a_dead_address_gives_way_to_the_next_on_either_loop(run: Any) -> None:
    async def story() -> Attempted:
        names = ScriptedResolver({"both.test": [["127.0.0.1", "127.0.0.2"]]})
        transport = DeliveryTransport(guard=LOOPBACK, resolver=names)
        async with Receiver(host="127.0.0.2") as receiver:
            attempted = await attempt(transport, f"http://both.test:{receiver.port}/")
            await transport.aclose()
        return attempted

    assert run(story) == Attempted(AttemptOutcome.SUCCESS, "0 bytes")


def test_two_hundred_hostile_exchanges_leave_no_memory_behind(run: Any) -> None:
    async def story() -> int:
        transport = DeliveryTransport(guard=LOOPBACK)
        receivers = [Receiver(behaviour) for behaviour, _, _ in BEHAVIOURS]
        for receiver in receivers:
            await receiver.start()

        async def round_of_attempts(times: int) -> None:
            # Sixty floods at once in one process slow each other down; when they end is not the question here.
            await asyncio.gather(
                *(attempt(transport, receiver.url, 30) for receiver in receivers for _ in range(times))
            )

        await round_of_attempts(2)  # what is allocated once and kept
        gc.collect()
        before = psutil.Process().memory_info().rss
        for _ in range(4):
            await round_of_attempts(3)
        gc.collect()
        grown = psutil.Process().memory_info().rss - before
        await transport.aclose()
        for receiver in receivers:
            await receiver.stop()
        return int(grown)

    assert run(story) < 20_000_000
