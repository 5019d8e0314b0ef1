"""Watching live, as frontends do: by the clients that they use, cut and resumed, on any server, without Redis too."""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from tests.journeys.product import ROOT, Json, Process, Product, until
from tests.node import install_packages
from tests.receivers import Receiver
from tests.services import Redis
from tests.watchers import Events, Socket, connected, streamed

Watcher = Socket | Events

CLIENTS = ROOT / "tests" / "journeys" / "live_clients"
ENDS_WITHIN_S = 20
"""A server that waited for its streams would take 30 s, after which uvicorn cuts them."""
ATTEMPTS = """subscription($after: Cursor) {
  deliveryAttempted(after: $after) { cursor skipped attempt { id delivery { event { data } } } }
}"""


@pytest.fixture(scope="session")
async def clients() -> Path:
    """The real clients, installed."""
    await install_packages(CLIENTS)
    return CLIENTS


class Client:
    """A running client, and what it told."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def told(self) -> list[Json]:
        whole, _, _ = self._process.output.rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def attempts(self) -> list[Json]:
        return [line for line in self.told if "id" in line]

    async def has_told(self, what: str, times: int) -> None:
        async def count() -> bool:
            return sum(what in line for line in self.told) >= times

        await until(count, True)

    async def has_seen(self, attempts: int) -> None:
        async def count() -> int:
            return len(self.attempts)

        await until(count, attempts)


class Story:
    """Numbers that are published one after the other, and watched."""

    def __init__(self, product: Product, client: Client) -> None:
        self.product = product
        self.client = client
        self.published = 0

    async def publish(self, count: int) -> None:
        numbers = range(self.published, self.published + count)
        await self.product.publish_all([{"type": "tick", "data": number} for number in numbers])
        self.published += count

    async def is_seen(self) -> None:
        await self.client.has_seen(self.published)

    def is_whole(self) -> None:
        seen = self.client.attempts
        assert sorted(one["delivery"]["event"]["data"] for one in seen) == list(range(self.published))
        assert len({one["id"] for one in seen}) == self.published
        assert {(one["skipped"], one["outcome"]) for one in seen} == {(0, "SUCCESS")}
        assert not [line for line in self.client.told if line.keys() & {"errors", "failed", "completed"}]


def _watch(product: Product, clients: Path, transport: str, origin: str) -> Client:
    return Client(product.start_program("node", str(clients / "watch.mjs"), transport, origin, product.token))


def _port(origin: str) -> str:
    return origin.rpartition(":")[2]


async def _cut_and_resume(story: Story, server: Process, start: Callable[[], Awaitable[Process]]) -> None:
    """Twice: the server is killed, and then it is asked to stop; each time something happens meanwhile."""
    await story.client.has_told("connected", 1)
    await story.publish(10)
    await story.is_seen()
    await server.kill()
    server = await start()
    await story.publish(10)
    await story.is_seen()
    await story.publish(5)
    server.send(signal.SIGTERM)
    async with asyncio.timeout(ENDS_WITHIN_S):
        assert await server.end() == 0
    await start()
    await story.publish(10)
    await story.is_seen()
    story.is_whole()
    await story.client.has_told("cut", 2)


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_a_real_client_is_cut_with_a_server_and_sees_every_attempt_once(
    production_product: Product, clients: Path, transport: str
) -> None:
    product = production_product
    watched = product.origin
    [server] = [process for process in product.processes if "serve" in process.command]
    await product.start_serve()
    other = product.origin
    client = _watch(product, clients, transport, watched)
    story = Story(product, client)

    async def start() -> Process:
        await story.publish(10)  # at the other server, while nobody watches
        process = product.start("serve", "--port", _port(watched))
        await product.listens(process, watched)
        product.origin = other
        return process

    async with Receiver() as receiver:
        await product.create_webhook(receiver.url, "tick")
        await _cut_and_resume(story, server, start)


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_a_real_client_is_cut_with_everything_in_one_process_and_sees_every_attempt_once(
    dev_product: Product, clients: Path, transport: str
) -> None:
    product = dev_product
    origin = product.origin
    client = _watch(product, clients, transport, origin)
    options = ["--port", _port(origin), "--data", str(product.folder / "data"), "--api-key", product.token]

    async def start() -> Process:
        process = product.start("dev", *options)
        await product.listens(process, origin)
        return process

    async with Receiver() as receiver:
        await product.create_webhook(receiver.url, "tick")
        await _cut_and_resume(Story(product, client), product.processes[0], start)


async def test_what_a_worker_does_is_seen_on_every_process_of_every_server(production_product: Product) -> None:
    product = production_product
    first = product.origin.removeprefix("http://")
    await product.start_serve("--processes", "2")
    second = product.origin.removeprefix("http://")
    async with (
        Receiver() as receiver,
        connected(first, product.token) as socket,
        streamed(first, product.token, ATTEMPTS) as events,
        connected(second, product.token) as one,
        connected(second, product.token) as two,
        connected(second, product.token) as three,
    ):
        await product.create_webhook(receiver.url, "tick")
        sockets = (socket, one, two, three)
        for each in sockets:
            await each.subscribe(ATTEMPTS)
        watchers = (*sockets, events)
        await _are_watching(product, watchers)
        await product.publish_all([{"type": "tick", "data": n} for n in range(20)])
        seen = [[await _next_of(watcher) for _ in range(20)] for watcher in watchers]
    assert set(map(str, seen[0])) == set(map(str, range(20)))
    assert seen == [seen[0]] * 5  # in the same order, too


async def test_watching_goes_on_while_redis_is_away(production_product: Product, own_redis: Redis) -> None:
    product = production_product
    address = product.origin.removeprefix("http://")
    async with (
        Receiver() as receiver,
        connected(address, product.token) as socket,
        streamed(address, product.token, ATTEMPTS) as events,
    ):
        await product.create_webhook(receiver.url, "tick")
        await socket.subscribe(ATTEMPTS)
        await _are_watching(product, [socket, events])
        for number, change in enumerate((own_redis.stop, own_redis.start)):
            change()
            await product.publish("tick", number)
            assert (await _next_of(socket), await _next_of(events)) == (number, number)


@pytest.mark.parametrize("options", [[], ["--processes", "2"]])
async def test_a_server_that_is_watched_ends_when_it_is_told_to(
    production_product: Product, options: list[str]
) -> None:
    product = production_product
    server = await product.start_serve(*options)
    address = product.origin.removeprefix("http://")
    async with (
        connected(address, product.token) as socket,
        streamed(address, product.token, ATTEMPTS) as events,
    ):
        await socket.subscribe(ATTEMPTS)
        assert events.response.status_code == 200
        server.send(signal.SIGTERM)
        with pytest.raises(StopAsyncIteration):  # and no `complete`, after which a client would not come back
            await events.take()
        assert (await socket.closed())[0] == 1012
        async with asyncio.timeout(ENDS_WITHIN_S):
            assert await server.end() == 0
    assert "Traceback" not in server.output


async def _are_watching(product: Product, watchers: Sequence[Watcher]) -> None:
    """Publishes until each of them has seen something: only then is it sure that none of them misses what follows."""
    for watcher in watchers:
        seeing = asyncio.ensure_future(watcher.data())
        while not seeing.done():
            await product.publish("tick", "are you there?")
            await asyncio.wait([seeing], timeout=0.3)
        await seeing
    await product.publish("tick", "go")
    for watcher in watchers:
        while await _next_of(watcher) != "go":
            pass


async def _next_of(watcher: Watcher) -> object:
    made: Json = await watcher.data()
    return made["attempt"]["delivery"]["event"]["data"]
