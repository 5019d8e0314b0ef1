"""REST: what each operation does; bad input has its own file. Every answer is held against the OpenAPI document."""

import logging
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
from tortoise import Tortoise

from app.rest.refusals import STATUSES
from models.event import Event
from models.webhook import Webhook, WebhookStatus
from resolvers import errors, event_types, keys, organizations
from resolvers.inputs import EventTypeDraft
from tests.app.rest_client import (
    CHANGE,
    CREATE,
    DELETE,
    GET,
    LIST,
    LOOPBACK,
    MAX_BODY_BYTES,
    PUBLIC_URL,
    PUBLISH,
    READING_BODIES,
    ROTATE,
    TEST,
    UNKNOWN,
    Rest,
    error_of,
    event,
    new,
    rest,
)
from tests.receivers import Answer, Receiver

WEBHOOK = ["id", "org_id", "url", "events", "active", "description", "name", "api_version"]
WEBHOOK += ["created_at", "updated_at", "deleted_at"]
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


@pytest.fixture
def database_kind() -> str:
    """What differs between databases is the resolvers' and is tested there."""
    return "sqlite"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Rest]:
    """As strict as `hookline serve`."""
    async with rest(database_url) as made:
        yield made


@pytest.fixture
async def lenient(database_url: str) -> AsyncIterator[Rest]:
    """As `hookline dev`: webhooks may point at loopback receivers."""
    async with rest(database_url, **LOOPBACK) as made:
        yield made


# ── who may


@pytest.mark.parametrize(
    ("request_", "scope"),
    [
        (CREATE, "webhooks:write"),
        (LIST, "webhooks:read"),
        (GET, "webhooks:read"),
        (CHANGE, "webhooks:write"),
        (DELETE, "webhooks:write"),
        (ROTATE, "webhooks:write"),
        (TEST, "webhooks:write"),
        (PUBLISH, "events:publish"),
    ],
)
async def test_a_key_with_every_scope_but_the_one_is_forbidden(api: Rest, request_: str, scope: str) -> None:
    ours = await api.webhook()
    scopes = {
        "webhooks:read",
        "webhooks:write",
        "events:read",
        "events:publish",
        "deliveries:read",
        "admin",
        "platform",
    }
    before = await api.stored()
    method, path = request_.replace("{ours}", ours["id"]).split(" ")
    body = {CREATE: new(), PUBLISH: event()}.get(request_, {}) if method != "GET" else ...

    response = await api.ask(method, path, body, token=await api.ours.token(*sorted(scopes - {scope})))

    error = error_of(response)
    assert (response.status_code, error["code"]) == (403, "FORBIDDEN")
    assert error["message"] == f"this key lacks the scope {scope}"
    assert await api.stored() == before


async def test_a_key_with_the_one_scope_is_enough(api: Rest) -> None:
    writes, reads = await api.ours.token("webhooks:write"), await api.ours.token("webhooks:read")
    publishes = await api.ours.token("events:publish")
    created = (await api.ask("POST", "/v1/webhooks", new(), token=writes)).json()
    path = f"/v1/webhooks/{created['id']}"
    assert (await api.ask("GET", "/v1/webhooks", token=reads)).status_code == 200
    assert (await api.ask("GET", path, token=reads)).status_code == 200
    assert (await api.ask("PATCH", path, {"name": "n"}, token=writes)).status_code == 200
    assert (await api.ask("POST", f"{path}/rotate-secret", token=writes)).status_code == 200
    assert (await api.ask("POST", "/v1/events", event(), token=publishes)).status_code == 201
    assert (await api.ask("DELETE", path, token=writes)).status_code == 204


async def test_a_revoked_key_is_unauthorized(api: Rest) -> None:
    key, token = await keys.create_for(api.ours.organization.id, "soon gone", ["*"])
    assert (await api.ask("GET", "/v1/webhooks", token=token)).status_code == 200
    key.revoked_at = datetime.fromisoformat("2026-01-01T00:00:00Z")
    await key.save()
    response = await api.ask("GET", "/v1/webhooks", token=token)
    assert (response.status_code, error_of(response)["code"]) == (401, "UNAUTHORIZED")
    assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_the_methods_that_a_path_takes_are_told(api: Rest) -> None:
    for path, allowed in {
        "/v1/webhooks": "GET, HEAD, POST",
        f"/v1/webhooks/{UNKNOWN}": "DELETE, GET, HEAD, PATCH",
        "/v1/events": "POST",
        "/openapi.json": "GET, HEAD",
    }.items():
        response = await api.ask("PUT", path)
        assert (response.status_code, response.headers["Allow"]) == (405, allowed)


async def test_a_wrong_path_or_method_is_told_without_a_key(api: Rest) -> None:
    assert error_of(await api.ask("GET", "/v1/nothing", token=""))["code"] == "NOT_FOUND"
    assert error_of(await api.ask("PUT", "/v1/events", token=""))["code"] == "METHOD_NOT_ALLOWED"


# ── webhooks ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_webhook_is_created_with_its_secret(api: Rest) -> None:
    response = await api.ask("POST", "/v1/webhooks", {"url": PUBLIC_URL, "events": ["order.created", "invoice.*"]})
    body = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/v1/webhooks/{body['id']}"
    assert response.headers["Cache-Control"] == "no-store"
    assert list(body) == [*WEBHOOK, "secret", "secret_displayed_once"]
    assert re.fullmatch(r"whk_[0-9a-hjkmnp-tv-z]{26}", body["id"])
    assert re.fullmatch(r"org_[0-9a-hjkmnp-tv-z]{26}", body["org_id"])
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{32,}={0,2}", body["secret"])
    assert MOMENT.fullmatch(body["created_at"])
    assert body["updated_at"] == body["created_at"]
    known = {name: body[name] for name in ("url", "events", "active", "description", "name", "api_version")}
    assert known == {
        "url": PUBLIC_URL,
        "events": ["order.created", "invoice.*"],
        "active": True,
        "description": None,
        "name": None,
        "api_version": "2026-04-01",
    }
    assert (body["deleted_at"], body["secret_displayed_once"]) == (None, True)
    assert await Webhook.all().count() == 1


async def test_a_webhook_is_created_with_everything_that_can_be_given(api: Rest) -> None:
    given = new(description="For the warehouse", name="Warehouse", api_version="2026-04-01", secret=SECRET)
    body = (await api.ask("POST", "/v1/webhooks", given)).json()
    assert {name: body[name] for name in given} == given


async def test_fields_that_may_be_left_out_may_be_null(api: Rest) -> None:
    given = new(description=None, name=None, api_version=None, secret=None)
    body = (await api.ask("POST", "/v1/webhooks", given)).json()
    assert (body["description"], body["name"], body["api_version"]) == (None, None, "2026-04-01")


async def test_unknown_fields_are_ignored(api: Rest) -> None:
    body = (await api.ask("POST", "/v1/webhooks", new(label="x", active=False, id="whk_mine", url2=[1]))).json()
    assert body["active"] is True
    changed = await api.ask("PATCH", f"/v1/webhooks/{body['id']}", {"color": "red", "id": "whk_mine"})
    assert (changed.status_code, changed.json()["id"]) == (200, body["id"])
    assert (await api.ask("POST", "/v1/events", event(color="red"))).status_code == 201
    assert (await api.ask("GET", "/v1/webhooks?color=red")).status_code == 200


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"]
)
async def test_json_is_read_by_any_of_its_names_and_without_one(api: Rest, content_type: str | None) -> None:
    raw = f'{{"url": "{PUBLIC_URL}", "events": ["a.b"]}}'.encode()
    headers = {"Content-Type": content_type} if content_type else {}
    response = await api.ask("POST", "/v1/webhooks", content=raw, headers=headers)
    assert response.status_code == 201


async def test_of_a_key_that_is_given_twice_the_last_counts(api: Rest) -> None:
    raw = f'{{"url": 1, "url": "{PUBLIC_URL}", "events": ["a.b"]}}'.encode()
    response = await api.ask("POST", "/v1/webhooks", content=raw)
    assert (response.status_code, response.json()["url"]) == (201, PUBLIC_URL)


async def test_a_repeat_with_the_same_idempotency_key_answers_the_same_webhook_without_its_secret(api: Rest) -> None:
    key = {"Idempotency-Key": "k" * 255}
    first = await api.ask("POST", "/v1/webhooks", new(), headers=key)
    again = await api.ask("POST", "/v1/webhooks", new(), headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json() | {"secret": None, "secret_displayed_once": False}
    assert again.headers["Location"] == first.headers["Location"]
    assert await Webhook.all().count() == 1


async def test_an_idempotency_key_of_another_request_is_a_conflict_and_changes_nothing(api: Rest) -> None:
    key = {"Idempotency-Key": "one"}
    await api.ask("POST", "/v1/webhooks", new(), headers=key)
    before = await api.stored()
    response = await api.ask("POST", "/v1/webhooks", new(name="other"), headers=key)
    assert (response.status_code, error_of(response)["code"]) == (409, "IDEMPOTENCY_CONFLICT")
    assert await api.stored() == before


async def test_an_idempotency_key_of_another_organization_is_free(api: Rest) -> None:
    key = {"Idempotency-Key": "one"}
    ours = (await api.ask("POST", "/v1/webhooks", new(), headers=key)).json()
    theirs = (await api.ask("POST", "/v1/webhooks", new(name="other"), headers=key, tenant=api.theirs)).json()
    assert theirs["id"] != ours["id"]
    assert theirs["secret_displayed_once"] is True


async def test_one_webhook_more_than_the_limit_is_refused_and_changes_nothing(api: Rest) -> None:
    api.ours.organization.max_webhooks = 1
    await api.ours.organization.save()
    await api.webhook()
    before = await api.stored()
    response = await api.ask("POST", "/v1/webhooks", new())
    assert (response.status_code, error_of(response)["code"]) == (409, "LIMIT_EXCEEDED")
    assert error_of(response)["message"] == "webhook limit reached (max 1); delete or disable one first"
    assert await api.stored() == before


async def test_a_webhook_cannot_be_activated_beyond_the_limit(api: Rest) -> None:
    api.ours.organization.max_webhooks = 1
    await api.ours.organization.save()
    first = await api.webhook()
    await api.ask("PATCH", f"/v1/webhooks/{first['id']}", {"active": False})
    await api.webhook()
    before = await api.stored()
    response = await api.ask("PATCH", f"/v1/webhooks/{first['id']}", {"active": True})
    assert (response.status_code, error_of(response)["code"]) == (409, "LIMIT_EXCEEDED")
    assert await api.stored() == before


async def test_an_event_type_that_the_catalogue_lacks_is_refused(api: Rest) -> None:
    caller = await keys.authenticate(api.house.desk, await api.ours.token("*"))
    assert caller is not None
    await event_types.put(caller, EventTypeDraft(name="order.created"))
    before = await api.stored()
    response = await api.ask("POST", "/v1/webhooks", new(events=["order.created", "order.created.late"]))
    assert response.status_code == 422
    assert error_of(response)["details"] == {"events.1": "matches no event type of the catalogue"}
    assert await api.stored() == before


async def test_a_webhook_is_read_without_its_secret(api: Rest) -> None:
    created = await api.webhook(description="d", name="n")
    response = await api.ask("GET", f"/v1/webhooks/{created['id']}")
    assert response.status_code == 200
    assert list(response.json()) == WEBHOOK
    assert response.json() == {name: created[name] for name in WEBHOOK}
    assert created["secret"] not in response.text


async def test_webhooks_are_listed_the_latest_first_page_by_page(api: Rest) -> None:
    created = [(await api.webhook(name=str(i)))["id"] for i in range(5)]
    await api.webhook(api.theirs)
    await api.ask("DELETE", f"/v1/webhooks/{created.pop(2)}")

    first = (await api.ask("GET", "/v1/webhooks?limit=3")).json()
    assert list(first) == ["success", "data", "meta"]
    assert first["success"] is True
    assert [webhook["id"] for webhook in first["data"]] == created[:0:-1]
    assert [list(webhook) for webhook in first["data"]] == [WEBHOOK] * 3
    cursor = first["meta"].pop("next_cursor")
    assert first["meta"] == {"total": 4, "limit": 3}

    second = (await api.ask("GET", f"/v1/webhooks?limit=3&cursor={cursor}")).json()
    assert [webhook["id"] for webhook in second["data"]] == created[:1]
    assert second["meta"] == {"total": 4, "limit": 3, "next_cursor": None}


async def test_an_empty_list_is_a_list(api: Rest) -> None:
    response = await api.ask("GET", "/v1/webhooks")
    assert response.json() == {"success": True, "data": [], "meta": {"total": 0, "limit": 50, "next_cursor": None}}


async def test_a_list_shows_no_secret(api: Rest) -> None:
    created = await api.webhook()
    text = (await api.ask("GET", "/v1/webhooks")).text
    assert created["id"] in text
    assert "secret" not in text
    assert created["secret"] not in text


async def test_head_is_answered_like_get(api: Rest) -> None:
    created = await api.webhook()
    assert (await api.http.head("/v1/webhooks")).status_code == 401
    headers = {"Authorization": f"Bearer {await api.ours.token('*')}"}
    assert (await api.http.head(f"/v1/webhooks/{created['id']}", headers=headers)).status_code == 200
    assert (await api.http.head(f"/v1/webhooks/{UNKNOWN}", headers=headers)).status_code == 404


async def test_what_is_given_is_changed_and_the_rest_stays(api: Rest) -> None:
    created = await api.webhook(description="d", name="n")
    path = f"/v1/webhooks/{created['id']}"
    before = {name: created[name] for name in WEBHOOK}
    for change in (
        {"url": "https://1.1.1.1/elsewhere"},
        {"events": ["invoice.*"]},
        {"description": "other"},
        {"name": "other"},
        {"active": False},
        {"active": True},
        {"api_version": "2026-04-01"},
        {"description": None},
        {"name": "  "},
        {},
    ):
        expected = before | change
        if not (expected["name"] or "").strip():
            expected["name"] = None
        response = await api.ask("PATCH", path, change)
        assert response.status_code == 200
        before = response.json()
        assert list(before) == WEBHOOK
        assert before == expected | {"updated_at": before["updated_at"]}
    assert (await api.ask("GET", path)).json() == before


async def test_an_empty_description_clears_it(api: Rest) -> None:
    created = await api.webhook(description="d")
    response = await api.ask("PATCH", f"/v1/webhooks/{created['id']}", {"description": " "})
    assert response.json()["description"] is None


async def test_a_paused_webhook_is_not_active_and_can_be_activated(api: Rest) -> None:
    created = await api.webhook()
    await Webhook.all().update(status=WebhookStatus.PAUSED)
    path = f"/v1/webhooks/{created['id']}"
    assert (await api.ask("GET", path)).json()["active"] is False
    assert (await api.ask("PATCH", path, {"active": True})).json()["active"] is True


async def test_a_deleted_webhook_is_gone(api: Rest) -> None:
    created = await api.webhook()
    path = f"/v1/webhooks/{created['id']}"
    response = await api.ask("DELETE", path)
    assert (response.status_code, response.content) == (204, b"")
    assert "Content-Type" not in response.headers
    assert (await api.ask("GET", path)).status_code == 404
    assert (await api.ask("DELETE", path)).status_code == 404
    assert (await api.ask("GET", "/v1/webhooks")).json()["meta"]["total"] == 0


@pytest.mark.parametrize("seconds", [60, 60.0])
async def test_a_rotation_answers_the_new_secret_once_and_until_when_the_old_one_signs(
    api: Rest, seconds: float
) -> None:
    created = await api.webhook()
    response = await api.ask("POST", f"/v1/webhooks/{created['id']}/rotate-secret", {"overlap_seconds": seconds})
    body = response.json()
    assert response.status_code == 200
    assert list(body) == [*WEBHOOK, "secret", "secret_displayed_once", "previous_secret_expires_at"]
    assert body["secret"].startswith("whsec_")
    assert body["secret"] != created["secret"]
    assert body["secret_displayed_once"] is True
    expires, updated = (datetime.fromisoformat(body[name]) for name in ("previous_secret_expires_at", "updated_at"))
    assert (expires - updated).total_seconds() == 60


@pytest.mark.parametrize("sent", [{}, {"content": b""}, {"json": {}}, {"data": {}, "headers": {"Content-Type": "x/y"}}])
async def test_a_rotation_needs_no_body(api: Rest, sent: dict[str, Any]) -> None:
    created = await api.webhook()
    response = await api.ask("POST", f"/v1/webhooks/{created['id']}/rotate-secret", **sent)
    body = response.json()
    expires, updated = (datetime.fromisoformat(body[name]) for name in ("previous_secret_expires_at", "updated_at"))
    assert (expires - updated).total_seconds() == 86_400


async def test_a_leaked_secret_is_cut_at_once(api: Rest) -> None:
    created = await api.webhook()
    body = (
        await api.ask("POST", f"/v1/webhooks/{created['id']}/rotate-secret", {"overlap_seconds": 0, "secret": SECRET})
    ).json()
    assert (body["secret"], body["previous_secret_expires_at"]) == (SECRET, None)


async def test_a_rotation_during_an_overlap_needs_force(api: Rest) -> None:
    path = f"/v1/webhooks/{(await api.webhook())['id']}/rotate-secret"
    await api.ask("POST", path)
    before = await api.stored()
    response = await api.ask("POST", path)
    assert (response.status_code, error_of(response)["code"]) == (409, "ROTATION_IN_PROGRESS")
    assert await api.stored() == before
    assert (await api.ask("POST", path, {"force": True})).status_code == 200


async def test_a_test_event_is_sent_and_the_receivers_answer_is_told(lenient: Rest) -> None:
    async with Receiver(Answer(202, body=b"thanks \xff")) as receiver:
        created = await lenient.webhook(url=receiver.url)
        response = await lenient.ask(
            "POST", f"/v1/webhooks/{created['id']}/test", {"event_type": "order.created", "data": {"id": 2**70}}
        )
        body = response.json()
        assert response.status_code == 200
        assert body.pop("response_time_ms") > 0
        assert re.fullmatch(r"dlv_[0-9a-hjkmnp-tv-z]{26}", body.pop("delivery_id"))
        assert receiver.requests[0].header("webhook-id") == body.pop("event_id")
        assert body == {
            "outcome": "SUCCESS",
            "url": receiver.url,
            "response_status": 202,
            "response_body_excerpt": "thanks �",
            "error": None,
        }
        assert receiver.requests[0].body.endswith(b'"data":{"id":%d}}' % 2**70)


async def test_a_test_without_a_body_sends_a_test_event(lenient: Rest) -> None:
    async with Receiver(500) as receiver:
        created = await lenient.webhook(url=receiver.url)
        response = await lenient.ask("POST", f"/v1/webhooks/{created['id']}/test")
        assert response.status_code == 200
        assert (response.json()["outcome"], response.json()["response_status"]) == ("HTTP_ERROR", 500)
        assert receiver.requests[0].body.startswith(b'{"type":"webhook.test",')


async def test_a_test_that_reaches_nobody_tells_why(lenient: Rest) -> None:
    receiver = Receiver()
    async with receiver:
        created = await lenient.webhook(url=receiver.url)
    body = (await lenient.ask("POST", f"/v1/webhooks/{created['id']}/test")).json()
    assert (body["outcome"], body["response_status"], body["response_body_excerpt"]) == ("CONNECTION_ERROR", None, None)
    assert body["error"]
    assert body["url"] == receiver.url


async def test_too_many_tests_are_told_when_to_come_back(lenient: Rest) -> None:
    async with Receiver() as receiver:
        path = f"/v1/webhooks/{(await lenient.webhook(url=receiver.url))['id']}/test"
        for _ in range(20):
            assert (await lenient.ask("POST", path)).status_code == 200
        before = await lenient.stored()
        response = await lenient.ask("POST", path)
        assert (response.status_code, error_of(response)["code"]) == (429, "RATE_LIMITED")
        assert 1 <= int(response.headers["Retry-After"]) <= 60
        assert await lenient.stored() == before
        assert len(receiver.requests) == 20


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────────────

PUBLISHED = ["id", "type", "occurred_at", "received_at", "matched_webhook_count", "duplicate"]


async def test_an_event_is_published(api: Rest) -> None:
    await api.webhook()
    await api.webhook(events=["order.*"])
    await api.webhook(events=["invoice.paid"])
    given = event(occurred_at="2026-04-26t14:00:00.1239+02:00", data={"id": 1})
    response = await api.ask("POST", "/v1/events", given)
    body = response.json()
    assert response.status_code == 201
    assert list(body) == PUBLISHED
    assert re.fullmatch(r"evt_[0-9a-hjkmnp-tv-z]{26}", body["id"])
    assert (body["type"], body["occurred_at"]) == ("order.created", "2026-04-26T12:00:00.123Z")
    assert MOMENT.fullmatch(body["received_at"])
    assert (body["matched_webhook_count"], body["duplicate"]) == (2, False)
    assert (await Event.get()).data == b'{"id":1}'


@pytest.mark.parametrize(
    "data",
    ["null", "0", '"text"', "[]", "{}", str(2**64 + 1), "-" + "9" * 40, '{"occurredAt":[1,2.5,true]}'],
)
async def test_data_is_any_json_and_kept_to_the_digit(api: Rest, data: str) -> None:
    raw = f'{{"type": "order.created", "data": {data}}}'.encode()
    assert (await api.ask("POST", "/v1/events", content=raw)).status_code == 201
    assert (await Event.get()).data.decode() == data


async def test_data_of_200_levels_is_published(api: Rest) -> None:
    data = "[" * 200 + "]" * 200
    raw = f'{{"type": "order.created", "data": {data}}}'.encode()
    assert (await api.ask("POST", "/v1/events", content=raw)).status_code == 201
    assert (await Event.get()).data.decode() == data


@pytest.mark.parametrize("levels", [300, 800, 1000, 1020])
async def test_deeply_nested_data_is_published_or_refused_but_never_a_bug(api: Rest, levels: int) -> None:
    raw = f'{{"type": "order.created", "data": {"[" * levels + "]" * levels}}}'.encode()
    response = await api.ask("POST", "/v1/events", content=raw)
    assert response.status_code in (201, 400, 422)


@pytest.mark.parametrize("wrapped", [False, True])
async def test_events_are_published_as_a_list(api: Rest, wrapped: bool) -> None:
    await api.webhook(events=["b.b"])
    events = [event(type="a.a"), event(type="b.b"), event(type="c.c")]
    response = await api.ask("POST", "/v1/events", {"events": events} if wrapped else events)
    body = response.json()
    assert response.status_code == 201
    assert list(body) == ["success", "data"]
    assert [list(published) for published in body["data"]] == [PUBLISHED] * 3
    assert [published["type"] for published in body["data"]] == ["a.a", "b.b", "c.c"]
    assert [published["matched_webhook_count"] for published in body["data"]] == [0, 1, 0]
    assert await Event.all().count() == 3


async def test_a_thousand_events_are_published_at_once(api: Rest) -> None:
    response = await api.ask("POST", "/v1/events", [event(data={"n": n}) for n in range(1000)])
    assert response.status_code == 201
    assert len({published["id"] for published in response.json()["data"]}) == 1000
    assert await Event.all().count() == 1000


async def test_an_event_with_a_field_called_events_is_one_event(api: Rest) -> None:
    response = await api.ask("POST", "/v1/events", event(events=[]))
    assert (response.status_code, list(response.json())) == (201, PUBLISHED)


@pytest.mark.parametrize("where", ["header", "body"])
async def test_a_repeat_with_the_same_idempotency_key_is_the_same_event(api: Rest, where: str) -> None:
    await api.webhook()
    headers = {"Idempotency-Key": "k" * 255} if where == "header" else {}
    given = event(idempotency_key="k") if where == "body" else event()
    first = await api.ask("POST", "/v1/events", given, headers=headers)
    again = await api.ask("POST", "/v1/events", given, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json() | {"duplicate": True}
    assert await Event.all().count() == 1


async def test_an_events_own_key_comes_before_the_headers(api: Rest) -> None:
    given = event(idempotency_key="mine")
    first = await api.ask("POST", "/v1/events", given, headers={"Idempotency-Key": "one"})
    again = await api.ask("POST", "/v1/events", given, headers={"Idempotency-Key": "two"})
    assert again.json() == first.json() | {"duplicate": True}


async def test_the_headers_key_covers_a_whole_list(api: Rest) -> None:
    headers = {"Idempotency-Key": "k" * 251}
    first = (await api.ask("POST", "/v1/events", [event(), event()], headers=headers)).json()["data"]
    again = (await api.ask("POST", "/v1/events", [event(), event()], headers=headers)).json()["data"]
    assert first[0]["id"] != first[1]["id"]
    assert [published["duplicate"] for published in first] == [False, False]
    assert again == [published | {"duplicate": True} for published in first]
    assert await Event.all().count() == 2


async def test_an_idempotency_key_of_another_event_is_a_conflict_and_changes_nothing(api: Rest) -> None:
    headers = {"Idempotency-Key": "one"}
    await api.ask("POST", "/v1/events", event(), headers=headers)
    before = await api.stored()
    response = await api.ask("POST", "/v1/events", event(data=1), headers=headers)
    assert (response.status_code, error_of(response)["code"]) == (409, "IDEMPOTENCY_CONFLICT")
    assert await api.stored() == before


async def test_a_conflict_in_a_list_publishes_none_of_it(api: Rest) -> None:
    await api.ask("POST", "/v1/events", [event(), event(data=1)], headers={"Idempotency-Key": "one"})
    before = await api.stored()
    response = await api.ask(
        "POST", "/v1/events", [event(), event(data=2), event(data=3)], headers={"Idempotency-Key": "one"}
    )
    assert (response.status_code, error_of(response)["code"]) == (409, "IDEMPOTENCY_CONFLICT")
    assert await api.stored() == before


async def test_data_that_breaks_the_types_schema_is_told_in_the_callers_own_words(api: Rest) -> None:
    caller = await keys.authenticate(api.house.desk, await api.ours.token("*"))
    assert caller is not None
    schema = {"properties": {"eventType": {"type": "string"}}}
    await event_types.put(caller, EventTypeDraft(name="order.created", json_schema=schema))
    before = await api.stored()
    response = await api.ask("POST", "/v1/events", {"events": [event(data={"eventType": 1})]})
    assert response.status_code == 422
    assert list(error_of(response)["details"]) == ["events.0.data.eventType"]
    unknown = await api.ask("POST", "/v1/events", event(type="order.lost"))
    assert list(error_of(unknown)["details"]) == ["type"]
    assert await api.stored() == before


# ── callers and organizations ───────────────────────────────────────────────────────────────────────────────────


async def test_a_key_may_come_in_x_api_key(api: Rest) -> None:
    headers = {"x-api-key": await api.ours.token("*")}
    assert (await api.ask("GET", "/v1/webhooks", token="", headers=headers)).status_code == 200


async def test_a_platform_key_acts_for_another_organization(api: Rest) -> None:
    token = await api.ours.token("*", "platform")
    headers = {"Hookline-Organization": (await api.webhook(api.theirs))["org_id"]}
    created = (await api.ask("POST", "/v1/webhooks", new(), token=token, headers=headers)).json()
    assert created["org_id"] == headers["Hookline-Organization"]
    assert (await api.ask("GET", f"/v1/webhooks/{created['id']}", tenant=api.theirs)).status_code == 200
    assert (await api.ask("GET", f"/v1/webhooks/{created['id']}")).status_code == 404
    assert (await api.ask("GET", "/v1/webhooks", token=token, headers=headers)).json()["meta"]["total"] == 2
    assert (await api.ask("GET", "/v1/webhooks", token=token)).json()["meta"]["total"] == 0


async def test_an_organization_that_does_not_exist_is_forbidden_even_to_a_platform_key(api: Rest) -> None:
    token = await api.ours.token("*", "platform")
    response = await api.ask("GET", "/v1/webhooks", token=token, headers={"Hookline-Organization": "nobody"})
    assert (response.status_code, error_of(response)["code"]) == (403, "FORBIDDEN")


async def test_the_cursor_of_another_organization_shows_nothing_of_it(api: Rest) -> None:
    theirs = [(await api.webhook(api.theirs))["id"] for _ in range(3)]
    cursor = (await api.ask("GET", "/v1/webhooks?limit=2", tenant=api.theirs)).json()["meta"]["next_cursor"]
    text = (await api.ask("GET", f"/v1/webhooks?cursor={cursor}")).text
    assert not any(webhook in text for webhook in theirs)


# ── every answer ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("given", ["12345678", "a" * 64, "order_4711-b"])
async def test_a_well_formed_request_id_is_echoed(api: Rest, given: str) -> None:
    for path, status in (("/v1/webhooks", 200), ("/v1/nothing", 404), (f"/v1/webhooks/{UNKNOWN}", 404)):
        response = await api.ask("GET", path, headers={"X-Request-Id": given})
        assert (response.status_code, response.headers["X-Request-Id"]) == (status, given)


@pytest.mark.parametrize("given", [None, "", "1234567", "a" * 65, "has blanks", "umläut-umläut", "new\tline"])
async def test_any_other_request_id_is_replaced_by_a_fresh_one(api: Rest, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-Id": given.encode()}
    ids = [(await api.ask("GET", "/v1/webhooks", headers=headers)).headers["X-Request-Id"] for _ in range(2)]
    assert ids[0] != ids[1]
    assert all(ULID.fullmatch(fresh) for fresh in ids)


async def test_the_document_is_served_without_a_key(api: Rest) -> None:
    response = await api.http.get("/openapi.json")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    assert ULID.fullmatch(response.headers["X-Request-Id"])


@pytest.mark.parametrize("request_", READING_BODIES)
async def test_reading_stops_at_the_cap_also_where_no_length_is_told(api: Rest, request_: str) -> None:
    ours = (await api.webhook())["id"]
    drawn = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal drawn
        while True:
            drawn += 100_000
            yield b"[" * 100_000

    before = await api.stored()
    method, path = request_.replace("{ours}", ours).split(" ")
    response = await api.ask(method, path, content=endless())
    assert (response.status_code, error_of(response)["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert drawn <= MAX_BODY_BYTES + 100_000
    assert await api.stored() == before


async def test_a_body_of_exactly_the_cap_is_read(api: Rest) -> None:
    raw = b'{"type":"order.created","data":1,"filler":"%s"}'
    raw %= b"x" * (MAX_BODY_BYTES - len(raw) + 2)
    assert len(raw) == MAX_BODY_BYTES
    assert (await api.ask("POST", "/v1/events", content=raw)).status_code == 201


async def test_a_body_is_not_read_for_a_caller_without_a_key(api: Rest) -> None:
    drawn = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal drawn
        while True:
            drawn += 1
            yield b"x"

    response = await api.ask("POST", "/v1/events", content=chunks(), token="")
    assert (response.status_code, drawn) == (401, 0)


async def test_a_bug_of_ours_is_masked_and_logged_once_under_its_request_id(
    api: Rest, caplog: pytest.LogCaptureFixture
) -> None:
    await Tortoise.get_connection("default").execute_script("DROP TABLE webhook")
    with caplog.at_level(logging.ERROR):
        response = await api.ask("GET", f"/v1/webhooks/{UNKNOWN}", headers={"X-Request-Id": "find-me-4711"})
    assert response.status_code == 500
    assert response.json() == {
        "success": False,
        "error": {
            "code": "INTERNAL",
            "message": "something went wrong on our side; tell us the request_id and we can find out what",
            "request_id": "find-me-4711",
        },
    }
    [record] = caplog.records
    assert record.getMessage() == f"request=find-me-4711 GET /v1/webhooks/{UNKNOWN} failed"
    assert record.exc_info is not None


def test_every_refusal_that_resolvers_know_has_a_status_and_a_code() -> None:
    refusals = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Refusal)}
    assert len(refusals) == 11
    assert refusals - {errors.Refusal} <= STATUSES.keys()


async def test_a_secret_that_is_refused_is_not_repeated(api: Rest) -> None:
    for body in (new(secret="whsec_my-own-weak-one"), new(secret=["whsec_my-own-weak-one"])):
        response = await api.ask("POST", "/v1/webhooks", body)
        assert response.status_code == 422
        assert "my-own-weak-one" not in response.text


async def test_an_organization_that_is_gone_has_no_keys(api: Rest) -> None:
    token = await api.ours.token("*")
    platform = await keys.authenticate(api.house.desk, await api.theirs.token("*", "platform"))
    assert platform is not None
    mine = (await api.webhook())["org_id"]
    await organizations.delete(platform, mine)
    assert (await api.ask("GET", "/v1/webhooks", token=token)).status_code == 401
