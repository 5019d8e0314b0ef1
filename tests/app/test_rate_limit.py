"""A key may ask so much and no more; what is beyond is told when to come back, through every door."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.asgi import application
from app.rest.routes import dialects
from models.ids import new_id
from resolvers import keys, organizations
from resolvers.errors import RateLimited
from resolvers.rate_limit import RateLimit
from tests.houses import ManualClock, open_house

PUBLISH = """mutation {
  a: publishEvent(input: { type: "a", data: 1 }) { __typename }
  b: publishEvent(input: { type: "b", data: 1 }) { __typename ... on RateLimited { code retryAfterSeconds } }
  c: publishEvents(input: [{ type: "c", data: 1 }]) { __typename ... on RateLimited { code retryAfterSeconds } }
}"""
EVENTS = "{ events { nodes { type } } }"


@pytest.fixture
def database_kind() -> str:
    """It is counted in the process."""
    return "sqlite"


# ── the bucket ──


def test_a_burst_is_allowed_and_then_what_comes_back() -> None:
    clock = ManualClock()
    rate, key = RateLimit(4, 3, clock), new_id()
    for _ in range(3):
        rate.take(key)
    with pytest.raises(RateLimited) as refused:
        rate.take(key)
    assert refused.value.retry_after_seconds == 0.25
    clock.advance(milliseconds=249)
    with pytest.raises(RateLimited):
        rate.take(key)
    clock.advance(milliseconds=1)
    rate.take(key)
    with pytest.raises(RateLimited):
        rate.take(key)


def test_a_bucket_holds_no_more_than_the_burst() -> None:
    clock = ManualClock()
    rate, key = RateLimit(4, 3, clock), new_id()
    assert rate.remaining(key) == 3
    rate.take(key)
    assert rate.remaining(key) == 2
    clock.advance(hours=1)
    assert rate.remaining(key) == 3


def test_one_key_does_not_count_for_another() -> None:
    rate, one, other = RateLimit(1, 1, ManualClock()), new_id(), new_id()
    rate.take(one)
    rate.take(other)
    assert (rate.remaining(one), rate.remaining(other)) == (0, 0)


def test_a_clock_that_is_put_back_gives_and_takes_nothing() -> None:
    clock = ManualClock()
    rate, key = RateLimit(1, 2, clock), new_id()
    rate.take(key)
    clock.advance(hours=-1)
    assert rate.remaining(key) == 1
    clock.advance(seconds=1)
    assert rate.remaining(key) == 2


def test_without_a_limit_nothing_is_counted() -> None:
    rate, key = RateLimit(0, 1, ManualClock()), new_id()
    for _ in range(10):
        rate.take(key)
    assert rate.remaining(key) == 1


def test_of_very_many_keys_those_are_forgotten_that_were_not_used_for_longest() -> None:
    rate, first = RateLimit(1, 1, ManualClock()), new_id()
    rate.take(first)
    last = first
    for _ in range(10_000):
        last = new_id()
        rate.take(last)
    assert len(rate._buckets) == 10_000
    assert (rate.remaining(last), rate.remaining(first)) == (0, 1)


# ── the doors ──


@asynccontextmanager
async def served(database_url: str, clock: ManualClock, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = application(lambda: open_house(database_url, clock, **settings), 1_000_000)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="https://hookline.test") as client,
    ):
        yield client


async def new_key(organization_id: UUID | None = None, contract: str = "native") -> dict[str, str]:
    """The header of a new key, by default of a new organization."""
    owner = organization_id or (await organizations.create_named("Acme", None)).id
    _, token = await keys.create_for(owner, "a key", ["*"], contract)
    return {"authorization": f"Bearer {token}"}


async def ask(client: httpx.AsyncClient, key: dict[str, str], query: str = "{ __typename }") -> httpx.Response:
    return await client.post("/graphql", json={"query": query}, headers=key)


async def test_graphql_answers_429_and_says_when_to_come_back(database_url: str) -> None:
    clock = ManualClock()
    async with served(database_url, clock, requests_per_second=1, request_burst=2) as client:
        key, other = await new_key(), await new_key()
        answers = [await ask(client, key) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].headers["retry-after"] == "1"
        assert answers[2].json() == {
            "errors": [
                {
                    "message": "too many requests: this key may make 1 a second, and 2 at once",
                    "extensions": {"code": "RATE_LIMITED"},
                }
            ]
        }
        assert (await ask(client, other)).status_code == 200
        clock.advance(seconds=1)
        assert (await ask(client, key)).status_code == 200


@pytest.mark.parametrize("contract", dialects())
async def test_rest_answers_429_in_the_words_of_each_contract(database_url: str, contract: str) -> None:
    operation = next(o for o in dialects()[contract].operations if "{" not in o.path)
    async with served(database_url, ManualClock(), requests_per_second=1, request_burst=1) as client:
        key = await new_key(contract=contract)
        await client.request(operation.method, operation.path, headers=key)
        answer = await client.request(operation.method, operation.path, headers=key)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json() not in ({}, None)


async def test_a_session_counts_as_its_key(database_url: str) -> None:
    async with served(database_url, ManualClock(), requests_per_second=1, request_burst=2) as client:
        key = await new_key()
        begun = await client.post("/session", headers=key)
        cookie = {"cookie": begun.headers["set-cookie"].partition(";")[0]}
        assert (await client.get("/v1/webhooks", headers=cookie)).status_code == 200
        refused = [await client.get("/v1/webhooks", headers=cookie), await client.post("/session", headers=key)]
    assert [answer.status_code for answer in refused] == [429, 429]


async def test_publications_beyond_the_first_count_and_are_refused_in_the_union(database_url: str) -> None:
    clock = ManualClock()
    async with served(database_url, clock, requests_per_second=1, request_burst=2) as client:
        key = await new_key()
        published = (await ask(client, key, PUBLISH)).json()["data"]
        clock.advance(seconds=1)
        kept = (await ask(client, key, EVENTS)).json()["data"]
    assert published["a"] == {"__typename": "PublishEventPayload"}
    assert published["b"] == {"__typename": "PublishEventPayload"}
    assert published["c"] == {"__typename": "RateLimited", "code": "RATE_LIMITED", "retryAfterSeconds": 1.0}
    assert {event["type"] for event in kept["events"]["nodes"]} == {"a", "b"}


async def test_the_figures_are_in_viewer(database_url: str) -> None:
    query = "{ viewer { rateLimit { perSecond burst remaining } } }"
    async with served(database_url, ManualClock(), requests_per_second=5, request_burst=9) as client:
        key = await new_key()
        told = [(await ask(client, key, query)).json()["data"]["viewer"]["rateLimit"] for _ in range(2)]
    assert told == [{"perSecond": 5, "burst": 9, "remaining": 8}, {"perSecond": 5, "burst": 9, "remaining": 7}]


async def test_without_a_limit_there_are_no_figures(database_url: str) -> None:
    async with served(database_url, ManualClock(), requests_per_second=0, request_burst=1) as client:
        key = await new_key()
        answers = [await ask(client, key, "{ viewer { rateLimit { remaining } } }") for _ in range(3)]
    assert [answer.json() for answer in answers] == [{"data": {"viewer": {"rateLimit": None}}}] * 3
