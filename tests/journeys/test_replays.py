"""What was missed is made good by a replay, whatever dies meanwhile, and nothing new waits for it."""

import asyncio
import json
import time
from itertools import pairwise

from tests.journeys.product import WITHIN_S, Process, Product, until
from tests.receivers import Received, Receiver
from tests.services import Redis
from tests.watchers import Events, Socket, connected, streamed

MANY = 20_000
AT_ONCE = 1000

REPLAY = """
mutation($input: ReplayDeliveriesInput!) { replayDeliveries(input: $input) {
  ... on ReplayDeliveriesPayload { replay { id status total } } ... on UserError { code message } __typename
} }"""
CANCEL = """
mutation($input: CancelReplayInput!) { cancelReplay(input: $input) {
  ... on CancelReplayPayload { replay { status } } ... on UserError { code message } __typename
} }"""
HOW_FAR = "query($id: ID!) { replay(id: $id) { status total enqueued succeeded failed } }"
WATCH = "subscription($replay: ID!) { replayProgressed(id: $replay) { status total enqueued succeeded failed } }"
SINCE_EVER = {"missing": {"since": "2020-01-01T00:00:00Z"}}


async def _miss(product: Product, count: int) -> set[str]:
    """Publishes what no webhook wants yet; the events' ids."""
    missed: set[str] = set()
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, count))
        published = await product.publish_all([{"type": "missed", "data": {"number": n}} for n in numbers])
        missed |= {event_id for event_id, _ in published}
    return missed


async def _replay(product: Product, webhook: str) -> str:
    asked = {"webhookId": webhook, "select": SINCE_EVER}
    answer = (await product.graphql(REPLAY, input=asked))["replayDeliveries"]
    return str(answer["replay"]["id"])


async def _how_far(product: Product, replay: str) -> dict[str, object]:
    return dict((await product.graphql(HOW_FAR, id=replay))["replay"])


async def _completed(product: Product, replay: str) -> dict[str, object]:
    """How far it came in the end. Fails when it stands still: how long so many take is the machine's affair."""
    figures: dict[str, object] = {}
    while (latest := await _how_far(product, replay))["status"] != "COMPLETED":
        if latest != figures:
            figures, deadline = latest, time.monotonic() + WITHIN_S
        assert time.monotonic() < deadline, f"the replay stands still: {latest}"
        await asyncio.sleep(0.05)
    return latest


async def _watched(watcher: Socket | Events) -> list[dict[str, object]]:
    """All that is told of a replay until the server says that there is no more."""
    seen: list[dict[str, object]] = []
    while True:
        if isinstance(watcher, Socket):
            message = await watcher.take()
            kind, payload = message["type"], message.get("payload", {})
        else:
            kind, payload = await watcher.take()
        if kind == "complete":
            return seen
        assert kind == "next", payload
        seen.append(payload["data"]["replayProgressed"])


def _is_a_whole_story(seen: list[dict[str, object]], count: int) -> None:
    """Begins before anything is made, only goes forward, and ends with all of it delivered."""
    names = ("total", "enqueued", "succeeded", "failed")
    assert [seen[0][name] for name in names] == [0, 0, 0, 0]
    assert seen[-1] == {"status": "COMPLETED", "total": count, "enqueued": count, "succeeded": count, "failed": 0}
    for name in ("enqueued", "succeeded"):
        figures = [int(str(one[name])) for one in seen]
        assert figures == sorted(figures)
    assert any(0 < int(str(one["succeeded"])) < count for one in seen)
    assert all(before != after for before, after in pairwise(seen))


def _workers(product: Product) -> list[Process]:
    return [process for process in product.processes if process.command[-1] == "worker" and not process.has_ended]


async def test_workers_killed_in_the_middle_of_a_large_replay_skip_nothing_and_make_nothing_twice(
    production_product: Product, own_redis: Redis
) -> None:
    product = production_product
    async with Receiver() as receiver:
        missed = await _miss(product, MANY)
        webhook, _ = await product.create_webhook(receiver.url, "missed")
        replay = await _replay(product, webhook)
        for some in (1000, 5000, 9000):
            await receiver.wait_for(some, timeout=WITHIN_S)
            for worker in _workers(product):
                await worker.kill()
            assert await own_redis.command("FLUSHALL") == b"+OK"
            assert (await _how_far(product, replay))["status"] == "RUNNING"
            product.start("worker")
        assert await _completed(product, replay) == {
            "status": "COMPLETED", "total": MANY, "enqueued": MANY, "succeeded": MANY, "failed": 0,
        }  # fmt: skip
        assert await product.counts_of(webhook) == {"SUCCEEDED": MANY}
        assert {request.header("webhook-id") for request in receiver.requests} == missed


async def test_a_replay_is_watched_to_its_end(product: Product) -> None:
    address = product.origin.removeprefix("http://")
    async with Receiver() as receiver, connected(address, product.token) as socket:
        published = await product.publish_all([{"type": "watched.missed", "data": n} for n in range(1000)])
        webhook, _ = await product.create_webhook(receiver.url, "watched.missed", delivery={"maxPerSecond": 500})
        replay = await _replay(product, webhook)
        await socket.subscribe(WATCH, replay=replay)
        async with streamed(address, product.token, WATCH, replay=replay) as events:
            for seen in await asyncio.gather(_watched(socket), _watched(events)):
                _is_a_whole_story(seen, len(published))


async def test_a_replay_is_watched_on_every_server_and_while_redis_is_away(
    production_product: Product, own_redis: Redis
) -> None:
    product = production_product
    first = product.origin.removeprefix("http://")
    await product.start_serve("--processes", "2")
    second = product.origin.removeprefix("http://")
    async with (
        Receiver() as receiver,
        connected(first, product.token) as one,
        connected(second, product.token) as two,
        connected(second, product.token) as three,
    ):
        await _miss(product, 1000)
        webhook, _ = await product.create_webhook(receiver.url, "missed", delivery={"maxPerSecond": 200})
        replay = await _replay(product, webhook)
        sockets = (one, two, three)
        for socket in sockets:
            await socket.subscribe(WATCH, replay=replay)
        watching = asyncio.gather(*map(_watched, sockets))
        await receiver.wait_for(200, timeout=WITHIN_S)
        own_redis.stop()
        for seen in await watching:
            _is_a_whole_story(seen, 1000)


async def test_a_replay_that_is_canceled_sends_no_more(production_product: Product) -> None:
    product = production_product
    async with Receiver() as receiver:
        await _miss(product, 5000)
        webhook, _ = await product.create_webhook(receiver.url, "missed", delivery={"maxPerSecond": 100})
        replay = await _replay(product, webhook)
        await receiver.wait_for(50, timeout=WITHIN_S)
        canceled = (await product.graphql(CANCEL, input={"id": replay}))["cancelReplay"]
        assert canceled["replay"]["status"] == "CANCELED"

        async def open_ones() -> int:
            counts = await product.counts_of(webhook)
            return sum(counts.get(state, 0) for state in ("PENDING", "SENDING", "RETRYING"))

        await until(open_ones, 0)
        sent = len(receiver.requests)
        await product.publish("missed", {"number": "new"})
        await receiver.wait_for(sent + 1, timeout=WITHIN_S)
        await until(open_ones, 0)
        assert len(receiver.requests) == sent + 1
        assert sent < 1000
        counts = await product.counts_of(webhook)
        assert counts["SUCCEEDED"] == sent + 1
        assert (await _how_far(product, replay))["enqueued"] == sent + counts["CANCELED"]


async def test_the_command_line_replays_with_a_bar_and_says_what_came_of_it(product: Product) -> None:
    async with Receiver() as receiver:
        published = await product.publish_all([{"type": "cli.missed", "data": n} for n in range(300)])
        webhook, _ = await product.create_webhook(receiver.url, "cli.missed")
        process = product.start(
            "deliveries", "replay", "--webhook", webhook, "--missing", "--since", "2020-01-01",
            "--url", product.origin, "--key", product.token,
        )  # fmt: skip
        assert await process.end() == 0, process.output
        assert process.output.startswith("rpl_")
        assert process.output.endswith("300 delivered, 0 failed, of 300\n")
        ids = sorted(str(request.header("webhook-id")) for request in receiver.requests)
        assert ids == sorted(event_id for event_id, _ in published)


async def test_what_is_new_arrives_while_a_large_replay_is_under_way(production_product: Product) -> None:
    """Each new event is there before the replay has ended, and behind few replayed ones."""
    product, news = production_product, 50
    began: dict[int, int] = {}
    async with Receiver() as receiver:
        await _miss(product, MANY)
        webhook, _ = await product.create_webhook(receiver.url, "*", delivery={"maxPerSecond": 400})
        replay = await _replay(product, webhook)
        await receiver.wait_for(500, timeout=WITHIN_S)
        for number in range(news):
            await product.publish("new", {"number": number})
            began[number] = len(receiver.requests)
            await asyncio.sleep(0.05)

        def arrived() -> dict[int, int]:
            new = [(n, r) for n, r in enumerate(receiver.requests) if json.loads(r.body)["type"] == "new"]
            return {_number(request): n for n, request in new}

        async def count() -> int:
            return len(arrived())

        await until(count, news)
        assert (await _how_far(product, replay))["status"] == "RUNNING"
        overtaken = sorted(arrived()[number] - began[number] for number in range(news))
        assert overtaken[-1] < 400  # a second's worth; without precedence it would be a thousand and more


def _number(request: Received) -> int:
    number: int = json.loads(request.body)["data"]["number"]
    return number
