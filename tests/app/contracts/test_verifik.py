"""Verifik: what its callers send and what its receivers verify, to the letter of both generations of its documents."""

import hashlib
import hmac
import json
import re

import httpx
import pytest

from models.delivery import Delivery, DeliveryStatus
from models.webhook import Webhook
from tests.app.contracts.client import Json, OldCaller, attempted, caller, lenient, publish_to
from tests.app.rest_client import PUBLIC_URL, Rest
from tests.houses import ManualClock
from tests.receivers import Received, Receiver

SEED = {
    "url": "https://api.example.com/webhooks/verifik",
    "name": "Production Webhook",
    "isActive": True,
    "description": "Main webhook for production notifications",
    "link": ["project_flow_123456789"],
    "events": ["validation.completed", "validation.failed", "registration.completed", "login.completed"],
    "secret": "webhook_secret_key_123456789",
}
WEBHOOK = ["_id", "client", "projectFlow", "statistics", "isActive", "name", "url", "description", "events", "secret"]
WEBHOOK += ["retryPolicy", "createdAt", "updatedAt"]
POLICY = {"maxRetries": 3, "retryDelay": 5000, "timeout": 30000}
SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
UNKNOWN = "65a5146e1f0c2d4b8a9e7c31"
GOOD = {"url": PUBLIC_URL, "name": "Main", "isActive": True}


@pytest.fixture
async def old(api: Rest) -> OldCaller:
    return await caller(api, "verifik")


@pytest.fixture
async def heard(delivering: Rest) -> OldCaller:
    """A caller of a Hookline that delivers."""
    return await caller(delivering, "verifik")


async def webhook(old: OldCaller, **fields: Json) -> Json:
    response = await old.ask("POST", "/v2/webhooks", {**GOOD, **fields})
    assert response.status_code == 200, response.text
    return response.json()["data"]


def vendor_accepts(request: Received, secret: str) -> bool:
    """As Verifik's documents tell receivers to verify: `sha256=` and the HMAC of the raw body."""
    expected = "sha256=" + hmac.new(secret.encode(), request.body, hashlib.sha256).hexdigest()
    return request.header("X-Verifik-Signature") == expected


async def test_the_seeds_own_request_is_answered_as_the_seed_says(old: OldCaller) -> None:
    raw = json.dumps(SEED, separators=(",", ":")).encode()  # as axios writes it
    response = await old.ask("POST", "/v2/webhooks", content=raw, headers={"Content-Type": "application/json"})
    body = response.json()
    assert response.status_code == 200
    assert list(body) == ["success", "data"]
    assert body["success"] is True
    made = body["data"]
    assert list(made) == WEBHOOK
    assert re.fullmatch(r"[0-9a-f]{24}", made["_id"])
    assert re.fullmatch(r"org_[0-9a-hjkmnp-tv-z]{26}", made["client"])
    given = {name: made[name] for name in ("url", "name", "isActive", "description", "events", "secret")}
    assert given == {name: value for name, value in SEED.items() if name != "link"}
    assert made["projectFlow"] == SEED["link"]
    assert (made["statistics"], made["retryPolicy"]) == ({}, POLICY)
    assert SECOND.fullmatch(made["createdAt"])
    assert made["updatedAt"] == made["createdAt"]


async def test_the_newer_documents_request_is_taken_too_and_wants_every_event(heard: OldCaller) -> None:
    async with Receiver() as receiver:
        made = await webhook(heard, url=receiver.url, description="", link=[])
        await publish_to(heard.api, "onboarding_app_registration_completed", {"id": 1})
        [request] = await receiver.wait_for(1)
    assert (made["events"], made["projectFlow"]) == ([], [])
    assert json.loads(request.body)["type"] == "onboarding_app_registration_completed"
    assert vendor_accepts(request, made["secret"])


async def test_a_delivery_is_verified_by_the_vendors_receiver(heard: OldCaller) -> None:
    async with Receiver() as receiver:
        await webhook(heard, url=receiver.url, events=["login.completed"], secret="s")
        await publish_to(heard.api, "login.completed", {"person": 7})
        [request] = await receiver.wait_for(1)
    assert vendor_accepts(request, "s")
    assert not vendor_accepts(request, "S")
    assert request.body == b'{"type":"login.completed","object":{"person":7}}'


@pytest.mark.parametrize(
    "name",
    [
        "validation.failed",
        "verification.expired",
        "document.uploaded",
        "app_registration_created",
        "onboarding_app_registration_sync_step_1",
        "login_email_validation_otp_incorect",
        "phone_validation_validated",
        "document_validation_manual_verification_required",
        "biometric_validation_liveness_failed",
        "biometrics_liveness_score_not_acceptable",
        "information_validation_background_check",
        "face_verification_compare",
        "*",
    ],
)
async def test_event_types_of_both_generations_are_known(old: OldCaller, name: str) -> None:
    made = await webhook(old, events=[name])
    assert made["events"] == ([] if name == "*" else [name])


async def test_webhooks_are_listed_in_both_paging_styles_and_by_every_filter(old: OldCaller) -> None:
    first = await webhook(old, name="Alpha", link=["a"])
    second = await webhook(old, name="Beta", link=["a", "b"], isActive=False)
    third = await webhook(old, name="Gamma", url="https://1.1.1.1/other")
    for query, expected, pagination in (
        ("", [third, second, first], [1, 10, 3, 1]),
        ("page=1&limit=2", [third, second], [1, 2, 3, 2]),
        ("page=2&limit=2", [first], [2, 2, 3, 2]),
        ("page=3&perPage=1", [first], [3, 1, 3, 3]),
        ("page=4&limit=1", [], [4, 1, 3, 3]),
        ("isActive=true", [third, first], [1, 10, 2, 1]),
        ("isActive=false", [second], [1, 10, 1, 1]),
        ("projectFlow=a", [second, first], [1, 10, 2, 1]),
        ("projectFlow=c", [], [1, 10, 0, 0]),
        ("like_name=alp", [first], [1, 10, 1, 1]),
        ("where_url=other", [third], [1, 10, 1, 1]),
        ("populates[]=client&populates[]=projectFlow", [third, second, first], [1, 10, 3, 1]),
    ):
        body = (await old.ask("GET", f"/v2/webhooks?{query}")).json()
        assert list(body) == ["success", "data", "pagination"]
        assert body["data"] == expected, query
        assert list(body["pagination"].items()) == list(
            zip(("page", "limit", "total", "pages"), pagination, strict=True)
        )


async def test_a_webhook_is_got_changed_and_deleted(old: OldCaller) -> None:
    made = await webhook(old, link=["a", "b"], secret="first")
    path = f"/v2/webhooks/{made['_id']}"
    assert (await old.ask("GET", path)).json() == {"success": True, "data": made}
    for change, expected in (
        ({"name": "Other"}, {"name": "Other"}),
        ({"name": "Other"}, {"name": "Other"}),
        ({"url": "https://1.1.1.1/b"}, {"url": "https://1.1.1.1/b"}),
        ({"isActive": False}, {"isActive": False}),
        ({"isActive": True}, {"isActive": True}),
        ({"description": "d" * 300}, {"description": "d" * 300}),
        ({"description": None}, {"description": None}),
        ({"link": ["c", "a"]}, {"projectFlow": ["a", "b", "c"]}),
        ({"unlink": ["a", "x"]}, {"projectFlow": ["b", "c"]}),
        ({"link": ["d"], "unlink": ["b"]}, {"projectFlow": ["c", "d"]}),
        ({"events": ["login.completed"]}, {"events": ["login.completed"]}),
        ({"events": []}, {"events": []}),
        ({"secret": "second"}, {"secret": "second"}),
        ({"retryPolicy": {"retryDelay": 1500}}, {"retryPolicy": {**POLICY, "retryDelay": 1500}}),
        ({"retryPolicy": {"maxRetries": 0}}, {"retryPolicy": {**POLICY, "retryDelay": 1500, "maxRetries": 0}}),
        ({"colour": "red"}, {"name": "Other"}),
    ):
        body = (await old.ask("PUT", path, change)).json()
        assert (list(body), list(body["data"])) == (["success", "data"], WEBHOOK)
        assert {name: body["data"][name] for name in expected} == expected
    await old.ask("PUT", path, {"notification": {"email": "a@b.c", "success": True}})
    shown = (await old.ask("GET", path)).json()["data"]
    assert shown["notification"] == {"email": "a@b.c", "success": True, "fail": True}
    response = await old.ask("DELETE", path)
    assert (response.status_code, response.json()) == (
        200,
        {"success": True, "message": "Webhook deleted successfully"},
    )
    assert (await old.ask("GET", path)).status_code == 404


async def test_a_null_says_nothing_about_links_and_notifications(old: OldCaller) -> None:
    made = await webhook(old, link=["a"])
    path = f"/v2/webhooks/{made['_id']}"
    changed = await old.ask("PUT", path, {"link": None, "unlink": None})
    assert (changed.status_code, changed.json()["data"]["projectFlow"]) == (200, ["a"])
    changed = await old.ask("PUT", path, {"notification": {"email": "a@b.c", "success": None, "fail": None}})
    assert changed.status_code == 200
    shown = (await old.ask("GET", path)).json()["data"]
    assert shown["notification"] == {"email": "a@b.c", "success": False, "fail": True}


async def test_whole_numbers_may_be_written_with_a_point(old: OldCaller) -> None:
    made = await webhook(old, retryPolicy={"maxRetries": 2.0, "retryDelay": 1500.0, "timeout": 4e3})
    assert made["retryPolicy"] == {"maxRetries": 2, "retryDelay": 1500, "timeout": 4000}


async def test_a_changed_secret_signs_at_once(heard: OldCaller) -> None:
    async with Receiver() as receiver:
        made = await webhook(heard, url=receiver.url, secret="first")
        await heard.ask("PUT", f"/v2/webhooks/{made['_id']}", {"secret": "second"})
        await publish_to(heard.api, "login.completed", {})
        [request] = await receiver.wait_for(1)
    assert vendor_accepts(request, "second")


async def test_the_retry_policy_is_obeyed(database_url: str) -> None:
    clock = ManualClock()
    async with Receiver(500) as receiver, lenient(database_url, clock=clock) as api:
        old = await caller(api, "verifik")
        policy = {"maxRetries": 2, "retryDelay": 2500, "timeout": 4000}
        made = await webhook(old, url=receiver.url, retryPolicy=policy)
        assert made["retryPolicy"] == policy
        row = await Webhook.get()
        assert (row.timeout_ms, row.max_attempts, row.retry_schedule) == (4000, 3, [3])
        await publish_to(api, "login.completed", {})
        for number in (1, 2, 3):
            await attempted(api, number)
            delivery = await Delivery.get()
            assert delivery.failure_count == number
            if delivery.due_at is not None:
                assert 3 <= (delivery.due_at.timestamp() * 1000 - clock.now) / 1000 <= 3.3
            clock.advance(seconds=3.3)
        assert (delivery.status, len(receiver.requests)) == (DeliveryStatus.DEAD_LETTERED, 3)


async def test_statistics_tell_what_happened(heard: OldCaller) -> None:
    async with Receiver(500, 200) as receiver:
        made = await webhook(heard, url=receiver.url, retryPolicy={"retryDelay": 0})
        await publish_to(heard.api, "login.completed", {})
        await receiver.wait_for(2)
        await attempted(heard.api, 2)
    shown = (await heard.ask("GET", f"/v2/webhooks/{made['_id']}")).json()["data"]["statistics"]
    last = shown.pop("lastTriggered")
    assert shown == {"totalRequests": 2, "successfulRequests": 1, "failedRequests": 1}
    assert SECOND.fullmatch(last)


async def test_a_long_name_is_kept_whole_and_short_where_names_are_short(old: OldCaller) -> None:
    name = "n" * 61
    made = await webhook(old, name=name)
    assert (made["name"], (await Webhook.get()).name) == (name, "n" * 60)
    assert (await webhook(old, name="n" * 62))["name"] == "n" * 62
    changed = (await old.ask("PUT", f"/v2/webhooks/{made['_id']}", {"name": "short"})).json()["data"]
    assert changed["name"] == "short"


MISSING, INVALID = "MissingParameter", "INVALID_PARAMETERS"


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ({"name": "x", "isActive": True}, 409, {"code": MISSING, "message": "missing url\n"}),
        ({"url": PUBLIC_URL, "isActive": True}, 409, {"code": MISSING, "message": "missing name\n"}),
        ({"url": PUBLIC_URL, "name": "x"}, 409, {"code": MISSING, "message": "missing isActive\n"}),
        ({**GOOD, "url": ""}, 409, {"code": MISSING, "message": "missing url\n"}),
        ({**GOOD, "url": "nowhere"}, 400, {"error": "Invalid webhook URL", "message": "INVALID_WEBHOOK_URL"}),
        ({**GOOD, "url": "http://1.1.1.1"}, 400, {"error": "Invalid webhook URL", "message": "INVALID_WEBHOOK_URL"}),
        ({**GOOD, "url": 7}, 400, {"error": "Invalid webhook URL", "message": "INVALID_WEBHOOK_URL"}),
        (
            {**GOOD, "name": "Taken"},
            409,
            {"error": "Webhook name already exists", "message": "WEBHOOK_NAME_EXISTS"},
        ),
        ({**GOOD, "name": ""}, 400, INVALID),
        ({**GOOD, "name": "n" * 201}, 400, INVALID),
        ({**GOOD, "isActive": "yes"}, 400, INVALID),
        ({**GOOD, "events": ["unheard.of"]}, 400, INVALID),
        ({**GOOD, "events": ["app_registration_sync_" * 40_000 + "!"]}, 400, INVALID),
        ({**GOOD, "events": "login.completed"}, 400, INVALID),
        ({**GOOD, "link": "a"}, 400, INVALID),
        ({**GOOD, "secret": ""}, 400, INVALID),
        ({**GOOD, "retryPolicy": {"maxRetries": -1}}, 400, INVALID),
        ({**GOOD, "retryPolicy": {"maxRetries": 25}}, 400, INVALID),
        ({**GOOD, "retryPolicy": {"retryDelay": 604_800_001}}, 400, INVALID),
        ({**GOOD, "retryPolicy": {"timeout": 999}}, 400, INVALID),
        ({**GOOD, "retryPolicy": {"timeout": 30_001}}, 400, INVALID),
        ([], 400, INVALID),
    ],
    ids=str,
)
async def test_bad_input_is_told_in_the_documents_forms_and_changes_nothing(
    old: OldCaller, body: Json, status: int, expected: Json
) -> None:
    await webhook(old, name="Taken")
    before = await old.api.stored()
    response = await old.ask("POST", "/v2/webhooks", body)
    assert response.status_code == status
    _check(response, expected)
    assert await old.api.stored() == before


@pytest.mark.parametrize(
    ("change", "status", "expected"),
    [
        ({"url": "nowhere"}, 400, {"error": "Invalid webhook URL", "message": "INVALID_WEBHOOK_URL"}),
        ({"url": "http://1.1.1.1"}, 400, {"error": "Invalid webhook URL", "message": "INVALID_WEBHOOK_URL"}),
        ({"name": "Taken"}, 409, {"error": "Webhook name already exists", "message": "WEBHOOK_NAME_EXISTS"}),
        ({"name": ""}, 400, INVALID),
        ({"isActive": 1}, 400, INVALID),
        ({"events": ["unheard.of"]}, 400, INVALID),
        ({"unlink": "a"}, 400, INVALID),
        ({"secret": ""}, 400, INVALID),
        ({"retryPolicy": {"maxRetries": 25}}, 400, INVALID),
        ({"retryPolicy": {"timeout": 999}}, 400, INVALID),
        ([], 400, INVALID),
    ],
    ids=str,
)
async def test_a_bad_change_is_told_in_the_documents_forms_and_changes_nothing(
    old: OldCaller, change: Json, status: int, expected: Json
) -> None:
    await webhook(old, name="Taken")
    path = f"/v2/webhooks/{(await webhook(old))['_id']}"
    before = await old.api.stored()
    response = await old.ask("PUT", path, change)
    assert response.status_code == status
    _check(response, expected)
    assert await old.api.stored() == before


async def test_a_webhook_may_keep_its_own_name_but_not_take_anothers(old: OldCaller) -> None:
    one, two = await webhook(old, name="One"), await webhook(old, name="Two")
    assert (await old.ask("PUT", f"/v2/webhooks/{one['_id']}", {"name": "One"})).status_code == 200
    before = await old.api.stored()
    response = await old.ask("PUT", f"/v2/webhooks/{two['_id']}", {"name": "One"})
    assert response.status_code == 409
    assert response.json() == {"error": "Webhook name already exists", "message": "WEBHOOK_NAME_EXISTS"}
    assert await old.api.stored() == before
    await old.ask("DELETE", f"/v2/webhooks/{one['_id']}")
    assert (await old.ask("PUT", f"/v2/webhooks/{two['_id']}", {"name": "One"})).status_code == 200
    theirs = await old.as_tenant(old.api.theirs)
    assert (await webhook(theirs, name="One"))["name"] == "One"


@pytest.mark.parametrize(
    ("request_", "status", "expected"),
    [
        ("GET /v2/webhooks/{nobodys}", 404, {"error": "Webhook not found", "message": "WEBHOOK_NOT_FOUND"}),
        ("PUT /v2/webhooks/{nobodys}", 404, {"error": "Webhook not found", "message": "WEBHOOK_NOT_FOUND"}),
        ("DELETE /v2/webhooks/{nobodys}", 404, {"error": "Webhook not found", "message": "WEBHOOK_NOT_FOUND"}),
        ("DELETE /v2/webhooks/x", 404, {"error": "Webhook not found", "message": "WEBHOOK_NOT_FOUND"}),
        ("PATCH /v2/webhooks/{nobodys}", 405, "METHOD_NOT_ALLOWED"),
        ("GET /v2/nothing", 404, "NOT_FOUND"),
        ("GET /v1/webhooks", 404, "NOT_FOUND"),
        ("GET /v2/webhooks?page=0", 400, INVALID),
        ("GET /v2/webhooks?limit=101", 400, INVALID),
        ("GET /v2/webhooks?perPage=0", 400, INVALID),
        ("GET /v2/webhooks?isActive=perhaps", 400, INVALID),
    ],
)
async def test_what_is_not_there_is_told_in_the_documents_forms(
    old: OldCaller, request_: str, status: int, expected: Json
) -> None:
    method, path = request_.replace("{nobodys}", UNKNOWN).split(" ")
    response = await old.ask(method, path, {} if method == "PUT" else ...)
    assert response.status_code == status
    _check(response, expected)


async def test_a_caller_without_a_valid_key_is_unauthorized_in_the_documents_form(old: OldCaller) -> None:
    for token in ("", "unknown-to-everybody"):
        old.token = token
        response = await old.ask("POST", "/v2/webhooks", GOOD)
        assert response.status_code == 401
        assert response.json() == {"error": "Unauthorized", "message": "UNAUTHORIZED"}


async def test_one_more_than_the_limit_is_409(old: OldCaller) -> None:
    old.api.ours.organization.max_webhooks = 1
    await old.api.ours.organization.save()
    await webhook(old)
    response = await old.ask("POST", "/v2/webhooks", {**GOOD, "name": "Other"})
    assert (response.status_code, response.json()["message"]) == (409, "LIMIT_EXCEEDED")
    assert await Webhook.all().count() == 1


async def test_what_is_not_json_is_told_in_the_documents_forms(old: OldCaller) -> None:
    for content, media_type, status in (
        (b"{", "application/json", 400),
        (b"url=x", "text/plain", 415),
        (b" " * 1_000_001, "application/json", 413),
    ):
        response = await old.ask("POST", "/v2/webhooks", content=content, headers={"Content-Type": media_type})
        assert response.status_code == status


def _check(response: httpx.Response, expected: Json) -> None:
    """The whole body, or the code of one whose text is ours."""
    body = response.json()
    if isinstance(expected, dict):
        assert body == expected
    elif expected == INVALID:
        assert (list(body), body["success"], body["code"]) == (["success", "error", "code"], False, INVALID)
    else:
        assert (list(body), body["message"]) == (["error", "message"], expected)
