"""GraphQL over HTTP: media types, statuses, and errors that are JSON."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from schema.sdl import print_sdl
from tests.schema.door import MAX_BODY_BYTES, Door, Tenant

JSON = "application/json; charset=utf-8"
RESPONSE = "application/graphql-response+json; charset=utf-8"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


async def post(tenant: Tenant, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"authorization": f"Bearer {tenant.token}", "content-type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await tenant.door.client.post("/graphql", content=content, headers=sent)


async def get(tenant: Tenant, accept: str = "application/json", **parameters: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {tenant.token}", "accept": accept}
    return await tenant.door.client.get("/graphql", params=parameters, headers=headers)


def code(response: httpx.Response) -> str:
    [error] = response.json()["errors"]
    assert set(response.json()) == {"errors"}
    found: str = error["extensions"]["code"]
    return found


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", JSON),
        ("application/json", JSON),
        ("application/graphql-response+json", RESPONSE),
        ("application/graphql-response+json, application/json;q=0.9", RESPONSE),
        ("application/json, application/graphql-response+json", RESPONSE),
        ("application/graphql-response+json;q=0.1, application/json", JSON),
        ("application/graphql-response+json;q=0, */*", JSON),
        ("application/json;q=0, */*", RESPONSE),
        ("application/*", JSON),
    ],
)
async def test_the_media_type_is_the_one_that_is_accepted(acme: Tenant, accept: str, media: str) -> None:
    response = await post(acme, {"query": "{ __typename }"}, accept=accept)
    assert (response.status_code, response.headers["content-type"]) == (200, media)
    assert response.json() == {"data": {"__typename": "Query"}}


async def test_an_accept_that_nothing_satisfies_is_406(acme: Tenant) -> None:
    response = await post(acme, {"query": "{ __typename }"}, accept="image/png")
    assert (response.status_code, code(response)) == (406, "NOT_ACCEPTABLE")


@pytest.mark.parametrize(
    ("query", "expected"), [("{", "GRAPHQL_PARSE_FAILED"), ("{ no }", "GRAPHQL_VALIDATION_FAILED")]
)
async def test_an_unusable_document_is_400_in_the_new_media_type_and_200_in_the_old(
    acme: Tenant, query: str, expected: str
) -> None:
    new = await post(acme, {"query": query}, accept="application/graphql-response+json")
    old = await post(acme, {"query": query}, accept="application/json")
    assert (new.status_code, new.headers["content-type"], code(new)) == (400, RESPONSE, expected)
    assert (old.status_code, old.headers["content-type"], code(old)) == (200, JSON, expected)


async def test_one_of_several_operations_must_be_named(acme: Tenant) -> None:
    body = {"query": "query A { a: __typename } query B { b: __typename }"}
    unnamed = await post(acme, body, accept="application/graphql-response+json")
    named = await post(acme, body | {"operationName": "B"})
    assert (unnamed.status_code, code(unnamed)) == (400, "BAD_REQUEST")
    assert named.json() == {"data": {"b": "Query"}}


async def test_a_null_that_was_asked_for_is_200_in_the_new_media_type_too(acme: Tenant) -> None:
    response = await post(
        acme, {"query": "{ organizations { nodes { id } } }"}, accept="application/graphql-response+json"
    )
    assert response.status_code == 200
    assert response.json()["data"] == {"organizations": None}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"17",
        b"null",
        b"[{}]",
        b"[" * 100_000,
        b'{"variables":{"n":' + b"1" * 5000 + b"}}",
        b'{"query":"{}","variables":{"s":"\\ud800","n":1234567890123456789012}}',
        {},
        {"query": None},
        {"query": 17},
        {"query": "{ __typename }", "variables": []},
        {"query": "{ __typename }", "extensions": "x"},
        {"query": "query A { __typename }", "operationName": "B"},
    ],
)
async def test_what_is_no_request_is_400_in_json(acme: Tenant, body: Any) -> None:
    response = await post(acme, body)
    assert (response.status_code, response.headers["content-type"], code(response)) == (400, JSON, "BAD_REQUEST")


@pytest.mark.parametrize("content_type", ["text/plain", "application/graphql", "multipart/form-data; boundary=x", ""])
async def test_a_body_that_is_not_declared_json_is_415(acme: Tenant, content_type: str) -> None:
    response = await post(acme, {"query": "{ __typename }"}, content_type=content_type)
    assert (response.status_code, code(response)) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_json_may_be_declared_with_its_charset(acme: Tenant) -> None:
    response = await post(acme, {"query": "{ __typename }"}, content_type="Application/JSON; charset=utf-8")
    assert response.status_code == 200


async def test_a_body_that_is_too_large_is_413(acme: Tenant) -> None:
    response = await post(acme, b" " * (MAX_BODY_BYTES + 1))
    assert (response.status_code, code(response)) == (413, "PAYLOAD_TOO_LARGE")


async def test_a_body_that_does_not_say_its_length_is_cut_off_at_the_same_limit(acme: Tenant) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 1000 + 1):
            yield b" " * 1000

    headers = {"authorization": f"Bearer {acme.token}", "content-type": "application/json"}
    response = await acme.door.client.post("/graphql", content=pieces(), headers=headers)
    assert (response.status_code, code(response)) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    "data", ['{"n":123456789012345678901234567890,"f":1.5}', '["\\u00e9",1000]', '"text"', "false"]
)
async def test_an_events_data_comes_back_with_every_digit(acme: Tenant, data: str) -> None:
    publish = """mutation($d: JSON!) {
      publishEvent(input: { type: "a", data: $d }) { ... on PublishEventPayload { event { data } } }
    }"""
    response = await post(acme, b'{"query":%s,"variables":{"d":%s}}' % (json.dumps(publish).encode(), data.encode()))
    assert response.json()["data"]["publishEvent"]["event"]["data"] == json.loads(data)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_another_method_is_405_and_says_which_are_allowed(acme: Tenant, method: str) -> None:
    response = await acme.door.client.request(method, "/graphql", headers={"authorization": f"Bearer {acme.token}"})
    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST")
    assert code(response) == "METHOD_NOT_ALLOWED"


async def test_a_query_may_come_by_get_with_variables(acme: Tenant) -> None:
    query = "query Q($id: ID!) { node(id: $id) { id } }"
    response = await get(acme, query=query, variables=json.dumps({"id": acme.id}), operationName="Q")
    assert (response.status_code, response.json()) == (200, {"data": {"node": {"id": acme.id}}})


async def test_a_mutation_by_get_is_405_and_changes_nothing(acme: Tenant) -> None:
    mutation = 'mutation { putEventType(input: { name: "order.created" }) { __typename } }'
    response = await get(acme, query=mutation)
    assert (response.status_code, response.headers["allow"], code(response)) == (405, "POST", "METHOD_NOT_ALLOWED")
    assert await acme.data("{ eventTypes { name } }") == []


async def test_a_browser_is_shown_the_page_without_a_key(door: Door) -> None:
    response = await door.client.get("/graphql", headers={"accept": BROWSER})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")


async def test_a_browser_that_brings_a_query_gets_its_answer(acme: Tenant) -> None:
    response = await get(acme, accept=BROWSER, query="{ __typename }")
    assert response.json() == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer hkl_unknown", "Basic YTpi"])
async def test_without_a_known_key_the_answer_is_401_in_json(door: Door, authorization: str | None) -> None:
    headers = {"authorization": authorization} if authorization else {}
    response = await door.client.post("/graphql", json={"query": "{ __typename }"}, headers=headers)
    assert (response.status_code, code(response)) == (401, "UNAUTHENTICATED")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_revoked_key_is_401_from_then_on(acme: Tenant) -> None:
    key = await acme.data("{ viewer { apiKey { id } } }")
    revoke = "mutation($id: ID!) { revokeApiKey(input: { id: $id }) { __typename } }"
    assert await acme.data(revoke, id=key["apiKey"]["id"]) == {"__typename": "RevokeApiKeyPayload"}
    response = await post(acme, {"query": "{ __typename }"})
    assert (response.status_code, code(response)) == (401, "UNAUTHENTICATED")


async def test_acting_for_an_organization_is_403_without_the_scope_platform(acme: Tenant) -> None:
    response = await post(acme, {"query": "{ __typename }"}, hookline_organization=acme.id)
    assert (response.status_code, code(response)) == (403, "FORBIDDEN")


async def test_a_platform_key_acts_for_the_organization_that_is_named(door: Door, acme: Tenant) -> None:
    platform = await door.tenant("Platform", "platform")
    answer = await platform.door.ask(
        "{ viewer { organization { id } } }", platform.token, {"Hookline-Organization": acme.id}
    )
    assert answer == {"data": {"viewer": {"organization": {"id": acme.id}}}}


async def test_lists_of_requests_are_refused(acme: Tenant) -> None:
    response = await post(acme, [{"query": "{ __typename }"}] * 2)
    assert (response.status_code, code(response)) == (400, "BAD_REQUEST")


async def test_every_answer_bears_the_request_id(acme: Tenant) -> None:
    response = await post(acme, {"query": "{ __typename }"}, x_request_id="from-the-caller-1")
    assert response.headers["x-request-id"] == "from-the-caller-1"


async def test_the_schema_is_there_for_code_generators_without_a_key(door: Door) -> None:
    answer = await door.client.get("/graphql/schema")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert answer.text == print_sdl()
    again = await door.client.get("/graphql/schema", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
