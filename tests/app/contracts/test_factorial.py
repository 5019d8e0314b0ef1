"""Factorial: what its callers send and what its receivers check, to the letter of its documents."""

import httpx
import pytest

from models.attempt import Attempt
from models.delivery import Delivery, DeliveryStatus
from models.webhook import DisabledReason, Webhook, WebhookStatus
from tests.app.contracts.client import Json, OldCaller, attempted, caller, lenient, publish_to
from tests.app.rest_client import PUBLIC_URL, Rest
from tests.houses import ManualClock
from tests.receivers import Receiver

DATED = "/api/2026-07-01/resources/api_public/webhook_subscriptions"
FIRST = "/api/v1/webhooks"
PATHS = [DATED, DATED.replace("2026-07-01", "2024-10-01"), DATED.replace("2026-07-01", "v2"), FIRST]
SUBSCRIPTION = ["id", "target_url", "type", "company_id", "name", "challenge", "enabled", "api_version"]
TYPE = "ats/application/create"
GOOD = {"target_url": PUBLIC_URL, "subscription_type": TYPE, "company_id": 42}


@pytest.fixture
async def old(api: Rest) -> OldCaller:
    return await caller(api, "factorial")


@pytest.fixture
async def heard(delivering: Rest) -> OldCaller:
    """A caller of a Hookline that delivers."""
    return await caller(delivering, "factorial")


async def subscription(old: OldCaller, path: str = DATED, **fields: Json) -> Json:
    response = await old.ask("POST", path, {**GOOD, **fields})
    assert response.status_code == 201, response.text
    return response.json()


@pytest.mark.parametrize("path", PATHS)
async def test_a_subscription_as_the_seed_tells_of_it_is_created(old: OldCaller, path: str) -> None:
    given = {**GOOD, "name": "Hires", "challenge": "knock knock", "api_version": "2026-07-01"}
    response = await old.ask("POST", path, given)
    body = response.json()
    assert response.status_code == 201
    assert list(body) == SUBSCRIPTION
    assert body == {
        "id": 1,
        "target_url": PUBLIC_URL,
        "type": TYPE,
        "company_id": 42,
        "name": "Hires",
        "challenge": "knock knock",
        "enabled": True,
        "api_version": "2026-07-01",
    }
    assert response.headers["Location"] == f"{path}/1"


async def test_what_is_optional_may_be_left_out(old: OldCaller) -> None:
    body = await subscription(old)
    assert (body["name"], body["api_version"], body["enabled"]) == (None, None, True)
    assert body["challenge"]
    first = await old.ask("POST", FIRST, {"event": "attendance/shift/clock_in", "url": PUBLIC_URL})
    assert (first.status_code, first.json()["type"], first.json()["company_id"]) == (
        201,
        "attendance/shift/clock_in",
        None,
    )


@pytest.mark.parametrize("header", ["x-api-key", "Authorization"])
async def test_the_key_may_come_in_either_header(old: OldCaller, header: str) -> None:
    value = old.token if header == "x-api-key" else f"Bearer {old.token}"
    old.token = ""
    assert (await old.ask("POST", DATED, GOOD, headers={header: value})).status_code == 201


async def test_a_delivery_is_the_bare_resource_with_the_challenge(heard: OldCaller) -> None:
    async with Receiver() as receiver:
        await subscription(heard, target_url=receiver.url, challenge="s3cret knock")
        await publish_to(heard.api, TYPE, {"id": 7, "full_name": "Ada"})
        [request] = await receiver.wait_for(1)
        await attempted(heard.api, 1)
    assert request.header("x-factorial-wh-challenge") == "s3cret knock"
    assert request.body == b'{"id":7,"full_name":"Ada"}'
    author = [request.header(f"x-factorial-author-{word}") for word in ("type", "id")]
    assert author == ["company", "42"]
    assert "s3cret knock" not in ((await Attempt.get()).request_headers or "")


async def test_without_a_company_nobody_is_the_author(heard: OldCaller) -> None:
    async with Receiver() as receiver:
        await heard.ask("POST", FIRST, {"event": TYPE, "url": receiver.url})
        await publish_to(heard.api, TYPE, {})
        [request] = await receiver.wait_for(1)
    assert request.header("x-factorial-author-id") is None


async def test_numbers_are_of_the_organization_and_never_given_twice(old: OldCaller) -> None:
    types = [f"documents/document/{word}" for word in ("create", "update", "delete", "restore")]
    numbers = [(await subscription(old, subscription_type=type_))["id"] for type_ in types[:2]]
    await old.ask("DELETE", f"{DATED}/2")
    numbers += [(await subscription(old, subscription_type=type_))["id"] for type_ in types[2:]]
    assert numbers == [1, 2, 3, 4]
    assert (await subscription(await old.as_tenant(old.api.theirs)))["id"] == 1
    await old.api.webhook()
    assert await Webhook.filter(number=None).count() == 1


async def test_one_type_of_one_company_has_one_subscription(old: OldCaller) -> None:
    created = await subscription(old)
    before = await old.api.stored()
    for path in PATHS:
        response = await old.ask("POST", path, {**GOOD, "target_url": "https://1.1.1.1/other"})
        assert (response.status_code, response.json()) == (
            422,
            {"errors": {"subscription_type": ["has already been taken"]}},
        )
    assert await old.api.stored() == before
    other = await subscription(old, company_id=43)
    response = await old.ask("PUT", f"{DATED}/{other['id']}", {"company_id": 42})
    assert (response.status_code, list(response.json()["errors"])) == (422, ["subscription_type"])
    await old.ask("DELETE", f"{DATED}/{created['id']}")
    assert (await old.ask("PUT", f"{DATED}/{other['id']}", {"company_id": 42})).status_code == 200
    assert (await subscription(await old.as_tenant(old.api.theirs)))["company_id"] == 42


@pytest.mark.parametrize("path", PATHS)
async def test_a_subscription_is_listed_got_changed_and_deleted(old: OldCaller, path: str) -> None:
    created = await subscription(old, path, challenge="first")
    one = f"{path}/{created['id']}"
    assert (await old.ask("GET", one)).json() == created
    assert (await old.ask("GET", path)).json() == {
        "data": [created],
        "meta": {
            "has_next_page": False,
            "has_previous_page": False,
            "end_cursor": None,
            "limit": 100,
            "total": 1,
        },
    }
    standing = created
    for change in (
        {"enabled": False},
        {"enabled": True},
        {"target_url": "https://1.1.1.1/other"},
        {"name": "Hires"},
        {"challenge": "second"},
        {"company_id": 43},
        {"subscription_type": "ats/application/update"},
        {"api_version": "2025-01-01"},
        {"colour": "red"},
    ):
        response = await old.ask("PUT", one, change)
        expected = {"type" if name == "subscription_type" else name: value for name, value in change.items()}
        standing = standing | {name: value for name, value in expected.items() if name in SUBSCRIPTION}
        assert (response.status_code, response.json()) == (200, standing)
    deleted = await old.ask("DELETE", one)
    assert (deleted.status_code, deleted.json()) == (200, standing)
    assert (await old.ask("GET", one)).status_code == 404


async def test_a_longer_list_goes_on_at_its_cursor(old: OldCaller) -> None:
    for company in range(3):
        await subscription(old, company_id=company)
    first = (await old.ask("GET", f"{DATED}?limit=2")).json()
    second = (await old.ask("GET", f"{DATED}?limit=2&cursor={first['meta']['end_cursor']}")).json()
    assert [one["id"] for one in [*first["data"], *second["data"]]] == [3, 2, 1]
    assert (first["meta"]["has_next_page"], second["meta"]["has_next_page"]) == (True, False)


async def test_a_changed_challenge_is_sent_at_once(heard: OldCaller) -> None:
    async with Receiver() as receiver:
        created = await subscription(heard, target_url=receiver.url, challenge="first")
        await heard.ask("PUT", f"{DATED}/{created['id']}", {"challenge": "second", "company_id": 43})
        await publish_to(heard.api, TYPE, {})
        [request] = await receiver.wait_for(1)
    assert request.header("x-factorial-wh-challenge") == "second"
    assert request.header("x-factorial-author-id") == "43"


async def test_after_20_failures_within_48_hours_it_is_disabled_and_can_be_revived(database_url: str) -> None:
    clock = ManualClock()
    async with Receiver(500) as receiver, lenient(database_url, clock=clock) as api:
        old = await caller(api, "factorial")
        one = f"{DATED}/{(await subscription(old, target_url=receiver.url))['id']}"
        await publish_to(api, TYPE, {"n": 1})
        began = clock.now
        for number in range(1, 21):
            await attempted(api, number)
            delivery = await Delivery.get()
            assert (delivery.failure_count, (await old.ask("GET", one)).json()["enabled"]) == (number, number < 20)
            if delivery.due_at is not None:
                clock.now = round(delivery.due_at.timestamp() * 1000)
        assert delivery.status is DeliveryStatus.DEAD_LETTERED
        assert 40 * 3_600_000 <= clock.now - began <= 48 * 3_600_000
        row = await Webhook.get()
        assert (row.status, row.disabled_reason) == (WebhookStatus.DISABLED, DisabledReason.CONSECUTIVE_FAILURES)
        receiver.answers = (200,)
        assert (await old.ask("PUT", one, {"enabled": True})).json()["enabled"] is True
        await publish_to(api, TYPE, {"n": 2})
        await attempted(api, 21)
        assert receiver.requests[-1].body == b'{"n":2}'
        assert (await old.ask("GET", one)).json()["enabled"] is True


NEEDED = "is required"
KNOWN = "is not a known event type"


@pytest.mark.parametrize(
    ("path", "body", "errors"),
    [
        (DATED, {"subscription_type": TYPE, "company_id": 1}, {"target_url": [NEEDED]}),
        (DATED, {"target_url": PUBLIC_URL, "company_id": 1}, {"subscription_type": [NEEDED]}),
        (DATED, {"target_url": PUBLIC_URL, "subscription_type": TYPE}, {"company_id": [NEEDED]}),
        (FIRST, {}, {"target_url": [NEEDED], "subscription_type": [NEEDED]}),
        (DATED, {**GOOD, "target_url": "http://1.1.1.1"}, {"target_url": ["must use https"]}),
        (DATED, {**GOOD, "target_url": "nowhere"}, {"target_url": ...}),
        (DATED, {**GOOD, "target_url": 1}, {"target_url": ["must be text"]}),
        (DATED, {**GOOD, "subscription_type": "ats.application.create"}, {"subscription_type": [KNOWN]}),
        (DATED, {**GOOD, "subscription_type": "ats/application"}, {"subscription_type": [KNOWN]}),
        (DATED, {**GOOD, "subscription_type": "nothing/application/create"}, {"subscription_type": [KNOWN]}),
        (DATED, {**GOOD, "subscription_type": "*"}, {"subscription_type": [KNOWN]}),
        (DATED, {**GOOD, "company_id": "ümlaut"}, {"company_id": ...}),
        (DATED, {**GOOD, "company_id": [1]}, {"company_id": ...}),
        (DATED, {**GOOD, "challenge": ""}, {"challenge": ...}),
        (DATED, {**GOOD, "challenge": "two\nlines"}, {"challenge": ...}),
        (DATED, {**GOOD, "challenge": "ümlaut"}, {"challenge": ...}),
        (DATED, {**GOOD, "enabled": "yes"}, {"enabled": ["must be true or false"]}),
        (DATED, [], {"body": ["must be an object"]}),
    ],
    ids=str,
)
async def test_bad_input_is_422_by_field_and_changes_nothing(
    old: OldCaller, path: str, body: Json, errors: Json
) -> None:
    before = await old.api.stored()
    response = await old.ask("POST", path, body)
    assert response.status_code == 422
    _check(response, errors)
    assert await old.api.stored() == before


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"target_url": "http://1.1.1.1"}, {"target_url": ["must use https"]}),
        ({"subscription_type": "unheard/of"}, {"subscription_type": [KNOWN]}),
        ({"challenge": "two\nlines"}, {"challenge": ...}),
        ({"enabled": 1}, {"enabled": ["must be true or false"]}),
        ([], {"body": ["must be an object"]}),
    ],
    ids=str,
)
async def test_a_bad_change_is_422_by_field_and_changes_nothing(old: OldCaller, change: Json, errors: Json) -> None:
    created = await subscription(old)
    before = await old.api.stored()
    response = await old.ask("PUT", f"{DATED}/{created['id']}", change)
    assert response.status_code == 422
    _check(response, errors)
    assert await old.api.stored() == before


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (f"GET {DATED}/99", 404),
        (f"GET {DATED}/nonsense", 404),
        (f"GET {DATED}/{'9' * 40}", 404),
        (f"PUT {DATED}/99", 404),
        (f"DELETE {FIRST}/99", 404),
        (f"PATCH {DATED}/99", 405),
        ("GET /api/v1/nothing", 404),
        ("GET /v1/webhooks", 404),
        (f"GET {DATED}?limit=101", 422),
        (f"GET {DATED}?limit=0", 422),
        (f"GET {DATED}?cursor=nonsense", 422),
    ],
)
async def test_what_is_not_there_is_told_in_the_contracts_form(old: OldCaller, request_: str, status: int) -> None:
    method, path = request_.split(" ")
    response = await old.ask(method, path, {} if method == "PUT" else ...)
    assert response.status_code == status
    assert list(response.json()) == (["errors"] if status == 422 else ["error"])


@pytest.mark.parametrize("version", ["v3", "2026-7-1", "v1", "2026-07-01x"])
async def test_a_version_that_there_never_was_is_another_path(old: OldCaller, version: str) -> None:
    headers = {"x-api-key": old.token}
    response = await old.api.http.get(DATED.replace("2026-07-01", version), headers=headers)
    assert (response.status_code, list(response.json())) == (404, ["error"])


async def test_a_caller_without_a_valid_key_is_unauthorized_in_the_contracts_form(old: OldCaller) -> None:
    for token in ("", "unknown-to-everybody"):
        old.token = token
        response = await old.ask("GET", DATED)
        assert (response.status_code, list(response.json())) == (401, ["error"])


async def test_one_more_than_the_limit_is_409(old: OldCaller) -> None:
    old.api.ours.organization.max_webhooks = 1
    await old.api.ours.organization.save()
    await subscription(old)
    response = await old.ask("POST", DATED, {**GOOD, "company_id": 2})
    assert (response.status_code, list(response.json())) == (409, ["error"])
    assert await Webhook.all().count() == 1


async def test_what_is_not_json_is_told_in_the_contracts_form(old: OldCaller) -> None:
    for content, media_type, status in (
        (b"{", "application/json", 400),
        (b"url=x", "text/plain", 415),
        (b" " * 1_000_001, "application/json", 413),
    ):
        response = await old.ask("POST", DATED, content=content, headers={"Content-Type": media_type})
        assert (response.status_code, list(response.json())) == (status, ["error"])


def _check(response: httpx.Response, errors: Json) -> None:
    body = response.json()
    assert list(body) == ["errors"]
    assert {name: ... if errors.get(name) is ... else text for name, text in body["errors"].items()} == errors
