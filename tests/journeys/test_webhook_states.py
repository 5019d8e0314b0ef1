"""Enabled, paused, disabled: by whom, and what becomes of the deliveries."""

from tests.journeys.product import Product, until
from tests.receivers import Receiver


async def test_a_receiver_that_is_gone_for_good_is_asked_once_and_its_webhook_disabled(product: Product) -> None:
    async with Receiver(410) as receiver:
        webhook, _ = await product.create_webhook(receiver.url, "shop.closed")
        await product.publish("shop.closed", {})
        await until(lambda: product.status_of(webhook), ("DISABLED", "GONE"))
        _, matched = await product.publish("shop.closed", {})
        assert matched == 0
        assert len(receiver.requests) == 1


async def test_a_paused_webhook_keeps_its_deliveries_until_it_is_enabled(product: Product) -> None:
    async with Receiver() as paused, Receiver() as other:
        webhook, _ = await product.create_webhook(paused.url, "seat.*")
        await product.create_webhook(other.url, "seat.*")
        await product.update_webhook(webhook, status="PAUSED")
        assert [(await product.publish("seat.taken", {"row": row}))[1] for row in range(3)] == [2, 2, 2]
        await other.wait_for(3)
        assert await product.counts_of(webhook) == {"PENDING": 3}
        assert paused.requests == []

        await product.update_webhook(webhook, status="ENABLED")
        await paused.wait_for(3)
        await until(lambda: product.counts_of(webhook), {"SUCCEEDED": 3})
        assert len(paused.requests) == 3


async def test_a_disabled_webhook_gets_no_deliveries_then_or_later(product: Product) -> None:
    async with Receiver() as disabled, Receiver() as other:
        webhook, _ = await product.create_webhook(disabled.url, "bus.*")
        await product.create_webhook(other.url, "bus.*")
        await product.update_webhook(webhook, status="DISABLED")
        assert await product.status_of(webhook) == ("DISABLED", "MANUAL")
        _, matched = await product.publish("bus.left", {})
        assert matched == 1

        await product.update_webhook(webhook, status="ENABLED")
        assert await product.status_of(webhook) == ("ENABLED", None)
        await product.publish("bus.came", {})
        [came] = await disabled.wait_for(1)
        await other.wait_for(2)
        assert b"bus.came" in came.body
        assert await product.counts_of(webhook) in ({"SENDING": 1}, {"SUCCEEDED": 1})
        assert len(disabled.requests) == 1
