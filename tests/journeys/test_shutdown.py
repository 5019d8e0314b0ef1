"""SIGTERM ends what is under way, and then the process."""

import asyncio
import signal

import psutil

from tests.journeys.product import WITHIN_S, Process, Product, until
from tests.receivers import Exchange, Receiver

TEST_WEBHOOK = """
mutation($input: TestWebhookInput!) { testWebhook(input: $input) {
  ... on TestWebhookPayload { attempt { outcome } } __typename
} }"""


class Slow:
    """A receiver's behaviour: answers half a second after it is told to, when whoever did not wait is gone."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()

    async def behaviour(self, exchange: Exchange) -> None:
        await self.answer.wait()
        await asyncio.sleep(0.5)
        await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


async def _takes_no_more_callers(product: Product) -> None:
    await until(product.accepts_connections, False)


async def test_everything_in_one_process_finishes_the_delivery_under_way(dev_product: Product) -> None:
    product, slow = dev_product, Slow()
    async with Receiver(slow.behaviour) as receiver:
        webhook, _ = await product.create_webhook(receiver.url, "tick")
        await product.publish("tick", {})
        await receiver.wait_for(1, timeout=WITHIN_S)
        [process] = product.processes
        process.send(signal.SIGTERM)
        await _takes_no_more_callers(product)
        slow.answer.set()
        assert await process.end() == 0

        await product.start_dev()
        assert await product.counts_of(webhook) == {"SUCCEEDED": 1}
        assert len(receiver.requests) == 1


async def test_a_worker_finishes_the_delivery_under_way(production_product: Product) -> None:
    product, slow = production_product, Slow()
    async with Receiver(slow.behaviour) as receiver:
        webhook, _ = await product.create_webhook(receiver.url, "tick")
        await product.publish("tick", {})
        await receiver.wait_for(1, timeout=WITHIN_S)
        worker = _process(product, "worker")
        worker.send(signal.SIGTERM)
        slow.answer.set()
        assert await worker.end() == 0
        assert await product.counts_of(webhook) == {"SUCCEEDED": 1}
        assert len(receiver.requests) == 1


async def test_a_server_answers_the_caller_it_has(production_product: Product) -> None:
    product, slow = production_product, Slow()
    async with Receiver(slow.behaviour) as receiver:
        webhook, _ = await product.create_webhook(receiver.url, "tick")
        waiting = asyncio.create_task(product.graphql(TEST_WEBHOOK, input={"id": webhook}))
        await receiver.wait_for(1, timeout=WITHIN_S)
        server = _process(product, "serve")
        server.send(signal.SIGTERM)
        await _takes_no_more_callers(product)
        slow.answer.set()
        assert (await waiting)["testWebhook"]["attempt"] == {"outcome": "SUCCESS"}
        assert await server.end() == 0


async def test_a_server_of_several_processes_ends_with_all_of_them(production_product: Product) -> None:
    product = production_product
    server = await product.start_serve("--processes", "2")
    workforce = server.children()
    assert len(workforce) >= 2
    assert await product.graphql("{ __typename }") == {"__typename": "Query"}
    server.send(signal.SIGTERM)
    assert await server.end() == 0
    assert psutil.wait_procs(workforce, timeout=WITHIN_S)[1] == []
    assert not await product.accepts_connections()


async def test_a_second_process_on_the_same_data_is_refused(dev_product: Product) -> None:
    second = dev_product.start("dev", "--port", "0", "--data", str(dev_product.folder / "data"))
    assert await second.end() not in (0, -signal.SIGKILL)
    assert str(dev_product.folder / "data") in second.output
    assert "Traceback" not in second.output
    assert (await dev_product.rest("GET", "/health/ready")).status_code == 200


def _process(product: Product, command: str) -> Process:
    [found] = [process for process in product.processes if command in process.command]
    return found
