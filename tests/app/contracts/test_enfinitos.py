"""Enfinitos: what its callers send and what its receivers verify, to the letter of its documents."""

import hashlib
import hmac
import json
import re

import pytest

from models.delivery import Delivery, DeliveryStatus
from models.webhook import Webhook
from resolvers import event_types
from resolvers.inputs import EventTypeDraft
from tests.app.contracts.client import Json, OldCaller, asker, attempted, caller, lenient, publish_to
from tests.app.rest_client import PUBLIC_URL, Rest
from tests.houses import ManualClock
from tests.receivers import Received, Receiver

SEED = b'{"url":"https://example.com/enfinitos","events":["*"],"label":"Everything"}'
"""The seed's body is made of placeholders; these are what they stand for."""
PLACEHOLDERS = b'{"url":"<string>","events":[],"label":"<string>"}'
SUBSCRIPTION = [
    "subscriptionId",
    "developerId",
    "url",
    "events",
    "label",
    "active",
    "createdAt",
    "lastDeliveredAt",
    "secretLastRotatedAt",
]
SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
UNKNOWN = "whk_01jx5s3k9pe8ratq6y2m4c7v0b"
GOOD = {"url": PUBLIC_URL, "events": ["right.issued"], "label": "Rights"}


@pytest.fixture
async def old(api: Rest) -> OldCaller:
    return await caller(api, "enfinitos")


@pytest.fixture
async def heard(delivering: Rest) -> OldCaller:
    """A caller of a Hookline that delivers."""
    return await caller(delivering, "enfinitos")


async def subscription(old: OldCaller, **fields: Json) -> Json:
    """`data` of a creation."""
    response = await old.ask("POST", "/v1/webhooks", {**GOOD, **fields})
    assert response.status_code == 201, response.text
    return response.json()["data"]


def error_of(response: Json) -> Json:
    """The error, after its form was checked."""
    body = response.json()
    assert list(body) == ["ok", "error", "contractVersion"]
    assert (body["ok"], body["contractVersion"]) == (False, "v1.0")
    assert list(body["error"]) in (["code", "message", "requestId"], ["code", "message", "requestId", "details"])
    return body["error"]


def vendor_accepts(request: Received, secret: str) -> bool:
    """As Enfinitos's documents tell receivers to verify: `<unix-seconds>.<raw-body>`, keyed with the whole secret."""
    match = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", request.header("Enfinitos-Signature") or "")
    assert match
    message = match[1].encode() + b"." + request.body
    return hmac.compare_digest(hmac.new(secret.encode(), message, hashlib.sha256).hexdigest(), match[2])


async def test_the_seeds_own_request_is_answered_as_the_seed_says(old: OldCaller) -> None:
    response = await old.ask("POST", "/v1/webhooks", content=SEED, headers={"Content-Type": "application/json"})
    body = response.json()
    assert response.status_code == 201
    assert list(body) == ["ok", "data", "contractVersion"]
    assert (body["ok"], body["contractVersion"]) == (True, "v1.0")
    assert list(body["data"]) == ["subscription", "signingSecret"]
    made = body["data"]["subscription"]
    assert list(made) == SUBSCRIPTION
    assert re.fullmatch(r"org_[0-9a-hjkmnp-tv-z]{26}", made["developerId"])
    assert (made["url"], made["events"], made["label"], made["active"]) == (
        "https://example.com/enfinitos",
        ["*"],
        "Everything",
        True,
    )
    assert SECOND.fullmatch(made["createdAt"])
    assert (made["lastDeliveredAt"], made["secretLastRotatedAt"]) == (None, made["createdAt"])
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]+=*", body["data"]["signingSecret"])


async def test_the_seeds_placeholders_are_no_subscription(old: OldCaller) -> None:
    response = await old.ask("POST", "/v1/webhooks", content=PLACEHOLDERS, headers={"Content-Type": "application/json"})
    assert (response.status_code, list(error_of(response)["details"])) == (400, ["events"])


async def test_a_delivery_is_verified_by_the_vendors_receiver(heard: OldCaller) -> None:
    async with Receiver() as receiver:
        created = await subscription(heard, url=receiver.url)
        await publish_to(heard.api, "right.issued", {"right": 7})
        [request] = await receiver.wait_for(1)
    assert vendor_accepts(request, created["signingSecret"])
    assert not vendor_accepts(request, created["signingSecret"].removeprefix("whsec_"))
    assert (json.loads(request.body)["type"], json.loads(request.body)["data"]) == ("right.issued", {"right": 7})


async def test_everything_can_be_subscribed_to_even_beside_a_catalogue_of_ones_own(old: OldCaller) -> None:
    await event_types.put(await asker(old.api), EventTypeDraft(name="offer.proposed"))
    created = await subscription(old, events=["right.expired", "key.rotated", "proof_pack.sealed", "*"])
    assert created["subscription"]["events"] == ["right.expired", "key.rotated", "proof_pack.sealed", "*"]


async def test_subscriptions_are_listed_and_got_without_secrets(old: OldCaller) -> None:
    first, second = await subscription(old), await subscription(old, label="Second")
    response = await old.ask("GET", "/v1/webhooks")
    body = response.json()
    assert list(body) == ["ok", "data", "contractVersion"]
    assert body["data"] == {
        "subscriptions": [second["subscription"], first["subscription"]],
        "nextCursor": None,
        "total": 2,
    }
    assert first["signingSecret"] not in response.text
    page = (await old.ask("GET", "/v1/webhooks?limit=1")).json()["data"]
    rest_ = (await old.ask("GET", f"/v1/webhooks?limit=1&cursor={page['nextCursor']}")).json()["data"]
    assert [*page["subscriptions"], *rest_["subscriptions"]] == body["data"]["subscriptions"]
    one = (await old.ask("GET", f"/v1/webhooks/{first['subscription']['subscriptionId']}")).json()
    assert one == {"ok": True, "data": {"subscription": first["subscription"]}, "contractVersion": "v1.0"}


async def test_a_deleted_subscription_is_gone(old: OldCaller) -> None:
    known = (await subscription(old))["subscription"]["subscriptionId"]
    response = await old.ask("DELETE", f"/v1/webhooks/{known}")
    assert response.status_code == 200
    assert response.json() == {
        "ok": True,
        "data": {"subscriptionId": known, "deleted": True},
        "contractVersion": "v1.0",
    }
    assert (await old.ask("GET", "/v1/webhooks")).json()["data"]["total"] == 0


@pytest.mark.parametrize("path", ["rotate-secret", "rotate"])
async def test_a_rotated_secret_signs_from_then_on(heard: OldCaller, path: str) -> None:
    async with Receiver() as receiver:
        created = await subscription(heard, url=receiver.url)
        known = created["subscription"]["subscriptionId"]
        rotated = (await heard.ask("POST", f"/v1/webhooks/{known}/{path}")).json()
        await publish_to(heard.api, "right.issued", {})
        [request] = await receiver.wait_for(1)
    assert list(rotated["data"]) == ["subscription", "signingSecret"]
    assert rotated["data"]["signingSecret"] != created["signingSecret"]
    assert vendor_accepts(request, rotated["data"]["signingSecret"])
    assert rotated["data"]["subscription"]["secretLastRotatedAt"] >= created["subscription"]["createdAt"]


async def test_last_delivered_at_is_when_a_delivery_last_succeeded(heard: OldCaller) -> None:
    async with Receiver(500) as bad, Receiver(200) as good:
        failing = (await subscription(heard, url=bad.url))["subscription"]["subscriptionId"]
        fine = (await subscription(heard, url=good.url))["subscription"]["subscriptionId"]
        await publish_to(heard.api, "right.issued", {})
        await bad.wait_for(1)
        await good.wait_for(1)
        await attempted(heard.api, 2)
    shown = (await heard.ask("GET", "/v1/webhooks")).json()["data"]["subscriptions"]
    last = {one["subscriptionId"]: one["lastDeliveredAt"] for one in shown}
    assert last[failing] is None
    assert SECOND.fullmatch(last[fine])


async def test_a_delivery_is_tried_five_times_and_then_dead_lettered(database_url: str) -> None:
    clock = ManualClock()
    async with Receiver(500) as receiver, lenient(database_url, clock=clock) as api:
        old = await caller(api, "enfinitos")
        await subscription(old, url=receiver.url)
        row = await Webhook.get()
        assert (row.timeout_ms, row.max_attempts, row.retry_schedule) == (10_000, 5, [30, 120, 600, 3600])
        await publish_to(api, "right.issued", {})
        for number, delay in enumerate((30, 120, 600, 3600, None), start=1):
            await attempted(api, number)
            delivery = await Delivery.get()
            assert (delivery.failure_count, len(receiver.requests)) == (number, number)
            if delay is None:
                break
            assert delivery.due_at is not None
            waited = (delivery.due_at.timestamp() * 1000 - clock.now) / 1000
            assert delay <= waited <= delay * 1.1
            clock.advance(seconds=delay * 1.1)
        assert delivery.status is DeliveryStatus.DEAD_LETTERED
        shown = (await old.ask("GET", "/v1/webhooks")).json()["data"]["subscriptions"]
        assert shown[0]["active"] is True


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**GOOD, "url": "http://1.1.1.1/hooks"}, "url"),
        ({**GOOD, "url": "/relative"}, "url"),
        ({**GOOD, "url": None}, "url"),
        ({"events": ["*"], "label": "x"}, "url"),
        ({**GOOD, "events": []}, "events"),
        ({**GOOD, "events": ["right.lost"]}, "events.0"),
        ({**GOOD, "events": ["*", "right.*"]}, "events.1"),
        ({"url": PUBLIC_URL, "label": "x"}, "events"),
        ({**GOOD, "label": ""}, "label"),
        ({**GOOD, "label": "x" * 61}, "label"),
        ({"url": PUBLIC_URL, "events": ["*"]}, "label"),
        ("text", "body"),
    ],
    ids=str,
)
async def test_bad_input_is_400_with_details_and_changes_nothing(old: OldCaller, body: Json, field: str) -> None:
    before = await old.api.stored()
    response = await old.ask("POST", "/v1/webhooks", body)
    error = error_of(response)
    assert (response.status_code, error["code"], list(error["details"])) == (400, "VALIDATION_FAILED", [field])
    assert await old.api.stored() == before


async def test_a_label_of_60_and_an_unknown_field_are_taken(old: OldCaller) -> None:
    assert (await subscription(old, label="x" * 60, active=False))["subscription"]["active"] is True


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ("GET /v1/webhooks/{nobodys}", 404, "NOT_FOUND"),
        ("DELETE /v1/webhooks/{nobodys}", 404, "NOT_FOUND"),
        ("POST /v1/webhooks/{nobodys}/rotate-secret", 404, "NOT_FOUND"),
        ("POST /v1/webhooks/{nobodys}/rotate", 404, "NOT_FOUND"),
        ("PATCH /v1/webhooks/{nobodys}", 405, "METHOD_NOT_ALLOWED"),
        ("GET /v1/webhooks/deliveries", 404, "NOT_FOUND"),
        ("GET /v1/webhooks?limit=0", 400, "VALIDATION_FAILED"),
        ("GET /v1/webhooks?limit=101", 400, "VALIDATION_FAILED"),
        ("GET /v1/webhooks?cursor=nonsense", 400, "VALIDATION_FAILED"),
    ],
)
async def test_what_is_not_there_is_told_in_the_contracts_form(
    old: OldCaller, request_: str, status: int, code: str
) -> None:
    method, path = request_.replace("{nobodys}", UNKNOWN).split(" ")
    response = await old.ask(method, path)
    assert (response.status_code, error_of(response)["code"]) == (status, code)


async def test_a_key_needs_the_wildcard_scope(old: OldCaller) -> None:
    narrow = await old.as_tenant(old.api.ours, "webhooks:read", "webhooks:write")
    for method, path, body in (("POST", "/v1/webhooks", GOOD), ("GET", "/v1/webhooks", ...)):
        response = await narrow.ask(method, path, body)
        assert (response.status_code, error_of(response)["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize("token", ["sk_sandbox_unknown", "sk_live_unknown", "sk_test_unknown"])
async def test_an_unknown_key_of_the_vendors_form_is_unauthorized_in_its_form(old: OldCaller, token: str) -> None:
    old.token = token
    response = await old.ask("POST", "/v1/webhooks", GOOD)
    assert (response.status_code, error_of(response)["code"]) == (401, "UNAUTHORIZED")


async def test_one_more_than_the_limit_is_409(old: OldCaller) -> None:
    old.api.ours.organization.max_webhooks = 1
    await old.api.ours.organization.save()
    await subscription(old)
    response = await old.ask("POST", "/v1/webhooks", GOOD)
    assert (response.status_code, error_of(response)["code"]) == (409, "LIMIT_EXCEEDED")
    assert await Webhook.all().count() == 1


async def test_what_is_not_json_is_told_in_the_contracts_form(old: OldCaller) -> None:
    for content, media_type, status in (
        (b"{", "application/json", 400),
        (b"url=x", "text/plain", 415),
        (b" " * 1_000_001, "application/json", 413),
    ):
        response = await old.ask("POST", "/v1/webhooks", content=content, headers={"Content-Type": media_type})
        assert response.status_code == status
        assert error_of(response)["code"] in ("MALFORMED_JSON", "UNSUPPORTED_MEDIA_TYPE", "PAYLOAD_TOO_LARGE")
