"""The whole main job, through each door: register a webhook, publish an event, see it arrive signed."""

from tests.journeys.product import Json, Product, until
from tests.journeys.verification import is_signed_with, verified
from tests.receivers import Received, Receiver

STATS = """
query($id: ID!) { webhook(id: $id) { stats {
  deliveries { pending succeeded retrying deadLettered canceled } attempts successRate consecutiveFailures
} } }"""
ROTATE = """
mutation($input: RotateWebhookSecretInput!) { rotateWebhookSecret(input: $input) {
  ... on RotateWebhookSecretPayload { secret previousSecretExpiresAt } __typename
} }"""
EXPIRE_PREVIOUS = """
mutation($input: ExpirePreviousWebhookSecretInput!) { expirePreviousWebhookSecret(input: $input) { __typename } }"""


async def test_from_registration_to_deletion_through_graphql(product: Product) -> None:
    async with Receiver() as receiver:
        webhook, secret = await product.create_webhook(receiver.url, "order.*")

        _, matched = await product.publish("order.paid", {"number": 1, "für": "Zoë"})
        assert matched == 1
        [first] = await receiver.wait_for(1)
        body = verified(first, secret)
        assert (body["type"], body["data"]) == ("order.paid", {"number": 1, "für": "Zoë"})

        await until(lambda: _stats(product, webhook), _all_succeeded(1))

        rotation = await product.graphql(ROTATE, input={"id": webhook, "overlapSeconds": 3600})
        new_secret = rotation["rotateWebhookSecret"]["secret"]
        assert rotation["rotateWebhookSecret"]["previousSecretExpiresAt"] is not None
        assert new_secret != secret
        await product.publish("order.paid", {"number": 2})
        [_, second] = await receiver.wait_for(2)
        assert verified(second, secret) == verified(second, new_secret)
        assert len((second.header("webhook-signature") or "").split()) == 2

        await product.graphql(EXPIRE_PREVIOUS, input={"id": webhook})
        await product.publish("order.paid", {"number": 3})
        third = (await receiver.wait_for(3))[2]
        assert is_signed_with(third, new_secret)
        assert not is_signed_with(third, secret)
        await until(lambda: _stats(product, webhook), _all_succeeded(3))

        assert await product.delete_webhook(webhook) == 0
        _, matched = await product.publish("order.paid", {"number": 4})
        assert matched == 0
        await _everything_sent_so_far_has_arrived(product)
        assert len(receiver.requests) == 3


async def test_from_registration_to_deletion_through_rest_alone(product: Product) -> None:
    async with Receiver() as receiver:
        created = await product.rest("POST", "/v1/webhooks", {"url": receiver.url, "events": ["parcel.sent"]})
        assert created.status_code == 201
        webhook: Json = created.json()
        path, secret = f"/v1/webhooks/{webhook['id']}", webhook["secret"]
        assert (webhook["url"], webhook["events"], webhook["active"]) == (receiver.url, ["parcel.sent"], True)
        assert webhook["secret_displayed_once"] is True
        assert "secret" not in (await product.rest("GET", path)).json()

        published = await product.rest("POST", "/v1/events", {"type": "parcel.sent", "data": {"number": 1}})
        assert published.is_success, published.text
        [first] = await receiver.wait_for(1)
        body = verified(first, secret)
        assert (body["type"], body["data"]) == ("parcel.sent", {"number": 1})

        rotated = await product.rest("POST", f"{path}/rotate-secret")
        assert rotated.status_code == 200
        new_secret = rotated.json()["secret"]
        await product.rest("POST", "/v1/events", {"type": "parcel.sent", "data": {"number": 2}})
        [_, second] = await receiver.wait_for(2)
        assert verified(second, new_secret)["data"] == {"number": 2}

        assert (await product.rest("DELETE", path)).is_success
        assert (await product.rest("GET", path)).status_code == 404
        after = await product.rest("POST", "/v1/events", {"type": "parcel.sent", "data": {"number": 3}})
        assert after.is_success
        await _everything_sent_so_far_has_arrived(product)
        assert len(receiver.requests) == 2


async def test_three_attempts_under_one_id_and_each_can_be_read(product: Product) -> None:
    async with Receiver(500, 500, 200) as receiver:
        webhook, secret = await product.create_webhook(
            receiver.url, "refund.made", delivery={"retryScheduleSeconds": [1, 1]}
        )
        event, _ = await product.publish("refund.made", {"cents": 995})
        sent = await receiver.wait_for(3)

        assert len({request.header("webhook-id") for request in sent}) == 1
        assert len({request.body for request in sent}) == 1
        assert all(is_signed_with(request, secret) for request in sent)
        await until(lambda: product.counts_of(webhook), {"SUCCEEDED": 1})
        assert len(receiver.requests) == 3

        [delivery] = (await product.graphql(ATTEMPTS, id=event))["event"]["deliveries"]["nodes"]
        assert delivery["attemptCount"] == 3
        assert [
            (attempt["number"], attempt["outcome"], attempt["response"]["statusCode"])
            for attempt in delivery["attempts"]
        ] == [(1, "HTTP_ERROR", 500), (2, "HTTP_ERROR", 500), (3, "SUCCESS", 200)]
        for attempt, request in zip(delivery["attempts"], sent, strict=True):
            assert attempt["request"]["url"] == receiver.url
            assert attempt["request"]["body"] == request.body.decode()
            assert attempt["request"]["bodyBytes"] == len(request.body)
            assert _signature_headers(attempt["request"]["headers"]) == {
                name: request.header(name) for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
            }


ATTEMPTS = """
query($id: ID!) { event(id: $id) { deliveries { nodes { attemptCount attempts {
  number outcome request { url headers { name value } body bodyBytes } response { statusCode }
} } } } }"""


def _signature_headers(headers: list[Json]) -> Json:
    return {
        header["name"].lower(): header["value"] for header in headers if header["name"].lower().startswith("webhook-")
    }


async def _stats(product: Product, webhook: str) -> Json:
    stats: Json = (await product.graphql(STATS, id=webhook))["webhook"]["stats"]
    return stats


def _all_succeeded(count: int) -> Json:
    return {
        "deliveries": {"pending": 0, "succeeded": count, "retrying": 0, "deadLettered": 0, "canceled": 0},
        "attempts": count,
        "successRate": 1.0,
        "consecutiveFailures": 0,
    }


async def _everything_sent_so_far_has_arrived(product: Product) -> list[Received]:
    """Due deliveries are claimed in the order of their time: once a later one is here, no earlier one is to come."""
    async with Receiver() as later:
        webhook, _ = await product.create_webhook(later.url, "later.on")
        await product.publish("later.on", {})
        arrived = await later.wait_for(1)
        await product.delete_webhook(webhook)
        return arrived
