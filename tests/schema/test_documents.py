"""Documents named by their digest: trusted ones, and those that were sent before."""

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.settings import SettingsError
from resolvers import keys, organizations
from schema.documents import StoredDocuments
from schema.limits import library
from tests.houses import open_house
from tests.schema.door import Tenant, opened
from tests.schema.live import listening
from tests.schema.test_http import RESPONSE, post
from tests.watchers import connected

QUERY = "query Own { viewer { organization { id } } }"
OTHER = "{ __typename }"
CHANGE = 'mutation { putEventType(input: { name: "a" }) { __typename } }'


def named(document: str, **more: Any) -> dict[str, Any]:
    """A request that names a document by its digest."""
    digest = hashlib.sha256(document.encode()).hexdigest()
    return {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest}}, **more}


def codes(response: httpx.Response) -> list[str]:
    assert set(response.json()) == {"errors"}
    return [error["extensions"]["code"] for error in response.json()["errors"]]


def own(tenant: Tenant) -> Any:
    return {"data": {"viewer": {"organization": {"id": tenant.id}}}}


# ── automatic ──


async def test_a_document_that_was_sent_with_its_digest_is_found_by_it(database_url: str) -> None:
    async with opened(database_url, persisted_queries=True) as door:
        acme = await door.tenant("Acme")
        unknown = await post(acme, named(QUERY))
        sent = await post(acme, named(QUERY, query=QUERY))
        found = await post(acme, named(QUERY))
        by_get = await door.client.get(
            "/graphql",
            params={"extensions": json.dumps(named(QUERY)["extensions"])},
            headers={"authorization": f"Bearer {acme.token}", "accept": "application/json"},
        )
    assert (unknown.status_code, codes(unknown)) == (200, ["PERSISTED_QUERY_NOT_FOUND"])
    assert unknown.json()["errors"][0]["message"] == "PersistedQueryNotFound"
    assert sent.json() == found.json() == by_get.json() == own(acme)


async def test_what_is_not_found_is_400_in_the_new_media_type(database_url: str) -> None:
    async with opened(database_url, persisted_queries=True) as door:
        acme = await door.tenant("Acme")
        answer = await post(acme, named(QUERY), accept="application/graphql-response+json")
    assert (answer.status_code, answer.headers["content-type"]) == (400, RESPONSE)


async def test_a_digest_of_another_document_is_refused_and_not_kept(database_url: str) -> None:
    async with opened(database_url, persisted_queries=True) as door:
        acme = await door.tenant("Acme")
        refused = await post(acme, named(QUERY, query=OTHER))
        unknown = await post(acme, named(QUERY))
    assert (codes(refused), codes(unknown)) == (["BAD_REQUEST"], ["PERSISTED_QUERY_NOT_FOUND"])


async def test_a_document_without_a_digest_is_run_and_not_kept(database_url: str) -> None:
    async with opened(database_url, persisted_queries=True) as door:
        acme = await door.tenant("Acme")
        assert (await post(acme, {"query": QUERY})).json() == own(acme)
        assert codes(await post(acme, named(QUERY))) == ["PERSISTED_QUERY_NOT_FOUND"]


async def test_a_mutation_that_is_named_by_get_is_refused_all_the_same(database_url: str) -> None:
    async with opened(database_url, persisted_queries=True) as door:
        acme = await door.tenant("Acme")
        await post(acme, named(CHANGE, query=CHANGE))
        answer = await door.client.get(
            "/graphql",
            params={"extensions": json.dumps(named(CHANGE)["extensions"])},
            headers={"authorization": f"Bearer {acme.token}", "accept": "application/json"},
        )
    assert answer.status_code == 405


async def test_a_document_that_is_found_is_read_and_judged_once(database_url: str) -> None:
    async with opened(database_url, persisted_queries=True) as door:
        acme = await door.tenant("Acme")
        await post(acme, named(QUERY, query=QUERY))
        before = library.read, library.judged
        for _ in range(3):
            await post(acme, named(QUERY))
    assert (library.read, library.judged) == before


async def test_of_very_many_documents_the_latest_are_kept(database_url: str) -> None:
    async with opened(database_url, persisted_queries=True) as door:
        acme = await door.tenant("Acme")
        await post(acme, named(QUERY, query=QUERY))
        for i in range(1000):
            query = f"query Q{i} {{ __typename }}"
            assert "errors" not in (await post(acme, named(query, query=query))).json()
        assert codes(await post(acme, named(QUERY))) == ["PERSISTED_QUERY_NOT_FOUND"]
        assert "errors" not in (await post(acme, named("query Q0 { __typename }"))).json()


async def test_unless_they_are_on_a_digest_alone_is_not_supported(acme: Tenant) -> None:
    assert codes(await post(acme, named(QUERY))) == ["PERSISTED_QUERY_NOT_SUPPORTED"]
    assert (await post(acme, named(QUERY, query=QUERY))).json() == own(acme)


@pytest.mark.parametrize("given", [{}, {"sha256Hash": None}, [], "x", None])
async def test_without_a_digest_there_is_no_document(database_url: str, given: Any) -> None:
    async with opened(database_url, persisted_queries=True) as door:
        answer = await post(await door.tenant("Acme"), {"extensions": {"persistedQuery": given}})
    assert (answer.status_code, codes(answer)) == (400, ["BAD_REQUEST"])


@pytest.mark.parametrize("digest", ["", "x", 17, ["a"], {"a": "b"}])
async def test_what_is_no_digest_is_not_found(database_url: str, digest: Any) -> None:
    async with opened(database_url, persisted_queries=True) as door:
        answer = await post(await door.tenant("Acme"), {"extensions": {"persistedQuery": {"sha256Hash": digest}}})
    assert codes(answer) == ["PERSISTED_QUERY_NOT_FOUND"]


async def test_a_websocket_names_documents_as_well(database_url: str) -> None:
    async with (
        open_house(database_url) as house,
        listening(house, documents=StoredDocuments(automatic=True)) as address,
    ):
        organization = await organizations.create_named("Acme", None)
        _, token = await keys.create_for(organization.id, "a key", ["*"])
        async with connected(address, token) as socket:
            await socket.send(id="1", type="subscribe", payload=named(OTHER))
            refused = await socket.take()
            await socket.send(id="2", type="subscribe", payload=named(OTHER, query=OTHER))
            sent = [await socket.take(), await socket.take()]
            await socket.send(id="3", type="subscribe", payload=named(OTHER))
            found = await socket.take()
    assert (refused["id"], refused["type"]) == ("1", "error")
    [error] = refused["payload"]
    assert error["extensions"] == {"code": "PERSISTED_QUERY_NOT_FOUND"}
    assert [message["type"] for message in sent] == ["next", "complete"]
    assert found["payload"]["data"] == {"__typename": "Query"}


# ── trusted ──


def listed(folder: Path, *queries: str) -> Path:
    path = folder / "documents.json"
    path.write_text(json.dumps({hashlib.sha256(query.encode()).hexdigest(): query for query in queries}))
    return path


async def test_trusted_documents_are_run_by_digest_or_by_text_and_nothing_else_is(
    database_url: str, tmp_path: Path
) -> None:
    settings = {"trusted_documents": listed(tmp_path, QUERY), "persisted_queries": True}
    async with opened(database_url, **settings) as door:
        acme = await door.tenant("Acme")
        trusted = [await post(acme, body) for body in (named(QUERY), {"query": QUERY}, named(QUERY, query=QUERY))]
        strange = [await post(acme, body) for body in (named(OTHER), {"query": OTHER}, named(QUERY, query=OTHER))]
        again = await post(acme, named(OTHER))
    assert [answer.json() for answer in trusted] == [own(acme)] * 3
    assert [codes(answer) for answer in [*strange, again]] == [["DOCUMENT_NOT_TRUSTED"]] * 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{", "is not JSON"),
        ("[]", 'must hold an object such as {"<sha256>": "query …"}'),
        ('{"a": 1}', 'must hold an object such as {"<sha256>": "query …"}'),
        ('{"a": "{ __typename }"}', "'a' is not the SHA-256 of its document, in lower-case hex"),
    ],
)
async def test_a_file_that_is_wrong_keeps_the_server_from_starting(
    database_url: str, tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "documents.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError) as refused:
        async with opened(database_url, trusted_documents=path):
            pass
    assert str(refused.value) == f"HOOKLINE_TRUSTED_DOCUMENTS: {message}"
