"""Factify: what its callers send and what its receivers verify, to the letter of its documents."""

import base64
import hashlib
import hmac
import json
import re

import httpx
import pytest

from models.ids import Prefix, encode
from models.webhook import Webhook
from resolvers import keys
from tests.app.contracts.client import Json, OldCaller, caller, publish_to
from tests.app.rest_client import PUBLIC_URL, Rest, rest
from tests.receivers import Received, Receiver

SEED = b'{"url":"https://example.com/webhooks","events":["<string>"]}'
"""To the letter: event types are any names, and the seed's `<string>` is one."""
ENDPOINT = ["id", "org_id", "url", "events", "created_at"]
GOOD = {"url": PUBLIC_URL, "events": ["document.signed"]}
UNKNOWN = "whk_01jx5s3k9pe8ratq6y2m4c7v0b"
STAFF_HEADER = "X-Factify-Organization-Id"


@pytest.fixture
async def old(api: Rest) -> OldCaller:
    return await caller(api, "factify")


async def endpoint(old: OldCaller, **fields: Json) -> Json:
    response = await old.ask("POST", "/v1/webhooks", {**GOOD, **fields})
    assert response.status_code == 201, response.text
    return response.json()


def error_of(response: httpx.Response) -> Json:
    """Code, reasons and parameters, after ConnectRPC's form was checked."""
    body = response.json()
    assert list(body) == ["code", "message", "details"]
    for detail in body["details"]:
        assert list(detail) in (["reason", "request_id"], ["reason", "param", "request_id"])
        assert re.fullmatch(r"req_[0-9a-z]{26}", detail["request_id"])
        assert detail["request_id"] == f"req_{response.headers['X-Request-Id'].lower()}"
    return body["code"], [(detail["reason"], detail.get("param")) for detail in body["details"]]


def vendor_accepts(request: Received, secret: str) -> bool:
    """As Standard Webhooks tells receivers to verify; `whsec_` is its convention, and Factify published no other."""
    signed = f"{request.header('webhook-id')}.{request.header('webhook-timestamp')}.".encode() + request.body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return request.header("webhook-signature") == expected


async def test_the_seeds_own_request_is_answered_as_the_seed_says(old: OldCaller) -> None:
    response = await old.ask("POST", "/v1/webhooks", content=SEED, headers={"Content-Type": "application/json"})
    body = response.json()
    assert response.status_code == 201
    assert list(body) == [*ENDPOINT, "secret"]
    assert re.fullmatch(r"whk_[0-9a-hjkmnp-tv-z]{26}", body["id"])
    assert re.fullmatch(r"org_[0-9a-hjkmnp-tv-z]{26}", body["org_id"])
    assert (body["url"], body["events"]) == ("https://example.com/webhooks", ["<string>"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["created_at"])
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]+=*", body["secret"])


async def test_a_delivery_is_verified_by_the_vendors_receiver(delivering: Rest) -> None:
    heard = await caller(delivering, "factify")
    async with Receiver() as receiver:
        created = await endpoint(heard, url=receiver.url)
        await publish_to(delivering, "document.signed", {"id": 1})
        [request] = await receiver.wait_for(1)
    assert vendor_accepts(request, created["secret"])
    assert json.loads(request.body)["data"] == {"id": 1}


async def test_endpoints_are_listed_and_got_without_secrets(old: OldCaller) -> None:
    created = [await endpoint(old) for _ in range(3)]
    shown = [{name: one[name] for name in ENDPOINT} for one in reversed(created)]
    whole = (await old.ask("GET", "/v1/webhooks")).json()
    assert whole == {
        "items": shown,
        "pagination": {"has_more": False, "next_page_token": "", "prev_page_token": ""},
    }
    first = (await old.ask("GET", "/v1/webhooks?page_size=2")).json()
    assert first["pagination"]["has_more"] is True
    token = first["pagination"]["next_page_token"]
    second = (await old.ask("GET", f"/v1/webhooks?page_size=2&page_token={token}")).json()
    assert [*first["items"], *second["items"]] == shown
    token = second["pagination"]["prev_page_token"]
    back = (await old.ask("GET", f"/v1/webhooks?page_size=2&page_token={token}")).json()
    assert back["items"] == first["items"]
    assert (await old.ask("GET", f"/v1/webhooks/{created[0]['id']}")).json() == shown[-1]


async def test_a_deleted_endpoint_is_gone_and_registering_it_again_makes_a_new_secret(old: OldCaller) -> None:
    created = await endpoint(old)
    response = await old.ask("DELETE", f"/v1/webhooks/{created['id']}")
    assert (response.status_code, response.content) == (204, b"")
    assert (await old.ask("GET", f"/v1/webhooks/{created['id']}")).status_code == 404
    again = await endpoint(old)
    assert (again["id"] != created["id"], again["secret"] != created["secret"]) == (True, True)


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        ({**GOOD, "url": "/webhooks"}, [("invalid_field_value", "url")]),
        ({**GOOD, "url": "example.com/webhooks"}, [("invalid_field_value", "url")]),
        ({**GOOD, "url": "//example.com/webhooks"}, [("invalid_field_value", "url")]),
        ({**GOOD, "url": "http://1.1.1.1/webhooks"}, [("invalid_field_value", "url")]),
        ({**GOOD, "url": ""}, [("missing_required_field", "url")]),
        ({"events": ["a"]}, [("missing_required_field", "url")]),
        ({"url": PUBLIC_URL}, [("missing_required_field", "events")]),
        ({**GOOD, "events": []}, [("missing_required_field", "events")]),
        ({**GOOD, "events": [""]}, [("invalid_enum_value", "events")]),
        ({**GOOD, "events": [1]}, [("invalid_field_value", "events")]),
        ({}, [("missing_required_field", "url"), ("missing_required_field", "events")]),
        (None, [("invalid_field_value", "body")]),
    ],
    ids=str,
)
async def test_bad_input_is_400_and_changes_nothing(old: OldCaller, body: Json, reasons: Json) -> None:
    before = await old.api.stored()
    response = await old.ask("POST", "/v1/webhooks", body)
    assert response.status_code == 400
    assert error_of(response) == ("invalid_argument", reasons)
    assert await old.api.stored() == before


@pytest.mark.parametrize(
    ("request_", "status", "error"),
    [
        ("GET /v1/webhooks/{nobodys}", 404, ("not_found", [("resource_not_found", None)])),
        ("DELETE /v1/webhooks/{nobodys}", 404, ("not_found", [("resource_not_found", None)])),
        ("PATCH /v1/webhooks/{nobodys}", 405, ("unimplemented", [("feature_disabled", None)])),
        ("POST /v1/webhooks/{nobodys}/rotate-secret", 404, ("not_found", [("resource_not_found", None)])),
        ("GET /v1/webhooks?page_size=0", 400, ("invalid_argument", [("invalid_field_value", "page_size")])),
        ("GET /v1/webhooks?page_size=101", 400, ("invalid_argument", [("invalid_field_value", "page_size")])),
        ("GET /v1/webhooks?page_token=x", 400, ("invalid_argument", [("invalid_cursor", "page_token")])),
        ("GET /v1/webhooks?page_token=-x", 400, ("invalid_argument", [("invalid_cursor", "page_token")])),
    ],
)
async def test_what_is_not_there_is_told_in_connectrpcs_form(
    old: OldCaller, request_: str, status: int, error: Json
) -> None:
    method, path = request_.replace("{nobodys}", UNKNOWN).split(" ")
    response = await old.ask(method, path)
    assert (response.status_code, error_of(response)) == (status, error)


async def test_a_key_that_does_not_open_is_unauthenticated_in_connectrpcs_form(old: OldCaller) -> None:
    expected = ("unauthenticated", [("invalid_api_key", None)])
    for token in (f"ffy_test_{'0' * 60}", old.token):
        old.token = token
        await _revoke_all()
        response = await old.ask("GET", "/v1/webhooks")
        assert (response.status_code, error_of(response)) == (401, expected)


async def test_a_key_without_the_scope_is_denied(old: OldCaller) -> None:
    reading = await old.as_tenant(old.api.ours, "webhooks:read")
    response = await reading.ask("POST", "/v1/webhooks", GOOD)
    assert (response.status_code, error_of(response)) == (
        403,
        ("permission_denied", [("insufficient_permissions", None)]),
    )
    assert await Webhook.all().count() == 0


async def test_one_more_than_the_limit_exhausts_the_quota(old: OldCaller) -> None:
    old.api.ours.organization.max_webhooks = 1
    await old.api.ours.organization.save()
    await endpoint(old)
    response = await old.ask("POST", "/v1/webhooks", GOOD)
    assert (response.status_code, error_of(response)) == (429, ("resource_exhausted", [("quota_exceeded", None)]))
    assert await Webhook.all().count() == 1


async def test_what_is_not_json_is_told_in_connectrpcs_form(old: OldCaller) -> None:
    for content, media_type, status in (
        (b"{", "application/json", 400),
        (b"url=x", "text/plain", 415),
        (b" " * 1_000_001, "application/json", 413),
    ):
        response = await old.ask("POST", "/v1/webhooks", content=content, headers={"Content-Type": media_type})
        assert response.status_code == status
        assert error_of(response) == ("invalid_argument", [("invalid_field_value", None)])


async def test_staff_act_for_another_organization_and_nobody_else_does(database_url: str) -> None:
    async with rest(database_url, staff_domain="factify.com") as api:
        old = await caller(api, "factify")
        theirs = (await endpoint(await old.as_tenant(api.theirs)))["org_id"]
        response = await old.ask("POST", "/v1/webhooks", GOOD, headers={STAFF_HEADER: theirs})
        assert (response.status_code, error_of(response)[0]) == (403, "permission_denied")
        staff = "ffy_prod_of_somebody_at_factify"
        organization = api.ours.organization.id
        await keys.import_token(organization, staff, "staff", ["*"], "factify", owner_email="ada@factify.com")
        old.token = staff
        response = await old.ask("POST", "/v1/webhooks", GOOD, headers={STAFF_HEADER: "org_1"})
        assert (response.status_code, error_of(response)) == (
            400,
            ("invalid_argument", [("invalid_field_value", STAFF_HEADER)]),
        )
        response = await old.ask("POST", "/v1/webhooks", GOOD, headers={STAFF_HEADER: theirs})
        assert (response.status_code, response.json()["org_id"]) == (201, theirs)


async def _revoke_all() -> None:
    for key in await keys.list_all():
        await keys.revoke_any(encode(Prefix.API_KEY, key.id))
