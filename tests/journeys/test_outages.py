"""What breaks in production, and that nothing is lost by it."""

import asyncio
import time
from collections import Counter
from functools import partial
from pathlib import Path

from tests.journeys.conftest import StartsProduction
from tests.journeys.product import WITHIN_S, Product, install, production, until
from tests.receivers import Exchange, Receiver
from tests.services import Redis, postgresql_server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
ALL = 1000
BEFORE_THE_BREAK = 300


class Break:
    """A receiver's behaviour: answers the first few, then holds its breath until told to go on."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self._begun = 0

    async def behaviour(self, exchange: Exchange) -> None:
        self._begun += 1
        if self._begun > BEFORE_THE_BREAK:
            await self.over.wait()
        await exchange.write(OK)


async def _publish_all(product: Product) -> None:
    published = await product.publish_all([{"type": "tick", "data": {"number": n}} for n in range(ALL)])
    assert [matched for _, matched in published] == [1] * ALL


def _distinct(receiver: Receiver) -> int:
    return len({request.header("webhook-id") for request in receiver.requests})


async def test_a_worker_killed_in_the_middle_loses_nothing(production_product: Product) -> None:
    product, pause = production_product, Break()
    async with Receiver(pause.behaviour) as receiver:
        webhook, _ = await product.create_webhook(receiver.url, "tick", delivery={"timeoutSeconds": 2})
        await _publish_all(product)
        await receiver.wait_for(BEFORE_THE_BREAK + 1, timeout=WITHIN_S)
        [worker] = [process for process in product.processes if process.command[-1] == "worker"]
        await worker.kill()
        assert (await product.counts_of(webhook)).get("SUCCEEDED", 0) < ALL
        pause.over.set()

        product.start("worker")
        await until(lambda: product.counts_of(webhook), {"SUCCEEDED": ALL})
        assert _distinct(receiver) == ALL


async def test_a_crash_repeats_only_what_was_unfinished(production_product: Product) -> None:
    product, go_on = production_product, asyncio.Event()

    async def behaviour(exchange: Exchange) -> None:
        if exchange.request.path == "/hook/19":
            await go_on.wait()
        await exchange.write(OK)

    async with Receiver(behaviour) as receiver:
        webhooks = [
            (await product.create_webhook(f"{receiver.url}/{number}", "tick", delivery={"timeoutSeconds": 2}))[0]
            for number in range(20)
        ]
        assert (await product.publish("tick", {}))[1] == 20
        for webhook in webhooks[:19]:
            await until(partial(product.counts_of, webhook), {"SUCCEEDED": 1})
        [worker] = [process for process in product.processes if process.command[-1] == "worker"]
        await worker.kill()
        assert (await product.counts_of(webhooks[19])).get("SUCCEEDED", 0) == 0
        go_on.set()

        product.start("worker")
        await until(partial(product.counts_of, webhooks[19]), {"SUCCEEDED": 1})
        times = Counter(request.path for request in receiver.requests)
        assert times.pop("/hook/19") >= 2
        assert times == {f"/hook/{number}": 1 for number in range(19)}


async def test_redis_emptied_in_the_middle_loses_nothing(production_product: Product, own_redis: Redis) -> None:
    product, pause = production_product, Break()
    async with Receiver(pause.behaviour) as receiver:
        webhook, _ = await product.create_webhook(receiver.url, "tick")
        await _publish_all(product)
        await receiver.wait_for(BEFORE_THE_BREAK + 1, timeout=WITHIN_S)
        assert await own_redis.command("FLUSHALL") == b"+OK"
        pause.over.set()

        await until(lambda: product.counts_of(webhook), {"SUCCEEDED": ALL})
        assert _distinct(receiver) == ALL


async def test_with_redis_down_publishing_answers_and_deliveries_arrive(
    production_product: Product, own_redis: Redis
) -> None:
    product = production_product
    async with Receiver() as receiver:
        webhook, _ = await product.create_webhook(receiver.url, "tick")
        await product.publish("tick", {"redis": "up"})
        await receiver.wait_for(1, timeout=WITHIN_S)

        own_redis.stop()
        for number in range(3):
            _, matched = await product.publish("tick", {"redis": "down", "number": number})
            assert matched == 1
        await receiver.wait_for(4, timeout=WITHIN_S)

        own_redis.start()
        await product.publish("tick", {"redis": "up again"})
        await receiver.wait_for(5, timeout=WITHIN_S)
        await until(lambda: product.counts_of(webhook), {"SUCCEEDED": 5})
        assert len(receiver.requests) == 5


async def test_two_servers_and_two_workers_make_one_request_of_one_delivery(start_production: StartsProduction) -> None:
    async with start_production(workers=2) as product, Receiver() as receiver:
        first = product.origin
        await product.start_serve()
        second = product.origin
        product.origin = first
        webhook, _ = await product.create_webhook(receiver.url, "tick")
        for number in range(100):
            product.origin = (second, first)[number % 2]
            _, matched = await product.publish("tick", {"number": number})
            assert matched == 1
        await until(lambda: product.counts_of(webhook), {"SUCCEEDED": 100})
        assert _distinct(receiver) == 100
        assert len(receiver.requests) == 100


async def test_with_postgresql_down_publishing_is_503_in_a_line_a_second_and_the_same_key_goes_through_later(
    tmp_path: Path, own_redis: Redis
) -> None:
    event = {"type": "tick", "data": {"postgresql": "down"}, "idempotency_key": "once"}
    with postgresql_server() as postgresql:
        installation = await install(tmp_path, postgresql)
        async with production(tmp_path, postgresql, own_redis, installation) as product, Receiver() as receiver:
            webhook, _ = await product.create_webhook(receiver.url, "tick")
            postgresql.stop()
            began = time.monotonic()
            for _ in range(50):
                answer = await product.rest("POST", "/v1/events", event)
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            took = time.monotonic() - began
            await asyncio.to_thread(postgresql.start)
            [serve] = [process for process in product.processes if process.command[3] == "serve"]
            lines = serve.output.splitlines()
            assert 1 <= len([line for line in lines if "the database is away" in line]) <= 1 + took
            assert "Traceback" not in serve.output

            answer = await product.rest("POST", "/v1/events", event)
            assert (answer.status_code, answer.json()["duplicate"]) == (201, False)
            assert (await product.rest("POST", "/v1/events", event)).json()["duplicate"] is True
            await until(lambda: product.counts_of(webhook), {"SUCCEEDED": 1})
            assert len(receiver.requests) == 1
