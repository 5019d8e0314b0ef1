"""The transport of deliveries, over real sockets to scripted receivers on loopback."""

import asyncio
import pickle
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from ipaddress import ip_network

import httpx
import pytest

from models.attempt import AttemptOutcome
from tests.certificates import Authority
from tests.receivers import (
    Answer,
    Exchange,
    Received,
    Receiver,
    ScriptedResolver,
    answer_twice,
    body_drip,
    close_under_keep_alive,
    close_without_answer,
    in_a_thread,
    long_body,
    silence,
)
from workers.address_guard import AddressGuard
from workers.delivery_errors import (
    BlockedAddress,
    NameNotResolved,
    ResponseHeadTooLarge,
    TLSFailed,
    outcome_of,
    outcome_of_status,
)
from workers.transport import DeliveryTransport, request_bytes, tls_context

LOOPBACK = AddressGuard([ip_network("127.0.0.0/8"), ip_network("::1/128")])


@pytest.fixture
async def transport() -> AsyncIterator[DeliveryTransport]:
    """A transport that may reach loopback, with two seconds for everything."""
    transport = DeliveryTransport(guard=LOOPBACK, timeout=2)
    yield transport
    await transport.aclose()


def post(url: str, body: bytes = b'{"n": 1}', headers: Mapping[str, str] | None = None) -> httpx.Request:
    return httpx.Request("POST", url, content=body, headers=headers)


async def send(transport: DeliveryTransport, url: str, body: bytes = b'{"n": 1}') -> httpx.Response:
    return await transport.handle_async_request(post(url, body))


async def settle(condition: Callable[[], bool]) -> None:
    """Wait until what the other side does by itself has come about."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


# What is sent


async def test_headers_go_out_in_their_order_with_host_first_and_the_body_unchanged(
    transport: DeliveryTransport,
) -> None:
    body = b'{"b":1,  "a":2}\n\x00\xff'
    async with Receiver() as receiver:
        request = httpx.Request(
            "POST",
            receiver.url + "?x=1&y=%20",
            content=body,
            headers=[
                (b"webhook-id", b"msg_1"),
                (b"X-Custom", "ä".encode()),
                (b"Host", b"elsewhere.test"),
                (b"A", b"1"),
            ],
        )
        response = await transport.handle_async_request(request)
        [received] = receiver.requests

    assert response.status_code == 200
    assert (received.method, received.path, received.body) == ("POST", "/hook?x=1&y=%20", body)
    assert received.headers == [
        ("Host", "elsewhere.test"),
        ("webhook-id", "msg_1"),
        ("X-Custom", "Ã¤"),
        ("A", "1"),
        ("Content-Length", "18"),
    ]


async def test_nothing_is_sent_that_nobody_asked_for(transport: DeliveryTransport) -> None:
    async with Receiver() as receiver:
        await send(transport, receiver.url)
        [received] = receiver.requests

    assert [name for name, _ in received.headers] == ["Host", "Content-Length"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            post("http://x.test/", headers={"X-A": "1\r\nX-B: 2"}),
            "the header b'X-A' holds characters that cannot be sent",
        ),
        (post("http://x.test/", headers={"X-A": "1\n"}), "the header b'X-A' holds characters that cannot be sent"),
        (post("http://x.test/", headers={"X-A": "1\0"}), "the header b'X-A' holds characters that cannot be sent"),
        (post("http://x.test/", headers={"X A": "1"}), "the header b'X A' holds characters that cannot be sent"),
        (post("http://x.test/", headers={"": "1"}), "the header b'' holds characters that cannot be sent"),
        (post("http://x.test/", headers={"Content-Length": "5"}), "Content-Length is not the length of the body"),
        (
            post("http://x.test/", headers={"Transfer-Encoding": "chunked"}),
            "a body is sent whole: Transfer-Encoding has no place",
        ),
        (httpx.Request("POST /x", "http://x.test/"), "the method cannot be sent"),
        (httpx.Request("HEAD", "http://x.test/"), "the method cannot be sent"),
    ],
)
def test_what_could_be_read_as_something_else_is_not_sent(request_: httpx.Request, message: str) -> None:
    with pytest.raises(httpx.LocalProtocolError) as caught:
        request_bytes(request_, b'{"n": 1}')

    assert str(caught.value) == message


def test_a_second_host_header_is_not_sent() -> None:
    request = post("http://x.test/")
    request.headers = httpx.Headers([("Host", "x.test"), ("Content-Length", "8"), ("Host", "y.test")])

    with pytest.raises(httpx.LocalProtocolError, match=r"^there is more than one Host header$"):
        request_bytes(request, b'{"n": 1}')


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("ftp://127.0.0.1/", httpx.UnsupportedProtocol, "ftp is neither http nor https"),
        ("//127.0.0.1/", httpx.UnsupportedProtocol, "a missing scheme is neither http nor https"),
        ("http://127.0.0.1:0/", httpx.LocalProtocolError, "there is no port 0"),
        ("http://127.0.0.1:65536/", httpx.LocalProtocolError, "there is no port 65536"),
    ],
)
async def test_a_url_that_leads_nowhere_is_refused(
    transport: DeliveryTransport, url: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        await send(transport, url)

    assert str(caught.value) == message


# What comes back


async def test_an_answer_comes_back_whole(transport: DeliveryTransport) -> None:
    answer = Answer(418, [("X-One", "1"), ("X-Two", "2"), ("X-One", "3")], b"short and stout")
    async with Receiver(answer) as receiver:
        response = await send(transport, receiver.url)

    assert response.status_code == 418
    assert response.headers.raw == [(b"X-One", b"1"), (b"X-Two", b"2"), (b"X-One", b"3"), (b"Content-Length", b"15")]
    assert response.content == b"short and stout"
    assert response.extensions == {"truncated": False}
    assert [part async for part in response.aiter_bytes()] == [b"short and stout"]


async def test_an_answer_without_a_body_is_complete(transport: DeliveryTransport) -> None:
    async with Receiver(204, 200) as receiver:
        assert (await send(transport, receiver.url)).status_code == 204
        assert (await send(transport, receiver.url)).status_code == 200
        assert receiver.connections == 1


async def test_a_chunked_answer_and_its_trailer_are_read(transport: DeliveryTransport) -> None:
    async def chunked(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await exchange.write(b"6;x=y\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n")

    async with Receiver(chunked) as receiver:
        response = await send(transport, receiver.url)
        await send(transport, receiver.url)

        assert response.content == b"hello world"
        assert response.headers.raw == [(b"Transfer-Encoding", b"chunked")]
        assert receiver.connections == 1


async def test_an_answer_without_a_stated_end_ends_with_the_connection(transport: DeliveryTransport) -> None:
    async def unmeasured(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.0 200 OK\r\n\r\nhello")
        await asyncio.sleep(0.01)
        await exchange.write(b" world")
        exchange.close()

    async with Receiver(unmeasured) as receiver:
        response = await send(transport, receiver.url)

    assert (response.content, response.extensions) == (b"hello world", {"truncated": False})


async def test_a_reset_does_not_end_an_answer_without_a_stated_end(transport: DeliveryTransport) -> None:
    async def unmeasured(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.0 200 OK\r\n\r\nhello")
        await asyncio.sleep(0.05)
        exchange.reset()

    async with Receiver(unmeasured) as receiver:
        with pytest.raises(httpx.ReadError, match=r"^the connection was reset before the answer was complete$"):
            await send(transport, receiver.url)


async def test_interim_answers_are_passed_over(transport: DeliveryTransport) -> None:
    async def patient(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await exchange.write(Answer(201, body=b"made").to_bytes())

    async with Receiver(patient) as receiver:
        response = await send(transport, receiver.url)

    assert (response.status_code, response.content) == (201, b"made")
    assert response.headers.raw == [(b"Content-Length", b"4")]


@pytest.mark.parametrize(("size", "truncated"), [(65_535, False), (65_536, False), (65_537, True), (5_000_000, True)])
async def test_a_body_is_kept_to_its_cap(transport: DeliveryTransport, size: int, truncated: bool) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    async with Receiver(Answer(body=body[:size])) as receiver:
        response = await send(transport, receiver.url)

    assert response.content == body[: min(size, 65_536)]
    assert response.extensions == {"truncated": truncated}


async def test_a_redirect_is_not_followed(transport: DeliveryTransport) -> None:
    async with Receiver() as elsewhere, Receiver(Answer(302, [("Location", elsewhere.url)])) as receiver:
        response = await send(transport, receiver.url)

        assert response.status_code == 302
        assert elsewhere.requests == []


async def test_a_cookie_is_not_sent_back(transport: DeliveryTransport) -> None:
    async with Receiver(Answer(headers=[("Set-Cookie", "session=1; Path=/")])) as receiver:
        for _ in range(2):
            await send(transport, receiver.url)

        assert [request.header("Cookie") for request in receiver.requests] == [None, None]


async def test_httpx_own_client_can_use_the_transport() -> None:
    async with (
        Receiver(Answer(body=b"hello")) as receiver,
        httpx.AsyncClient(transport=DeliveryTransport(guard=LOOPBACK)) as client,
    ):
        response = await client.post(receiver.url, json={"n": 1})

        assert (response.status_code, response.text) == (200, "hello")
        assert receiver.requests[0].body == b'{"n":1}'


# Connections


async def test_a_connection_is_used_again(transport: DeliveryTransport) -> None:
    async with Receiver() as receiver:
        for _ in range(20):
            await send(transport, receiver.url)

        assert (len(receiver.requests), receiver.connections) == (20, 1)


async def test_requests_at_the_same_time_each_have_a_connection_and_share_them_later(
    transport: DeliveryTransport,
) -> None:
    async with Receiver(Answer(delay=0.05)) as receiver:
        for _ in range(2):
            await asyncio.gather(*(send(transport, receiver.url) for _ in range(5)))

        assert (len(receiver.requests), receiver.connections) == (10, 5)


async def test_a_connection_of_one_host_is_not_used_for_another() -> None:
    names = ScriptedResolver({"one.test": [["127.0.0.1"]], "two.test": [["127.0.0.1"]]})
    transport = DeliveryTransport(guard=LOOPBACK, resolver=names)
    async with Receiver() as receiver:
        for host in ("one.test", "two.test", "one.test"):
            await send(transport, f"http://{host}:{receiver.port}/")
        await transport.aclose()

        assert [request.header("Host") for request in receiver.requests] == [
            f"one.test:{receiver.port}",
            f"two.test:{receiver.port}",
            f"one.test:{receiver.port}",
        ]
        assert receiver.connections == 2


async def test_no_more_connections_are_kept_than_allowed() -> None:
    transport = DeliveryTransport(guard=LOOPBACK, idle_per_origin=2, idle_in_all=3)
    async with Receiver(Answer(delay=0.05)) as one, Receiver(Answer(delay=0.05)) as two:
        for receiver in (one, two):
            await asyncio.gather(*(send(transport, receiver.url) for _ in range(4)))
        await settle(lambda: (one.open_connections, two.open_connections) == (1, 2))
        await transport.aclose()


async def test_the_connection_used_last_is_used_first_so_that_the_surplus_ages() -> None:
    transport = DeliveryTransport(guard=LOOPBACK, keep_alive=0.3)
    async with Receiver(Answer(delay=0.05)) as receiver:
        await asyncio.gather(*(send(transport, receiver.url) for _ in range(3)))
        receiver.answers = [200]
        async with asyncio.timeout(5):
            while receiver.open_connections > 1:  # taken in turn, the three would keep each other young
                await send(transport, receiver.url)
                await asyncio.sleep(0.01)
        await transport.aclose()

        assert receiver.connections == 3


async def test_a_connection_lost_while_idle_does_not_stand_before_one_that_lives(transport: DeliveryTransport) -> None:
    async def close_later(exchange: Exchange) -> None:
        await asyncio.sleep(0.05)
        await exchange.write(Answer().to_bytes())
        await asyncio.sleep(0.05)
        exchange.close()

    async with Receiver(200, close_later, 200) as receiver:
        await asyncio.gather(*(send(transport, receiver.url) for _ in range(2)))
        await settle(lambda: receiver.open_connections == 1)
        await send(transport, receiver.url)

        assert (len(receiver.requests), receiver.connections) == (3, 2)


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    transport = DeliveryTransport(guard=LOOPBACK, keep_alive=0.05)
    async with Receiver() as receiver:
        await send(transport, receiver.url)
        await settle(lambda: not receiver.open_connections)
        await send(transport, receiver.url)
        await transport.aclose()

        assert receiver.connections == 2


async def test_closing_the_transport_closes_every_connection_and_ends_what_is_on_its_way(
    transport: DeliveryTransport,
) -> None:
    async with Receiver(200, silence) as receiver, Receiver() as other:
        await send(transport, receiver.url)
        await send(transport, other.url)
        waiting = asyncio.ensure_future(send(transport, receiver.url))
        await receiver.wait_for(2)
        await transport.aclose()

        with pytest.raises(httpx.ReadError):
            await waiting
        with pytest.raises(RuntimeError, match=r"^the transport is closed$"):
            await send(transport, receiver.url)
        await settle(lambda: not receiver.open_connections and not other.open_connections)


async def test_a_connection_the_receiver_closed_while_idle_is_replaced(transport: DeliveryTransport) -> None:
    async with Receiver() as receiver:
        await send(transport, receiver.url)
        receiver.break_off()
        response = await send(transport, receiver.url)

        assert (response.status_code, len(receiver.requests), receiver.connections) == (200, 2, 2)


async def test_a_request_that_crossed_with_the_closing_of_its_connection_is_sent_once_more(
    transport: DeliveryTransport,
) -> None:
    async with Receiver(200, close_without_answer, 200) as receiver:
        await send(transport, receiver.url)
        response = await send(transport, receiver.url)

        assert (response.status_code, len(receiver.requests), receiver.connections) == (200, 3, 2)


async def test_a_fresh_connection_that_is_closed_without_an_answer_is_not_tried_again(
    transport: DeliveryTransport,
) -> None:
    async with Receiver(close_without_answer) as receiver:
        with pytest.raises(httpx.ReadError, match=r"^the connection was closed before the answer began$"):
            await send(transport, receiver.url)

        assert (len(receiver.requests), receiver.connections) == (1, 1)


async def test_a_used_connection_that_closes_in_mid_answer_is_not_tried_again(transport: DeliveryTransport) -> None:
    async def half_an_answer(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Le")
        exchange.close()

    async with Receiver(200, half_an_answer) as receiver:
        await send(transport, receiver.url)
        with pytest.raises(httpx.ReadError, match=r"^the connection was closed before the answer was complete$"):
            await send(transport, receiver.url)

        assert (len(receiver.requests), receiver.connections) == (2, 1)


async def test_a_receiver_that_closes_after_each_answer_gets_every_request_once(transport: DeliveryTransport) -> None:
    async with Receiver(close_under_keep_alive) as receiver:
        for _ in range(10):
            assert (await send(transport, receiver.url)).status_code == 200
        bodies = [request.body for request in receiver.requests]

    assert len(bodies) in range(10, 20)  # each again at most once, when it crossed with the closing


@pytest.mark.parametrize("behaviour", [long_body, answer_twice])
async def test_a_connection_with_more_on_it_than_the_answer_is_not_used_again(
    transport: DeliveryTransport, behaviour: object
) -> None:
    async with Receiver(behaviour, 200) as receiver:  # type: ignore[arg-type]
        first = await send(transport, receiver.url)
        second = await send(transport, receiver.url)

        assert (first.status_code, second.status_code) == (200, 200)
        assert second.content == b""
        assert receiver.connections == 2


async def test_bytes_on_an_idle_connection_close_it(transport: DeliveryTransport) -> None:
    async def and_more_later(exchange: Exchange) -> None:
        await exchange.write(Answer().to_bytes())
        await asyncio.sleep(0.02)
        await exchange.write(Answer(500).to_bytes())

    async with Receiver(and_more_later, 200) as receiver:
        await send(transport, receiver.url)
        await settle(lambda: not receiver.open_connections)
        response = await send(transport, receiver.url)

        assert (response.status_code, receiver.connections) == (200, 2)


async def test_a_kept_connection_must_still_satisfy_the_guard(transport: DeliveryTransport) -> None:
    async with Receiver() as receiver:
        await send(transport, receiver.url)
        transport.guard = AddressGuard()
        with pytest.raises(BlockedAddress):
            await send(transport, receiver.url)

        assert len(receiver.requests) == 1


async def test_a_cancelled_request_leaves_no_connection_behind(transport: DeliveryTransport) -> None:
    async with Receiver(silence) as receiver:
        waiting = asyncio.ensure_future(send(transport, receiver.url))
        await receiver.wait_for(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await settle(lambda: not receiver.open_connections)


async def test_a_connection_whose_request_was_not_read_to_its_end_is_not_used_again(
    transport: DeliveryTransport,
) -> None:
    done = asyncio.Event()

    async def refuse_unread(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(Answer(413).to_bytes())
        await done.wait()
        writer.close()

    server = await asyncio.start_server(refuse_unread, "127.0.0.1", 0)
    async with server:
        url = "http://{}:{}/".format(*server.sockets[0].getsockname())
        for _ in range(2):  # on one connection, the second request would stand behind the rest of the first
            assert (await send(transport, url, bytes(20_000_000))).status_code == 413
        done.set()


# Addresses


async def test_a_forbidden_address_is_not_connected_to() -> None:
    transport = DeliveryTransport()
    async with Receiver() as receiver:
        with pytest.raises(
            BlockedAddress, match=r"^127\.0\.0\.1 is a loopback address, which deliveries may not reach$"
        ):
            await send(transport, receiver.url)
        await transport.aclose()

        assert receiver.connections == 0


async def test_a_name_that_changes_its_answer_never_reaches_the_forbidden_address() -> None:
    """Every other answer is allowed, so a check apart from the dial would let some through."""
    turns = [["127.0.0.1"], ["127.0.0.2"]] * 20
    transport = DeliveryTransport(
        guard=AddressGuard([ip_network("127.0.0.1/32")]),
        resolver=ScriptedResolver({"rebound.test": turns}),
        idle_per_origin=0,
    )
    async with Receiver() as allowed, Receiver(host="127.0.0.2", port=allowed.port) as forbidden:
        outcomes: list[int | str] = []
        for _ in range(20):
            try:
                outcomes.append((await send(transport, f"http://rebound.test:{allowed.port}/")).status_code)
            except BlockedAddress as blocked:
                outcomes.append(str(blocked))
        await transport.aclose()

        refusal = "rebound.test resolves to a loopback address, which deliveries may not reach"
        assert outcomes == [200, refusal] * 10
        assert (allowed.connections, forbidden.connections) == (10, 0)


async def test_a_redirect_to_a_metadata_address_is_an_answer_like_any_other(transport: DeliveryTransport) -> None:
    async with Receiver(Answer(307, [("Location", "http://169.254.169.254/latest/")])) as receiver:
        response = await send(transport, receiver.url)

    assert outcome_of_status(response.status_code) is AttemptOutcome.REDIRECT_REFUSED


@pytest.fixture
def unanswering() -> Iterator[tuple[str, int]]:
    """An address that takes no connection and refuses none: its backlog is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.9", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        yield address
        for filler in fillers:
            filler.close()


async def test_a_refusing_address_gives_way_to_the_next() -> None:
    async with Receiver(host="::1") as receiver:
        names = ScriptedResolver({"both.test": [["127.0.0.1", "::1"]]})
        transport = DeliveryTransport(guard=LOOPBACK, resolver=names)
        response = await send(transport, f"http://both.test:{receiver.port}/")
        await transport.aclose()

        assert (response.status_code, receiver.connections) == (200, 1)


@pytest.mark.parametrize("answering", ["::1", "127.0.0.1"])
async def test_an_unanswering_address_gives_way_to_the_next_within_the_timeout(
    unanswering: tuple[str, int], answering: str
) -> None:
    dead, port = unanswering
    tasks = asyncio.all_tasks()
    names = ScriptedResolver({"both.test": [[dead, answering]]})
    transport = DeliveryTransport(guard=LOOPBACK, resolver=names, timeout=2)
    async with Receiver(host=answering, port=port) as receiver:
        response = await send(transport, f"http://both.test:{port}/")
        await transport.aclose()

        assert (response.status_code, receiver.connections) == (200, 1)
        await settle(lambda: asyncio.all_tasks() == tasks)  # the other dial was given up


async def test_when_every_address_refuses_the_request_fails_without_naming_them() -> None:
    names = ScriptedResolver({"down.test": [["127.0.0.1", "::1", "127.0.0.2"]]})
    transport = DeliveryTransport(guard=LOOPBACK, resolver=names)
    with pytest.raises(httpx.ConnectError, match=r"^no connection to down\.test: it was refused$"):
        await send(transport, f"http://down.test:{closed_port()}/")
    await transport.aclose()


async def test_a_name_without_an_address_is_told_apart() -> None:
    transport = DeliveryTransport(guard=LOOPBACK, resolver=ScriptedResolver({}))
    with pytest.raises(NameNotResolved, match=r"^nowhere\.test did not resolve$"):
        await send(transport, "http://nowhere.test/")
    await transport.aclose()


# Time


async def test_a_resolver_that_never_answers_is_bounded_by_the_timeout() -> None:
    class Never:
        async def resolve(self, host: str, port: int) -> list[str]:
            await asyncio.Event().wait()
            return []

    transport = DeliveryTransport(guard=LOOPBACK, resolver=Never(), timeout=0.1)
    async with asyncio.timeout(0.6):
        with pytest.raises(httpx.ConnectTimeout, match=r"^no connection to slow\.test within the timeout$"):
            await send(transport, "http://slow.test/")
    await transport.aclose()


async def test_an_address_that_never_answers_is_bounded_by_the_timeout(unanswering: tuple[str, int]) -> None:
    transport = DeliveryTransport(guard=LOOPBACK, timeout=0.1)
    async with asyncio.timeout(0.6):
        with pytest.raises(httpx.ConnectTimeout):
            await send(transport, "http://{}:{}/".format(*unanswering))
    await transport.aclose()


async def test_the_connect_timeout_is_part_of_the_total(unanswering: tuple[str, int]) -> None:
    transport = DeliveryTransport(guard=LOOPBACK)
    request = post("http://{}:{}/".format(*unanswering))
    request.extensions["timeout"] = {"total": 30, "connect": 0.1}
    async with asyncio.timeout(0.6):
        with pytest.raises(httpx.ConnectTimeout):
            await transport.handle_async_request(request)
    await transport.aclose()


async def test_the_total_timeout_of_a_request_goes_before_that_of_the_transport(transport: DeliveryTransport) -> None:
    async with Receiver(body_drip) as receiver:
        request = post(receiver.url)
        request.extensions["timeout"] = {"total": 0.1}
        async with asyncio.timeout(0.6):
            with pytest.raises(httpx.ReadTimeout, match=r"^the answer was not complete within the timeout$"):
                await transport.handle_async_request(request)


async def test_a_receiver_that_never_reads_a_large_body_is_bounded_by_the_timeout() -> None:
    transport = DeliveryTransport(guard=LOOPBACK, timeout=0.2)
    async with Receiver(reads=False) as receiver, asyncio.timeout(0.7):
        with pytest.raises(httpx.ReadTimeout, match=r"^the answer did not begin within the timeout$"):
            await send(transport, receiver.url, bytes(20_000_000))
    await transport.aclose()


async def test_a_large_body_arrives_whole(transport: DeliveryTransport) -> None:
    body = bytes(range(256)) * 4_096
    async with Receiver() as receiver:
        await send(transport, receiver.url, body)
        [received] = receiver.requests

    assert received.body == body


# TLS


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


async def send_securely(authority: Authority, server: ssl.SSLContext, *, name: str = "hooks.test") -> httpx.Response:
    names = ScriptedResolver({"hooks.test": [["127.0.0.1"]], "eu.hooks.test": [["127.0.0.1"]]})
    transport = DeliveryTransport(guard=LOOPBACK, resolver=names, tls=authority.client(), timeout=5)
    try:
        async with Receiver(tls=server) as receiver:
            for _ in range(2):
                response = await send(transport, f"https://{name}:{receiver.port}/")
            assert (len(receiver.requests), receiver.connections) == (2, 1)
            return response
    finally:
        await transport.aclose()


@pytest.mark.parametrize(
    ("url_host", "certified"),
    [("hooks.test", "hooks.test"), ("eu.hooks.test", "*.hooks.test"), ("127.0.0.1", "127.0.0.1")],
)
async def test_a_certificate_for_the_name_is_accepted_and_the_connection_used_again(
    authority: Authority, url_host: str, certified: str
) -> None:
    response = await send_securely(authority, authority.server(certified), name=url_host)

    assert response.status_code == 200


async def test_a_name_with_its_root_dot_is_certified_by_the_name_without(authority: Authority) -> None:
    names = ScriptedResolver({"hooks.test.": [["127.0.0.1"]]})
    transport = DeliveryTransport(guard=LOOPBACK, resolver=names, tls=authority.client())
    async with Receiver(tls=authority.server("hooks.test")) as receiver:
        response = await send(transport, f"https://hooks.test.:{receiver.port}/")
        await transport.aclose()

        assert response.status_code == 200


@pytest.mark.parametrize(
    ("certificate", "message"),
    [
        (
            {"names": ["elsewhere.test"]},
            "TLS with hooks.test failed: Hostname mismatch, certificate is not valid for 'hooks.test'",
        ),
        (
            {"names": ["127.0.0.1"]},
            "TLS with hooks.test failed: Hostname mismatch, certificate is not valid for 'hooks.test'",
        ),
        ({"names": ["hooks.test"], "days": -1}, "TLS with hooks.test failed: certificate has expired"),
        ({"names": ["hooks.test"], "self_signed": True}, "TLS with hooks.test failed: self-signed certificate"),
    ],
)
async def test_a_certificate_that_proves_nothing_is_refused(
    authority: Authority, certificate: dict[str, object], message: str
) -> None:
    names = certificate.pop("names")
    server = authority.server(*names, **certificate)  # type: ignore[misc, arg-type]

    with pytest.raises(TLSFailed) as caught:
        await send_securely(authority, server)

    assert str(caught.value) == message
    assert outcome_of(caught.value) == (AttemptOutcome.TLS_ERROR, message)


async def test_tls_older_than_1_2_is_refused() -> None:
    assert tls_context().minimum_version is ssl.TLSVersion.TLSv1_2
    assert tls_context().verify_mode is ssl.CERT_REQUIRED
    assert tls_context().check_hostname is True


async def test_a_receiver_that_speaks_no_tls_is_a_tls_failure(transport: DeliveryTransport) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        with pytest.raises(TLSFailed, match=r"^TLS with 127\.0\.0\.1 failed: "):
            await send(transport, "https://{}:{}/".format(*server.sockets[0].getsockname()))


async def test_a_receiver_that_never_finishes_the_handshake_is_bounded_by_the_timeout() -> None:
    transport = DeliveryTransport(guard=LOOPBACK, timeout=0.2)
    async with Receiver(reads=False) as receiver, asyncio.timeout(0.7):
        with pytest.raises(httpx.ConnectTimeout):
            await send(transport, f"https://127.0.0.1:{receiver.port}/")
    await transport.aclose()


# Outcomes


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (BlockedAddress("why"), AttemptOutcome.BLOCKED_ADDRESS),
        (NameNotResolved("why"), AttemptOutcome.DNS_ERROR),
        (TLSFailed("why"), AttemptOutcome.TLS_ERROR),
        (httpx.ConnectTimeout("why"), AttemptOutcome.TIMEOUT),
        (httpx.ReadTimeout("why"), AttemptOutcome.TIMEOUT),
        (httpx.ConnectError("why"), AttemptOutcome.CONNECTION_ERROR),
        (httpx.ReadError("why"), AttemptOutcome.CONNECTION_ERROR),
        (httpx.LocalProtocolError("why"), AttemptOutcome.CONNECTION_ERROR),
        (httpx.UnsupportedProtocol("why"), AttemptOutcome.CONNECTION_ERROR),
        (ResponseHeadTooLarge("why"), AttemptOutcome.RESPONSE_TOO_LARGE),
        (httpx.RemoteProtocolError("why"), AttemptOutcome.PROTOCOL_ERROR),
    ],
)
def test_every_error_of_the_tree_has_its_outcome_and_survives_pickling(
    error: Exception, outcome: AttemptOutcome
) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301

    assert outcome_of(error) == (outcome, "why")
    assert (type(again), str(again)) == (type(error), "why")


def test_an_error_of_our_own_keeps_its_details_to_itself() -> None:
    assert outcome_of(KeyError("/etc/secret")) == (
        AttemptOutcome.CONNECTION_ERROR,
        "the request was not sent, for a reason on our side",
    )


@pytest.mark.parametrize(
    ("codes", "outcome"),
    [
        ((200, 201, 204, 299), AttemptOutcome.SUCCESS),
        ((300, 301, 304, 308, 399), AttemptOutcome.REDIRECT_REFUSED),
        ((400, 404, 410, 429, 500, 503, 599, 999), AttemptOutcome.HTTP_ERROR),
    ],
)
def test_every_status_has_its_outcome(codes: tuple[int, ...], outcome: AttemptOutcome) -> None:
    assert {outcome_of_status(code) for code in codes} == {outcome}


# The receiver itself


def test_a_receiver_in_a_thread_serves_a_test_that_blocks() -> None:
    def choose(request: Received) -> int:
        return 410 if request.path == "/gone" else 200

    with in_a_thread(Receiver(choose)) as receiver:
        answers = [httpx.post(receiver.origin + path, content=b"x", trust_env=False) for path in ("/hook", "/gone")]

    assert [answer.status_code for answer in answers] == [200, 410]
    assert [request.body for request in receiver.requests] == [b"x", b"x"]


async def test_a_receiver_says_how_many_requests_are_missing() -> None:
    async with Receiver() as receiver:
        with pytest.raises(AssertionError, match=r"^0 of 1 requests came, and no more within 0\.01 s$"):
            await receiver.wait_for(1, timeout=0.01)
