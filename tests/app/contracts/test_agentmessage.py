"""AgentMessage: what its callers send and what its receivers verify, to the letter of its documents."""

import base64
import hashlib
import hmac
import json
import re
from uuid import UUID

import pytest

from models.ids import Prefix, encode
from models.webhook import Webhook
from resolvers import webhooks
from tests.app.contracts.client import Json, OldCaller, asker, caller, publish_to
from tests.app.rest_client import PUBLIC_URL, Rest, error_of
from tests.receivers import Received, Receiver

SEED = b'{ "url": "https://hooks.example.com/y3labs/ops", "events": [ "wallet.balance_low" ] }'
SEED_KEYS = ["id", "org_id", "url", "events", "active", "api_version", "created_at", "updated_at", "deleted_at"]
SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
UNKNOWN = "0190a1b2-c3d4-e5f6-a7b8-c9d0e1f2a3b4"


@pytest.fixture
async def old(api: Rest) -> OldCaller:
    return await caller(api, "agentmessage")


@pytest.fixture
async def heard(delivering: Rest) -> OldCaller:
    """A caller of a Hookline that delivers."""
    return await caller(delivering, "agentmessage")


async def endpoint(old: OldCaller, **fields: Json) -> Json:
    response = await old.ask("POST", "/v1/webhooks", {"url": PUBLIC_URL, "events": ["wallet.balance_low"], **fields})
    assert response.status_code == 201, response.text
    return response.json()


def vendor_accepts(request: Received, secret: str) -> bool:
    """As AgentMessage's documents tell receivers to verify: the timestamp, a newline, the raw body."""
    given = dict(part.split("=", 1) for part in (request.header("X-AmCore-Signature") or "").split(","))
    message = given["t"].encode() + b"\n" + request.body
    expected = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, given["v1"])


async def test_the_seeds_own_request_is_answered_as_the_seed_says(old: OldCaller) -> None:
    response = await old.ask("POST", "/v1/webhooks", content=SEED, headers={"Content-Type": "application/json"})
    body = response.json()
    assert response.status_code == 201
    assert list(body) == [*SEED_KEYS, "secret", "secret_displayed_once"]
    assert UUID(body["id"]).version == 7
    assert body["org_id"] == old.organization
    assert (body["url"], body["events"]) == ("https://hooks.example.com/y3labs/ops", ["wallet.balance_low"])
    assert (body["active"], body["api_version"], body["deleted_at"]) == (True, "2026-04-01", None)
    assert SECOND.fullmatch(body["created_at"])
    assert SECOND.fullmatch(body["updated_at"])
    assert len(base64.b64decode(body["secret"], validate=True)) == 32
    assert body["secret_displayed_once"] is True


async def test_a_delivery_is_verified_by_the_vendors_receiver(heard: OldCaller) -> None:
    async with Receiver() as receiver:
        created = await endpoint(heard, url=receiver.url)
        await publish_to(heard.api, "wallet.balance_low", {"balance": 4})
        [request] = await receiver.wait_for(1)
    assert vendor_accepts(request, created["secret"])
    assert not vendor_accepts(request, created["secret"][:-1])
    assert re.fullmatch(r"t=\d{10},v1=[0-9a-f]{64}", request.header("X-AmCore-Signature") or "")
    assert json.loads(request.body)["type"] == "wallet.balance_low"
    assert json.loads(request.body)["data"] == {"balance": 4}


# ── the other operations ────────────────────────────────────────────────────────────────────────────────────────


async def test_endpoints_are_listed_without_secrets_in_an_envelope(old: OldCaller) -> None:
    first, second = await endpoint(old), await endpoint(old, description="Ops")
    response = await old.ask("GET", "/v1/webhooks?limit=50")
    body = response.json()
    assert list(body) == ["success", "data", "meta"]
    assert body["success"] is True
    assert [one["id"] for one in body["data"]] == [second["id"], first["id"]]
    assert list(body["data"][1]) == SEED_KEYS
    assert body["data"][0]["description"] == "Ops"
    assert body["meta"] == {"total": 2, "limit": 50, "offset": 0, "next_cursor": None}
    assert first["secret"] not in response.text


async def test_a_longer_list_goes_on_at_its_cursor(old: OldCaller) -> None:
    created = [(await endpoint(old))["id"] for _ in range(3)]
    first = (await old.ask("GET", "/v1/webhooks?limit=2")).json()
    second = (await old.ask("GET", f"/v1/webhooks?limit=2&cursor={first['meta']['next_cursor']}")).json()
    assert [one["id"] for one in [*first["data"], *second["data"]]] == created[::-1]
    assert second["meta"]["next_cursor"] is None


async def test_one_endpoint_is_answered_bare(old: OldCaller) -> None:
    created = await endpoint(old)
    body = (await old.ask("GET", f"/v1/webhooks/{created['id']}")).json()
    assert body == {name: created[name] for name in SEED_KEYS}


async def test_a_patch_changes_what_is_given(old: OldCaller) -> None:
    created = await endpoint(old, description="Ops")
    path = f"/v1/webhooks/{created['id']}"
    for change, expected in (
        ({"events": ["lookup.completed", "brand.vetted"]}, {"events": ["lookup.completed", "brand.vetted"]}),
        ({"active": False}, {"active": False}),
        ({"active": True}, {"active": True}),
        ({"url": "https://1.1.1.1/other"}, {"url": "https://1.1.1.1/other"}),
        ({"description": "Other"}, {"description": "Other"}),
        ({"api_version": "1999-01-01", "colour": "red"}, {"api_version": "2026-04-01"}),
    ):
        response = await old.ask("PATCH", path, change)
        assert response.status_code == 200
        assert "secret" not in response.json()
        assert {name: response.json()[name] for name in expected} == expected
    assert "description" not in (await old.ask("PATCH", path, {"description": "  "})).json()


async def test_a_deleted_endpoint_answers_nothing_and_is_gone(old: OldCaller) -> None:
    created = await endpoint(old)
    response = await old.ask("DELETE", f"/v1/webhooks/{created['id']}")
    assert (response.status_code, response.content) == (204, b"")
    assert (await old.ask("GET", "/v1/webhooks")).json()["data"] == []
    again = await endpoint(old)
    assert (again["id"] != created["id"], again["secret"] != created["secret"]) == (True, True)


async def test_a_rotated_secret_signs_at_once_and_the_former_one_no_more(heard: OldCaller) -> None:
    async with Receiver() as receiver:
        created = await endpoint(heard, url=receiver.url)
        rotated = (await heard.ask("POST", f"/v1/webhooks/{created['id']}/rotate-secret")).json()
        await publish_to(heard.api, "wallet.balance_low", {})
        [request] = await receiver.wait_for(1)
    assert list(rotated) == [*SEED_KEYS, "secret", "secret_displayed_once"]
    assert rotated["secret"] != created["secret"]
    assert vendor_accepts(request, rotated["secret"])
    assert not vendor_accepts(request, created["secret"])


async def test_the_organizations_new_secret_signs_for_all_its_endpoints_alone(heard: OldCaller) -> None:
    async with Receiver() as receiver:
        created = [await endpoint(heard, url=receiver.url) for _ in range(2)]
        rotated = (await heard.ask("POST", "/v1/webhook-secret/rotate")).json()
        await publish_to(heard.api, "wallet.balance_low", {})
        requests = await receiver.wait_for(2)
    assert list(rotated) == ["webhook_secret", "rotated_at", "previous_valid_until"]
    assert len(base64.b64decode(rotated["webhook_secret"], validate=True)) == 32
    minutes = [int(rotated[name][14:16]) for name in ("rotated_at", "previous_valid_until")]
    assert (minutes[1] - minutes[0]) % 60 == 5
    for request in requests:
        assert vendor_accepts(request, rotated["webhook_secret"])
        assert not any(vendor_accepts(request, one["secret"]) for one in created)


@pytest.mark.parametrize(("status", "outcome"), [(204, "success"), (500, "dead")])
async def test_a_test_is_sent_at_once_and_recorded(heard: OldCaller, status: int, outcome: str) -> None:
    async with Receiver(status) as receiver:
        created = await endpoint(heard, url=receiver.url)
        response = await heard.ask("POST", f"/v1/webhooks/{created['id']}/test")
        [request] = receiver.requests
    body = response.json()
    assert list(body) == [
        "event_id",
        "outcome",
        "url",
        "response_status",
        "response_time_ms",
        "response_body_excerpt",
        "error",
    ]
    assert body["event_id"].startswith("evt_")
    assert (body["outcome"], body["url"], body["response_status"]) == (outcome, receiver.url, status)
    assert json.loads(request.body)["type"] == "webhook.test"
    recorded = (await heard.ask("GET", "/v1/webhooks/deliveries?event_type=webhook.test")).json()["data"]
    assert [(one["event_id"], one["outcome"]) for one in recorded] == [(body["event_id"], outcome)]


async def test_attempts_are_listed_with_all_that_is_known(heard: OldCaller) -> None:
    async with Receiver(200) as receiver:
        created = await endpoint(heard, url=receiver.url)
        await publish_to(heard.api, "wallet.balance_low", {"balance": 4})
        [request] = await receiver.wait_for(1)
    listed = await _eventually(heard, "/v1/webhooks/deliveries", 1)
    [attempt] = listed["data"]
    assert list(listed) == ["success", "data", "meta"]
    assert list(attempt) == [
        "id",
        "endpoint_id",
        "event_id",
        "event_type",
        "url",
        "attempt",
        "outcome",
        "response_status",
        "response_time_ms",
        "request_body_sha256",
        "request_body_bytes",
        "response_body_excerpt",
        "request_headers",
        "error",
        "occurred_at",
    ]
    assert UUID(attempt["id"])
    assert (attempt["endpoint_id"], attempt["attempt"], attempt["outcome"]) == (created["id"], 1, "success")
    assert attempt["request_body_sha256"] == hashlib.sha256(request.body).hexdigest()
    assert attempt["request_body_bytes"] == len(request.body)
    assert attempt["event_id"] == request.header("webhook-id")
    assert attempt["request_headers"]["X-AmCore-Signature"] == request.header("X-AmCore-Signature")
    assert SECOND.fullmatch(attempt["occurred_at"])
    assert (await heard.ask("GET", f"/v1/webhooks/deliveries/{attempt['id']}")).json() == attempt
    theirs = await heard.as_tenant(heard.api.theirs)
    assert (await theirs.ask("GET", f"/v1/webhooks/deliveries/{attempt['id']}")).status_code == 404
    assert (await theirs.ask("GET", "/v1/webhooks/deliveries")).json()["data"] == []


async def test_attempts_are_found_by_every_filter(heard: OldCaller) -> None:
    async with Receiver(200) as good, Receiver(503) as bad:
        up, down = await endpoint(heard, url=good.url), await endpoint(heard, url=bad.url)
        await publish_to(heard.api, "wallet.balance_low", {})
        await good.wait_for(1)
        await bad.wait_for(1)
    listed = (await _eventually(heard, "/v1/webhooks/deliveries", 2))["data"]
    by_endpoint = {one["endpoint_id"]: one["id"] for one in listed}
    for query, expected in {
        f"endpoint_id={up['id']}": [up],
        f"endpoint_id={UNKNOWN}": [],
        "endpoint_id=nonsense": [],
        "event_type=wallet.balance_low": [up, down],
        "event_type=lookup.completed": [],
        "outcome=success": [up],
        "outcome=retry": [down],
        "outcome=dead": [],
        "since=2020-01-01T00:00:00Z": [up, down],
        "since=2100-01-01T00:00:00Z": [],
        "until=2100-01-01T00:00:00Z": [up, down],
        "until=2020-01-01T00:00:00Z": [],
        "http_status_min=300": [down],
        "http_status_max=299": [up],
        "http_status_min=503&http_status_max=503": [down],
        f"endpoint_id={up['id']}&outcome=retry": [],
    }.items():
        found = (await heard.ask("GET", f"/v1/webhooks/deliveries?{query}")).json()["data"]
        assert {one["id"] for one in found} == {by_endpoint[one["id"]] for one in expected}, query


async def test_attempts_go_on_at_their_cursor(heard: OldCaller) -> None:
    async with Receiver() as receiver:
        created = await endpoint(heard, url=receiver.url)
        for _ in range(3):
            await heard.ask("POST", f"/v1/webhooks/{created['id']}/test")
    whole = (await heard.ask("GET", "/v1/webhooks/deliveries")).json()["data"]
    first = (await heard.ask("GET", "/v1/webhooks/deliveries?limit=2")).json()
    second = (await heard.ask("GET", f"/v1/webhooks/deliveries?limit=2&cursor={first['meta']['next_cursor']}")).json()
    assert [*first["data"], *second["data"]] == whole
    assert (len(first["data"]), second["meta"]) == (2, {"limit": 2, "next_cursor": None})


async def test_an_endpoint_is_an_ordinary_webhook(old: OldCaller) -> None:
    created = await endpoint(old, description="Ops")
    ordinary = await asker(old.api)
    row = await webhooks.get(ordinary, encode(Prefix.WEBHOOK, UUID(created["id"])))
    assert (row.url, row.description, row.contract) == (PUBLIC_URL, "Ops", "agentmessage")
    native = (await old.api.ask("GET", "/v1/webhooks")).json()["data"]
    assert [one["url"] for one in native] == [PUBLIC_URL]
    await old.api.ask("PATCH", f"/v1/webhooks/{native[0]['id']}", {"active": False})
    assert (await old.ask("GET", f"/v1/webhooks/{created['id']}")).json()["active"] is False


async def test_webhooks_of_other_contracts_are_not_shown(old: OldCaller) -> None:
    ours = await old.api.webhook()
    row = await Webhook.get()
    assert (await old.ask("GET", "/v1/webhooks")).json()["data"] == []
    for known in (ours["id"], str(row.id)):
        assert (await old.ask("DELETE", f"/v1/webhooks/{known}")).status_code == 404
    assert (await Webhook.get()).deleted_at is None


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE, LIST, PATCH = "POST /v1/webhooks", "GET /v1/webhooks", "PATCH /v1/webhooks/{ours}"
ONE, DELIVERIES = "/v1/webhooks/{ours}", "GET /v1/webhooks/deliveries"
GOOD = {"url": PUBLIC_URL, "events": ["wallet.balance_low"]}
KNOWN = "is not a known event type"


@pytest.mark.parametrize(
    ("request_", "body", "details"),
    [
        (CREATE, {**GOOD, "url": "http://1.1.1.1/hooks"}, {"url": "must use https"}),
        (CREATE, {**GOOD, "url": "ftp://1.1.1.1"}, {"url": ...}),
        (CREATE, {**GOOD, "url": "/relative"}, {"url": ...}),
        (CREATE, {**GOOD, "url": 1}, {"url": "must be text"}),
        (CREATE, {"events": ["lookup.completed"]}, {"url": "is required"}),
        (CREATE, {"url": PUBLIC_URL}, {"events": "is required"}),
        (CREATE, {**GOOD, "events": []}, {"events": ...}),
        (CREATE, {**GOOD, "events": "lookup.completed"}, {"events": "must be a list"}),
        (CREATE, {**GOOD, "events": ["lookup.completed"] * 51}, {"events": ...}),
        (CREATE, {**GOOD, "events": ["lookup.completed"] * 2}, {"events": "is given twice"}),
        (CREATE, {**GOOD, "events": ["wallet.lost"]}, {"events": KNOWN}),
        (CREATE, {**GOOD, "events": ["webhook.test"]}, {"events": KNOWN}),
        (CREATE, {**GOOD, "events": ["*"]}, {"events": KNOWN}),
        (CREATE, {**GOOD, "description": "x" * 201}, {"description": ...}),
        (CREATE, {**GOOD, "api_version": "1999-01-01"}, {"api_version": "must be a supported version: 2026-04-01"}),
        (CREATE, [], {"body": "must be an object"}),
        (PATCH, {"url": "http://1.1.1.1/hooks"}, {"url": "must use https"}),
        (PATCH, {"events": []}, {"events": ...}),
        (PATCH, {"events": ["wallet.lost"]}, {"events": KNOWN}),
        (PATCH, {"events": ["lookup.completed"] * 2}, {"events": "is given twice"}),
        (PATCH, {"description": "x" * 201}, {"description": ...}),
        (PATCH, {"active": "yes"}, {"active": "must be true or false"}),
        (f"{LIST}?limit=0", ..., {"limit": ...}),
        (f"{LIST}?limit=101", ..., {"limit": ...}),
        (f"{LIST}?limit=many", ..., {"limit": "must be a whole number"}),
        (f"{LIST}?cursor=nonsense", ..., {"cursor": ...}),
        (f"{DELIVERIES}?limit=201", ..., {"limit": ...}),
        (f"{DELIVERIES}?cursor=nonsense", ..., {"cursor": "is not a cursor of this list"}),
        (f"{DELIVERIES}?event_type=wallet.lost", ..., {"event_type": KNOWN}),
        (f"{DELIVERIES}?outcome=fine", ..., {"outcome": ...}),
        (f"{DELIVERIES}?since=yesterday", ..., {"since": ...}),
        (f"{DELIVERIES}?until=2026-04-26", ..., {"until": ...}),
        (f"{DELIVERIES}?http_status_min=99", ..., {"http_status_min": ...}),
        (f"{DELIVERIES}?http_status_max=600", ..., {"http_status_max": ...}),
        (f"{DELIVERIES}?http_status_min=500&http_status_max=400", ..., {"http_status_min": ...}),
    ],
    ids=str,
)
async def test_bad_input_is_422_with_details_and_changes_nothing(
    old: OldCaller, request_: str, body: Json, details: Json
) -> None:
    ours = await endpoint(old)
    before = await old.api.stored()
    method, path = request_.replace("{ours}", ours["id"]).split(" ")
    response = await old.ask(method, path, body)
    error = error_of(response)
    assert (response.status_code, error["code"], error["message"]) == (422, "VALIDATION_FAILED", "validation failed")
    assert ULID.fullmatch(error["request_id"])
    assert {name: ... if details[name] is ... else text for name, text in error["details"].items()} == details
    assert await old.api.stored() == before


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ("GET /v1/webhooks/{nobodys}", 404, "NOT_FOUND"),
        ("PATCH /v1/webhooks/{nobodys}", 404, "NOT_FOUND"),
        ("DELETE /v1/webhooks/{nobodys}", 404, "NOT_FOUND"),
        ("DELETE /v1/webhooks/nonsense", 404, "NOT_FOUND"),
        ("POST /v1/webhooks/{nobodys}/rotate-secret", 404, "NOT_FOUND"),
        ("POST /v1/webhooks/{nobodys}/test", 404, "NOT_FOUND"),
        ("GET /v1/webhooks/deliveries/{nobodys}", 404, "NOT_FOUND"),
        ("GET /v1/webhooks/deliveries/nonsense", 404, "NOT_FOUND"),
        ("PUT /v1/webhooks", 405, "METHOD_NOT_ALLOWED"),
        ("POST /v1/events", 404, "NOT_FOUND"),
        ("GET /v2/webhooks", 404, "NOT_FOUND"),
        ("GET /v1/nothing", 404, "NOT_FOUND"),
    ],
)
async def test_what_is_not_there_is_told_in_the_contracts_form(
    old: OldCaller, request_: str, status: int, code: str
) -> None:
    method, path = request_.replace("{nobodys}", UNKNOWN).split(" ")
    response = await old.ask(method, path, {} if method in ("PATCH", "POST") else ...)
    assert (response.status_code, error_of(response)["code"]) == (status, code)


@pytest.mark.parametrize("token", ["", "am_live_unknown_to_everybody"])
async def test_a_caller_without_a_valid_key_is_unauthorized(old: OldCaller, token: str) -> None:
    old.token = token
    response = await old.ask("POST", "/v1/webhooks", GOOD)
    error = error_of(response)
    assert (response.status_code, error["code"]) == (401, "UNAUTHORIZED")
    assert token == "" or error["message"] == "authentication failed"


@pytest.mark.parametrize(
    ("request_", "scope"),
    [
        (CREATE, "webhooks:write"),
        (LIST, "webhooks:read"),
        ("GET /v1/webhooks/{ours}", "webhooks:read"),
        (PATCH, "webhooks:write"),
        ("DELETE /v1/webhooks/{ours}", "webhooks:write"),
        ("POST /v1/webhooks/{ours}/rotate-secret", "webhooks:write"),
        ("POST /v1/webhooks/{ours}/test", "webhooks:write"),
        ("POST /v1/webhook-secret/rotate", "admin"),
        (DELIVERIES, "deliveries:read"),
        (f"{DELIVERIES}/{UNKNOWN}", "deliveries:read"),
    ],
)
async def test_a_key_without_the_scope_is_forbidden_and_with_it_alone_is_not(
    old: OldCaller, request_: str, scope: str
) -> None:
    ours = await endpoint(old)
    scopes = {"webhooks:read", "webhooks:write", "deliveries:read", "events:publish", "admin"}
    method, path = request_.replace("{ours}", ours["id"]).split(" ")
    body = {CREATE: GOOD, PATCH: {}}.get(request_, ...)
    before = await old.api.stored()
    lacking = await old.as_tenant(old.api.ours, *sorted(scopes - {scope}))
    response = await lacking.ask(method, path, body)
    error = error_of(response)
    assert (response.status_code, error["code"], error["message"]) == (403, "FORBIDDEN", "missing required scope")
    assert await old.api.stored() == before
    having = await old.as_tenant(old.api.ours, scope)
    assert (await having.ask(method, path, body)).status_code in (200, 201, 204, 404)


async def test_the_endpoint_after_the_fiftieth_is_refused(old: OldCaller) -> None:
    for _ in range(50):
        await endpoint(old)
    before = await old.api.stored()
    response = await old.ask("POST", "/v1/webhooks", GOOD)
    error = error_of(response)
    assert (response.status_code, error["code"]) == (409, "LIMIT_EXCEEDED")
    assert error["message"] == "webhook endpoint limit reached (max 50)"
    assert await old.api.stored() == before


async def test_what_is_not_json_is_told_in_the_contracts_form(old: OldCaller) -> None:
    for content, media_type, status, code in (
        (b"{", "application/json", 400, "MALFORMED_JSON"),
        (b"url=x", "application/x-www-form-urlencoded", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b" " * 1_000_001, "application/json", 413, "PAYLOAD_TOO_LARGE"),
    ):
        response = await old.ask("POST", "/v1/webhooks", content=content, headers={"Content-Type": media_type})
        assert (response.status_code, error_of(response)["code"]) == (status, code)


async def _eventually(old: OldCaller, path: str, count: int) -> Json:
    for _ in range(1000):
        body = (await old.ask("GET", path)).json()
        if len(body["data"]) >= count:
            return body
    raise AssertionError(body)
