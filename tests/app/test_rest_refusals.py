"""REST: every operation with each bad input, as one table. A refusal changes nothing, so all share one Hookline."""

import itertools
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.app.rest_client import (
    CHANGE,
    CREATE,
    DELETE,
    GET,
    LIST,
    MAX_BODY_BYTES,
    OPERATIONS,
    PUBLIC_URL,
    PUBLISH,
    READING_BODIES,
    ROTATE,
    TEST,
    UNKNOWN,
    Json,
    Rest,
    error_of,
    event,
    new,
    rest,
)


@dataclass
class Ready:
    """A Hookline with webhooks to be refused things about."""

    api: Rest
    ids: dict[str, str]


@pytest.fixture(scope="module")
async def ready(_migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ready]:
    path = shutil.copy(_migrated_sqlite, tmp_path_factory.mktemp("refusals") / "hookline.db")
    async with rest(f"sqlite://{path}") as api:
        ids = {
            "ours": (await api.webhook())["id"],
            "theirs": (await api.webhook(api.theirs))["id"],
            "deleted": (await api.webhook())["id"],
        }
        assert (await api.ask("DELETE", f"/v1/webhooks/{ids['deleted']}")).status_code == 204
        yield Ready(api, ids)


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Refused:
    """A request, and the status, code and details that refuse it."""

    name: str
    request: str
    """Method and path. `{ours}`, `{theirs}` and `{deleted}` are webhooks' ids."""
    status: int
    code: str
    body: Json = ...
    details: dict[str, str] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None


def invalid(request: str, name: str, body: Json, details: dict[str, str], **more: Any) -> Refused:
    return Refused(name, request, 422, "VALIDATION_FAILED", body, details, **more)


NEEDED = "is required"
TEXT = "must be text"
LIST_ = "must be a list"
OBJECT = "must be an object"
WHOLE = "must be a whole number"
ABSOLUTE = "must be an absolute https URL, such as https://example.com/hooks"
PATTERN = "must be an event type such as order.created, a prefix such as order.*, or *"
NUL = "must not hold NUL characters or lone surrogates"
VERSION = "must be a supported version: 2026-04-01"
UMLAUT = {"Idempotency-Key": "schlüssel"}
WEAK = "must be `whsec_` and the base64 of 24 to 64 bytes; leave it out to get one made"
EVENT_NAME = "must be words joined by dots or slashes, such as order.created, at most 200 characters"
WITH_ZONE = "must be a moment with its time zone, such as 2026-04-26T12:00:00Z"
CENTURIES = "must be a moment with a time zone between the years 2000 and 2200"
PUBLICATION = "must be an event, a list of events, or an object with a list of events"
KEY_LENGTH = "must be 1 to 255 characters"
OVERLAP = "must be 0 to 604800 seconds (7 days)"


def _bad_bodies() -> list[Refused]:
    malformed = {
        "an open brace": b"{",
        "nothing but blanks": b"  ",
        "text that is not UTF-8": b'{"url": "\xff"}',
        "a lone surrogate": b'{"url": "\\ud800"}',
        "NaN": b'{"overlap_seconds": NaN}',
        "infinity": b'{"overlap_seconds": 1e999}',
        "a number of 5000 digits": b'{"overlap_seconds": ' + b"9" * 5000 + b"}",
        "100,000 lists in each other": b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "two values": b"{} {}",
    }
    no_objects: list[Json] = [[], [{}], "text", 1, None, True]
    json_type = {"Content-Type": "application/json"}
    cases = [
        Refused(f"{name} as body", request, 400, "MALFORMED_JSON", raw=raw, headers=json_type)
        for request, (name, raw) in itertools.product(READING_BODIES, malformed.items())
    ]
    cases += [
        Refused("an empty body", request, 400, "MALFORMED_JSON", raw=b"") for request in (CREATE, CHANGE, PUBLISH)
    ]
    cases += [
        Refused(
            f"a body of {media}", request, 415, "UNSUPPORTED_MEDIA_TYPE", raw=b"{}", headers={"Content-Type": media}
        )
        for request in READING_BODIES
        for media in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", "json", "")
    ]
    cases += [
        Refused(
            "a body one byte too long",
            request,
            413,
            "PAYLOAD_TOO_LARGE",
            raw=b'{"data":"' + b"x" * (MAX_BODY_BYTES - 10) + b'"}',
            headers=json_type,
        )
        for request in READING_BODIES
    ]
    cases += [
        invalid(request, f"{value!r} as body", value, {"body": OBJECT})
        for request in (CREATE, CHANGE, ROTATE, TEST)
        for value in no_objects
    ]
    cases += [invalid(PUBLISH, f"{value!r} as body", value, {"body": PUBLICATION}) for value in ("text", 1, None, True)]
    return cases


def _bad_callers() -> list[Refused]:
    cases = []
    for request in OPERATIONS:
        for name, headers in {
            "no key": {"Authorization": ""},
            "an unknown key": {"Authorization": "Bearer hkl_nobody-has-this-key"},
            "an unknown key in x-api-key": {"Authorization": "", "x-api-key": "hkl_nobody-has-this-key"},
            "another scheme": {"Authorization": "Basic aGtsOg=="},
        }.items():
            cases.append(Refused(name, request, 401, "UNAUTHORIZED", headers=headers))
        cases.append(
            Refused(
                "an organization the key may not act for",
                request,
                403,
                "FORBIDDEN",
                headers={"Hookline-Organization": "Theirs"},
            )
        )
    return cases


def _bad_ids() -> list[Refused]:
    cases = []
    for request, (name, named) in itertools.product(
        (GET, CHANGE, DELETE, ROTATE, TEST),
        {
            "an id that is nobody's": UNKNOWN,
            "another organization's webhook": "{theirs}",
            "a deleted webhook": "{deleted}",
            "an id of another kind": UNKNOWN.replace("whk", "evt"),
            "what is no id": "1",
            "an id in capitals": UNKNOWN.upper(),
            "an id with a NUL": "whk_%00",
        }.items(),
    ):
        body: Json = {} if request in READING_BODIES else ...
        cases.append(Refused(name, request.replace("{ours}", named), 404, "NOT_FOUND", body))
    return cases


def _bad_places() -> list[Refused]:
    nowhere = ("/v1", "/v1/", "/v1/nothing", "/v1/webhooks/", "/v1/webhooks/{ours}/", "/v1/webhooks/{ours}/secret")
    cases = [
        Refused("an unknown path", f"{method} {path}", 404, "NOT_FOUND")
        for path in (*nowhere, "/v1//webhooks", "/v1/events/")
        for method in ("GET", "POST", "OPTIONS")
    ]
    allowed = {
        "/v1/webhooks": "GET, HEAD, POST",
        "/v1/webhooks/{ours}": "DELETE, GET, HEAD, PATCH",
        "/v1/webhooks/{ours}/rotate-secret": "POST",
        "/v1/webhooks/{ours}/test": "POST",
        "/v1/events": "POST",
        "/openapi.json": "GET, HEAD",
    }
    for path, methods in allowed.items():
        cases += [
            Refused(f"a method it has not, where there are {methods}", f"{method} {path}", 405, "METHOD_NOT_ALLOWED")
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW")
            if method not in methods.split(", ")
        ]
    return cases


CASES = [
    *_bad_bodies(),
    *_bad_callers(),
    *_bad_ids(),
    *_bad_places(),
    # ── create
    invalid(CREATE, "nothing", {}, {"url": NEEDED, "events": NEEDED}),
    invalid(CREATE, "no url", {"events": ["a.b"]}, {"url": NEEDED}),
    invalid(CREATE, "no events", {"url": PUBLIC_URL}, {"events": NEEDED}),
    invalid(CREATE, "a number as url", new(url=1), {"url": TEXT}),
    invalid(CREATE, "null as url", new(url=None), {"url": TEXT}),
    invalid(CREATE, "an object as url", new(url={"host": "a"}), {"url": TEXT}),
    invalid(CREATE, "an empty url", new(url=""), {"url": "must not be empty"}),
    invalid(CREATE, "http", new(url="http://1.1.1.1/hooks"), {"url": "must use https"}),
    invalid(CREATE, "ftp", new(url="ftp://1.1.1.1/hooks"), {"url": ABSOLUTE}),
    invalid(CREATE, "a relative url", new(url="/hooks"), {"url": ABSOLUTE}),
    invalid(CREATE, "a url without scheme", new(url="1.1.1.1/hooks"), {"url": ABSOLUTE}),
    invalid(CREATE, "a url of 2049 characters", new(url=PUBLIC_URL + "x" * (2049 - len(PUBLIC_URL))), {
        "url": "must be at most 2048 characters"
    }),
    invalid(CREATE, "a url with a password", new(url="https://a:b@1.1.1.1/"), {
        "url": "must not hold a user name or password"
    }),
    invalid(CREATE, "a url with a fragment", new(url=PUBLIC_URL + "#a"), {"url": "must not hold a fragment (#…)"}),
    invalid(CREATE, "text as events", new(events="order.created"), {"events": LIST_}),
    invalid(CREATE, "an object as events", new(events={"0": "a.b"}), {"events": LIST_}),
    invalid(CREATE, "null as events", new(events=None), {"events": LIST_}),
    invalid(CREATE, "no event", new(events=[]), {"events": "must name at least one event type"}),
    invalid(CREATE, "51 events", new(events=[f"a.b{i}" for i in range(51)]), {
        "events": "must name at most 50 event types"
    }),
    invalid(CREATE, "an event twice", new(events=["a.b", "c.d", "a.b"]), {"events.2": "is given twice"}),
    invalid(CREATE, "a number among the events", new(events=["a.b", 2]), {"events.1": TEXT}),
    invalid(CREATE, "null among the events", new(events=[None]), {"events.0": TEXT}),
    invalid(CREATE, "what is no event type", new(events=["a.b", "not one"]), {"events.1": PATTERN}),
    invalid(CREATE, "201 characters of description", new(description="é" * 201), {
        "description": "must be at most 200 characters"
    }),
    invalid(CREATE, "a number as description", new(description=1), {"description": TEXT}),
    invalid(CREATE, "a NUL in the description", new(description="a\0b"), {"description": NUL}),
    invalid(CREATE, "61 characters of name", new(name="x" * 61), {"name": "must be at most 60 characters"}),
    invalid(CREATE, "a list as name", new(name=["x"]), {"name": TEXT}),
    invalid(CREATE, "an unknown version", new(api_version="1999-01-01"), {"api_version": VERSION}),
    invalid(CREATE, "a number as version", new(api_version=2026), {"api_version": TEXT}),
    invalid(CREATE, "a short secret", new(secret="whsec_c2hvcnQ="), {"secret": WEAK}),
    invalid(CREATE, "a secret without prefix", new(secret="MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), {"secret": WEAK}),
    invalid(CREATE, "a number as secret", new(secret=1), {"secret": TEXT}),
    invalid(CREATE, "several at once", new(url="ftp://x", events=[], name="x" * 61), {
        "url": ABSOLUTE,
        "events": "must name at least one event type",
        "name": "must be at most 60 characters",
    }),
    invalid(CREATE, "an empty idempotency key", new(), {"Idempotency-Key": KEY_LENGTH}, headers={
        "Idempotency-Key": ""
    }),
    invalid(CREATE, "an idempotency key of 256", new(), {"Idempotency-Key": KEY_LENGTH}, headers={
        "Idempotency-Key": "k" * 256
    }),
    invalid(CREATE, "an umlaut in the key", new(), {"Idempotency-Key": "must be printable ASCII"}, headers=UMLAUT),
    # ── list
    invalid(LIST + "?limit=0", "limit 0", ..., {"limit": "should be greater than or equal to 1"}),
    invalid(LIST + "?limit=-1", "limit -1", ..., {"limit": "should be greater than or equal to 1"}),
    invalid(LIST + "?limit=101", "limit 101", ..., {"limit": "should be less than or equal to 100"}),
    invalid(LIST + "?limit=many", "limit many", ..., {"limit": WHOLE}),
    invalid(LIST + "?limit=1.5", "limit 1.5", ..., {"limit": WHOLE}),
    invalid(LIST + "?limit=", "an empty limit", ..., {"limit": WHOLE}),
    invalid(LIST + "?limit=" + "9" * 5000, "limit of 5000 digits", ..., {"limit": WHOLE}),
    invalid(LIST + "?cursor=nonsense", "nonsense as cursor", ..., {
        "cursor": "is not a cursor of this list in this order"
    }),
    invalid(LIST + "?cursor=%00", "a NUL as cursor", ..., {"cursor": "is not a cursor of this list in this order"}),
    # ── change
    invalid(CHANGE, "a number as url", {"url": 1}, {"url": TEXT}),
    invalid(CHANGE, "null as url", {"url": None}, {"url": TEXT}),
    invalid(CHANGE, "http", {"url": "http://1.1.1.1/"}, {"url": "must use https"}),
    invalid(CHANGE, "text as events", {"events": "a.b"}, {"events": LIST_}),
    invalid(CHANGE, "null as events", {"events": None}, {"events": LIST_}),
    invalid(CHANGE, "no event", {"events": []}, {"events": "must name at least one event type"}),
    invalid(CHANGE, "51 events", {"events": [f"a.b{i}" for i in range(51)]}, {
        "events": "must name at most 50 event types"
    }),
    invalid(CHANGE, "an event twice", {"events": ["a.b", "a.b"]}, {"events.1": "is given twice"}),
    invalid(CHANGE, "201 characters of description", {"description": "x" * 201}, {
        "description": "must be at most 200 characters"
    }),
    invalid(CHANGE, "61 characters of name", {"name": "x" * 61}, {"name": "must be at most 60 characters"}),
    invalid(CHANGE, "text as active", {"active": "true"}, {"active": "must be true or false"}),
    invalid(CHANGE, "1 as active", {"active": 1}, {"active": "must be true or false"}),
    invalid(CHANGE, "null as active", {"active": None}, {"active": "must be true or false"}),
    invalid(CHANGE, "an unknown version", {"api_version": "1999-01-01"}, {"api_version": VERSION}),
    invalid(CHANGE, "null as version", {"api_version": None}, {"api_version": TEXT}),
    # ── rotate
    invalid(ROTATE, "an overlap below 0", {"overlap_seconds": -1}, {"overlap_seconds": OVERLAP}),
    invalid(ROTATE, "an overlap above 7 days", {"overlap_seconds": 604_801}, {"overlap_seconds": OVERLAP}),
    invalid(ROTATE, "an overlap of 30 digits", {"overlap_seconds": 10**30}, {"overlap_seconds": OVERLAP}),
    invalid(ROTATE, "text as overlap", {"overlap_seconds": "60"}, {"overlap_seconds": WHOLE}),
    invalid(ROTATE, "half a second", {"overlap_seconds": 0.5}, {"overlap_seconds": WHOLE}),
    invalid(ROTATE, "true as overlap", {"overlap_seconds": True}, {"overlap_seconds": WHOLE}),
    invalid(ROTATE, "null as overlap", {"overlap_seconds": None}, {"overlap_seconds": WHOLE}),
    invalid(ROTATE, "text as force", {"force": "yes"}, {"force": "must be true or false"}),
    invalid(ROTATE, "a weak secret", {"secret": "whsec_"}, {"secret": WEAK}),
    # ── test
    invalid(TEST, "a number as type", {"event_type": 1}, {"event_type": TEXT}),
    invalid(TEST, "what is no type", {"event_type": "not one"}, {
        "event_type": "must be an event type of at most 200 characters, such as order.created"
    }),
    invalid(TEST, "too much data", {"data": "x" * 262_144}, {"data": "must be at most 262144 bytes as JSON"}),
    # ── publish
    invalid(PUBLISH, "nothing", {}, {"type": NEEDED, "data": NEEDED}),
    invalid(PUBLISH, "no type", {"data": {}}, {"type": NEEDED}),
    invalid(PUBLISH, "no data", {"type": "a.b"}, {"data": NEEDED}),
    invalid(PUBLISH, "a number as type", event(type=1), {"type": TEXT}),
    invalid(PUBLISH, "what is no type", event(type="not one"), {"type": EVENT_NAME}),
    invalid(PUBLISH, "a pattern as type", event(type="order.*"), {"type": EVENT_NAME}),
    invalid(PUBLISH, "too much data", event(data="x" * 262_144), {
        "data": "must be at most 262144 bytes as JSON, and is 262146"
    }),
    invalid(PUBLISH, "a number as moment", event(occurred_at=1_777_204_800), {"occurred_at": WITH_ZONE}),
    invalid(PUBLISH, "digits as moment", event(occurred_at="1777204800"), {"occurred_at": WITH_ZONE}),
    invalid(PUBLISH, "no zone", event(occurred_at="2026-04-26T12:00:00"), {"occurred_at": WITH_ZONE}),
    invalid(PUBLISH, "the 30th of February", event(occurred_at="2026-02-30T12:00:00Z"), {"occurred_at": WITH_ZONE}),
    invalid(PUBLISH, "the year 1", event(occurred_at="0001-01-01T00:00:00Z"), {"occurred_at": CENTURIES}),
    invalid(PUBLISH, "before the year 1", event(occurred_at="0001-01-01T00:00:00+01:00"), {"occurred_at": WITH_ZONE}),
    invalid(PUBLISH, "after the year 9999", event(occurred_at="9999-12-31T23:59:59-01:00"), {"occurred_at": WITH_ZONE}),
    invalid(PUBLISH, "a number as key", event(idempotency_key=1), {"idempotency_key": TEXT}),
    invalid(PUBLISH, "an empty key", event(idempotency_key=""), {"idempotency_key": KEY_LENGTH}),
    invalid(PUBLISH, "an empty key in the header", event(), {"Idempotency-Key": KEY_LENGTH}, headers={
        "Idempotency-Key": ""
    }),
    invalid(PUBLISH, "a key of 252 for a list", [event()], {
        "Idempotency-Key": "must be at most 251 characters for a list of events"
    }, headers={"Idempotency-Key": "k" * 252}),
    invalid(PUBLISH, "an empty list", [], {"body": "give at least one event"}),
    invalid(PUBLISH, "an empty batch", {"events": []}, {"events": "give at least one event"}),
    invalid(PUBLISH, "text as batch", {"events": "a.b"}, {"events": LIST_}),
    invalid(PUBLISH, "1001 events", [event()] * 1001, {"body": "at most 1000 events at once"}),
    invalid(PUBLISH, "a batch of 1001 events", {"events": [event()] * 1001}, {
        "events": "at most 1000 events at once"
    }),
    invalid(PUBLISH, "a bad event in a list", [event(), {"type": 1}], {"1.type": TEXT, "1.data": NEEDED}),
    invalid(PUBLISH, "a number in a list", [event(), 1], {"1": OBJECT}),
    invalid(PUBLISH, "a bad event in a batch", {"events": [event(), event(type="?")]}, {"events.1.type": EVENT_NAME}),
    invalid(PUBLISH, "a bad type in a batch", {"events": [{"type": None, "data": 1}]}, {"events.0.type": TEXT}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.request.replace('/v1', '')[:60]}, {case.name}")
async def test_a_bad_request_is_refused_and_changes_nothing(ready: Ready, case: Refused) -> None:
    api, ids = ready.api, ready.ids
    before = await api.stored()
    method, path = case.request.split(" ", 1)
    sent: dict[str, Any] = {"headers": {k: v.encode("latin-1") for k, v in case.headers.items()}}
    if case.raw is not None:
        sent["content"] = case.raw

    response = await api.ask(method, re.sub(r"\{(\w+)\}", lambda m: ids[m[1]], path), case.body, **sent)

    error = error_of(response)
    assert (response.status_code, error["code"]) == (case.status, case.code)
    assert error.get("details") == case.details
    assert await api.stored() == before


def test_the_table_tries_every_operation_with_every_kind_of_refusal_that_needs_no_preparation() -> None:
    tried = {(case.request.partition("?")[0], case.status) for case in CASES}
    for request in OPERATIONS:
        expected = {401, 403}
        if request in READING_BODIES:
            expected |= {400, 413, 415, 422}
        if "{ours}" in request:
            assert (request.replace("{ours}", "{theirs}"), 404) in tried
        assert {status for asked, status in tried if asked == request} >= expected
