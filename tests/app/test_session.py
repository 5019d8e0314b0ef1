"""A browser's session: what it opens, what it does not, and when it ends."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from starlette.requests import HTTPConnection

from app.authentication import Unauthenticated, caller_of
from app.browser_session import sealed
from models.ids import Prefix, encode, new_id
from models.moment import to_ms
from models.session import EndedSession
from resolvers import keys, sessions
from resolvers.caller import Caller, Session
from resolvers.errors import Forbidden
from resolvers.maintenance import sweep
from tests.schema.door import Door, Tenant, opened

NAME = "__Host-hookline_session"
OWN_PAGE = {"sec-fetch-site": "same-origin", "content-type": "application/json"}
QUERY = {"query": "{ viewer { apiKey { id } } }"}


@pytest.fixture
def database_kind() -> str:
    """A session is no matter of the database."""
    return "sqlite"


@pytest.fixture
async def door(database_url: str) -> AsyncIterator[Door]:
    async with opened(database_url) as door:
        yield door


@pytest.fixture
async def acme(door: Door) -> Tenant:
    return await door.tenant("Acme")


async def begin(tenant: Tenant, token: str | None = None, **headers: str) -> httpx.Response:
    sent = {"authorization": f"Bearer {token or tenant.token}", **headers}
    return await tenant.door.client.post("/session", headers=sent)


async def cookie_of(tenant: Tenant, token: str | None = None) -> dict[str, str]:
    """The header that a browser sends from then on."""
    begun = await begin(tenant, token)
    assert begun.status_code == 201
    return {"cookie": begun.headers["set-cookie"].partition(";")[0]}


async def ask(door: Door, headers: dict[str, str], url: str = "/graphql") -> httpx.Response:
    return await door.client.post(url, json=QUERY, headers=headers)


async def test_a_key_is_exchanged_for_a_cookie_that_does_not_hold_it(acme: Tenant) -> None:
    begun = await begin(acme)
    value, *flags = begun.headers["set-cookie"].split("; ")
    assert value.startswith(f"{NAME}=")
    assert {flag.lower() for flag in flags} == {"httponly", "max-age=43200", "path=/", "samesite=strict", "secure"}
    assert begun.headers["cache-control"] == "no-store"
    assert acme.token not in str(begun.headers) + begun.text
    assert begun.json()["organization"] == {"id": acme.id, "name": "Acme"}


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "app.localhost"])
async def test_plain_http_on_this_machine_gets_a_cookie_that_needs_no_tls(acme: Tenant, host: str) -> None:
    begun = await begin(acme, host=host)
    assert begun.headers["set-cookie"].startswith("hookline_session=")
    assert "secure" not in begun.headers["set-cookie"].lower()


async def test_the_session_opens_graphql_rest_and_streams_as_the_key_does(acme: Tenant) -> None:
    cookie = await cookie_of(acme)
    key = encode(Prefix.API_KEY, (await acme.caller()).key.id)
    graphql = await ask(acme.door, cookie | OWN_PAGE)
    rest = await acme.door.client.get("/v1/webhooks", headers=cookie)
    stream = await handshake(acme.door, cookie | {"origin": "https://hookline.example", "host": "hookline.example"})
    assert graphql.json() == {"data": {"viewer": {"apiKey": {"id": key}}}}
    assert rest.status_code == 200
    assert encode(Prefix.API_KEY, stream.key.id) == key


async def handshake(door: Door, headers: dict[str, str]) -> Caller:
    """Whose WebSocket it is."""
    app: Any = door.client._transport
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "websocket", "scheme": "wss", "path": "/graphql", "headers": raw, "app": app.app}
    return await caller_of(HTTPConnection(scope))


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", "https://hookline.example.evil.example"])
async def test_a_websocket_of_another_sites_page_is_refused(acme: Tenant, origin: str | None) -> None:
    headers = {**await cookie_of(acme), "host": "hookline.example", **({"origin": origin} if origin else {})}
    with pytest.raises(Forbidden):
        await handshake(acme.door, headers)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "http://hookline"}, 403),
        ({"origin": "http://hookline"}, 200),
        ({"origin": "http://hookline:81"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"referer": "http://hookline/"}, 403),
        ({}, 403),
    ],
)
async def test_changes_are_taken_from_our_own_pages_alone(acme: Tenant, headers: dict[str, str], status: int) -> None:
    answer = await ask(acme.door, await cookie_of(acme) | headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["errors"][0]["extensions"]["code"] == "FORBIDDEN"


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
async def test_what_a_form_can_send_is_refused(acme: Tenant, media: str) -> None:
    headers = await cookie_of(acme) | OWN_PAGE | {"content-type": media}
    body = b'{"url":"https://1.1.1.1/","events":["*"]}'
    rest = await acme.door.client.post("/v1/webhooks", content=body, headers=headers)
    graphql = await acme.door.client.post("/graphql", content=b'{"query":"{ __typename }"}', headers=headers)
    assert (rest.status_code, graphql.status_code) == (403, 403)
    assert await acme.data("{ webhooks { totalCount } }") == {"totalCount": 0}


async def test_a_change_over_rest_needs_our_own_page_whatever_its_method(acme: Tenant) -> None:
    cookie = await cookie_of(acme)
    client, body = acme.door.client, {"url": "https://1.1.1.1/", "events": ["*"]}
    created = await client.post("/v1/webhooks", json=body, headers=cookie | OWN_PAGE)
    address = f"/v1/webhooks/{created.json()['id']}"
    foreign = cookie | {"sec-fetch-site": "same-site"}
    refused = [
        await client.delete(address, headers=foreign),
        await client.patch(address, json={"active": False}, headers=foreign),
        await client.post(f"{address}/rotate-secret", headers=cookie | {"sec-fetch-site": "same-origin"}),
    ]
    assert [answer.status_code for answer in refused] == [403, 403, 403]
    assert (await client.delete(address, headers=cookie | {"sec-fetch-site": "same-origin"})).status_code == 204


async def test_a_key_that_is_shown_comes_before_the_session(acme: Tenant) -> None:
    other = await acme.door.tenant("Globex")
    headers = await cookie_of(acme) | {"authorization": f"Bearer {other.token}"}  # as no other site can send it
    answer = await acme.door.client.post("/graphql", json=QUERY, headers=headers)
    key = encode(Prefix.API_KEY, (await other.caller()).key.id)
    assert answer.json()["data"]["viewer"]["apiKey"]["id"] == key


async def test_the_session_tells_whose_it_is(acme: Tenant) -> None:
    told = await acme.door.client.get("/session", headers=await cookie_of(acme))
    caller = await acme.caller()
    answer = told.json()
    assert told.status_code == 200
    assert answer["organization"] == {"id": acme.id, "name": "Acme"}
    assert answer["api_key"] == {"id": encode(Prefix.API_KEY, caller.key.id), "name": caller.key.name}
    assert answer["scopes"] == sorted(map(str, caller.scopes))
    ends = datetime.fromisoformat(answer["expires_at"])
    assert timedelta(hours=11) < ends - datetime.now(UTC) <= timedelta(hours=12)


async def test_without_a_session_there_is_nothing_to_tell(acme: Tenant) -> None:
    for headers in ({}, {"authorization": f"Bearer {acme.token}"}):
        answer = await acme.door.client.get("/session", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer mistyped"}, {"authorization": "Basic YTpi"}])
async def test_without_a_key_no_session_begins(acme: Tenant, headers: dict[str, str]) -> None:
    for cookie in ({}, await cookie_of(acme)):  # nor does one session beget another, which would never end
        answer = await acme.door.client.post("/session", headers=cookie | headers | OWN_PAGE)
        assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)


async def test_ending_the_session_has_the_browser_forget_it(acme: Tenant) -> None:
    cookie = await cookie_of(acme)
    refused = await acme.door.client.delete("/session", headers=cookie | {"sec-fetch-site": "cross-site"})
    ended = await acme.door.client.delete("/session", headers=cookie | {"sec-fetch-site": "same-origin"})
    assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
    assert ended.status_code == 204
    assert ended.headers["set-cookie"].startswith(f'{NAME}="";')
    assert "Max-Age=0" in ended.headers["set-cookie"]


async def test_a_session_that_was_ended_opens_nothing_even_for_who_kept_a_copy(acme: Tenant) -> None:
    cookie, other = await cookie_of(acme), await cookie_of(acme)
    for _ in range(2):  # again changes nothing
        ended = await acme.door.client.delete("/session", headers=cookie | {"sec-fetch-site": "same-origin"})
        assert ended.status_code == 204
    assert (await ask(acme.door, cookie | OWN_PAGE)).status_code == 401
    assert (await acme.door.client.get("/session", headers=cookie)).status_code == 401
    assert (await acme.door.client.get("/v1/webhooks", headers=cookie)).status_code == 401
    assert (await ask(acme.door, other | OWN_PAGE)).status_code == 200


async def test_that_a_session_was_ended_is_remembered_until_it_would_have_ended_by_itself(acme: Tenant) -> None:
    desk, caller = acme.door.house.desk, await acme.caller()
    spans = {"over": -1, "still good": 60_000}
    made = {name: Session(new_id(), caller.key.id, desk.clock() + span) for name, span in spans.items()}
    for session in made.values():
        await sessions.end(session)
    await sweep(desk)
    assert await EndedSession.all().values_list("id", flat=True) == [made["still good"].id]


async def test_a_revoked_key_ends_its_sessions(acme: Tenant) -> None:
    cookie = await cookie_of(acme)
    await keys.revoke_any(encode(Prefix.API_KEY, (await acme.caller()).key.id))
    assert (await ask(acme.door, cookie | OWN_PAGE)).status_code == 401
    assert (await acme.door.client.get("/session", headers=cookie)).status_code == 401


async def test_a_session_ends_with_its_key_at_the_latest(acme: Tenant) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    _, token = await keys.create_for(acme.organization.id, "short", ["*"], expires_at=ends)
    begun = await begin(acme, token)
    assert datetime.fromisoformat(begun.json()["expires_at"]) == ends


async def test_a_session_that_is_over_opens_nothing(acme: Tenant) -> None:
    desk, caller = acme.door.house.desk, await acme.caller()
    for expires_at, status in ((desk.clock() + 60_000, 200), (desk.clock(), 401)):
        value = sealed(Session(new_id(), caller.key.id, expires_at), desk.sealer)
        answer = await ask(acme.door, {"cookie": f"{NAME}={value}", **OWN_PAGE})
        assert answer.status_code == status


async def test_a_cookie_that_we_did_not_make_opens_nothing(acme: Tenant) -> None:
    made = (await cookie_of(acme))["cookie"].partition("=")[2]
    desk, key = acme.door.house.desk, (await acme.caller()).key
    other_seal = desk.sealer.seal(key.id.bytes + to_ms(datetime.now(UTC)).to_bytes(8, "big"), b"another place").hex()
    for value in ("", "x", "=" * 40, made[:-5] + "AAAA=", made[4:], str(key.id), other_seal):
        answer = await ask(acme.door, {"cookie": f"{NAME}={value}", **OWN_PAGE})
        assert answer.status_code == 401, value


async def test_over_https_a_cookie_without_the_hosts_prefix_opens_nothing(acme: Tenant) -> None:
    """Another machine of the same site could have set that one."""
    value = (await cookie_of(acme))["cookie"].partition("=")[2]
    answer = await ask(acme.door, {"cookie": f"hookline_session={value}", **OWN_PAGE}, "https://hookline/graphql")
    assert answer.status_code == 401


async def test_without_a_session_nobody_is_known(door: Door) -> None:
    with pytest.raises(Unauthenticated):
        await handshake(door, {"origin": "https://hookline.example", "host": "hookline.example"})


# ── pages of other origins ──


async def test_listed_origins_may_call_as_our_own_pages_may(database_url: str) -> None:
    page = "https://app.example.com"
    async with opened(database_url, allowed_origins=(page,)) as door:
        acme = await door.tenant("Acme")
        cookie = await cookie_of(acme)
        listed = await ask(door, cookie | {"origin": page, "sec-fetch-site": "same-site"})
        other = await ask(door, cookie | {"origin": f"{page}.evil.example", "sec-fetch-site": "cross-site"})
        stream = await handshake(door, cookie | {"origin": page, "host": "hookline.example"})
    assert (listed.status_code, other.status_code) == (200, 403)
    assert listed.headers["access-control-allow-origin"] == page
    assert listed.headers["access-control-allow-credentials"] == "true"
    assert "access-control-allow-origin" not in other.headers
    assert stream.organization_id == acme.organization.id


async def test_a_preflight_is_answered_for_listed_origins_alone(database_url: str) -> None:
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    async with opened(database_url, allowed_origins=("https://app.example.com",)) as door:
        listed = await door.client.options("/graphql", headers=wanted | {"origin": "https://app.example.com"})
        other = await door.client.options("/graphql", headers=wanted | {"origin": "https://evil.example"})
    assert (listed.status_code, other.status_code) == (200, 400)
    assert listed.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "access-control-allow-origin" not in other.headers


async def test_unless_listed_no_origin_may_call(acme: Tenant) -> None:
    headers = {"authorization": f"Bearer {acme.token}", "origin": "https://app.example.com"}
    answer = await ask(acme.door, headers)
    assert "access-control-allow-origin" not in answer.headers
