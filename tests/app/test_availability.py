"""What callers are answered while the database is away, and when too many wait: 503, in their own form."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg
import httpx
import pytest

from app.asgi import application
from app.rest.routes import dialects
from app.wiring import House
from models.event import Event
from resolvers import keys, organizations
from tests.houses import open_house, until
from tests.schema.live import listening
from tests.services import PostgreSQL, postgresql_server
from tests.watchers import streamed

AWAY = (
    "the database does not answer just now. Send the request again: a change under an idempotency key, for it may "
    "have been made"
)
FULL = "too many requests wait here already: come back in a moment"
ID = "the-request-of-the-test"
EVENT = {"type": "order.created", "data": {"id": 42}}
PUBLISH = """
mutation($input: PublishEventInput!) {
  publishEvent(input: $input) { ... on PublishEventPayload { duplicate event { id } } }
}"""

PATHS = {
    "native": "/v1/webhooks",
    "agentmessage": "/v1/webhooks",
    "enfinitos": "/v1/webhooks",
    "factify": "/v1/webhooks",
    "verifik": "/v2/webhooks",
    "factorial": "/api/2026-07-01/resources/api_public/webhook_subscriptions",
}


def form_of(contract: str, message: str) -> Any:
    """What each contract's callers get."""
    match contract:
        case "native":
            return {"success": False, "error": {"code": "UNAVAILABLE", "message": message, "request_id": ID}}
        case "agentmessage":
            return {"success": False, "error": {"code": "UNAVAILABLE", "message": message, "request_id": ID}}
        case "enfinitos":
            error = {"code": "UNAVAILABLE", "message": message, "requestId": ID}
            return {"ok": False, "error": error, "contractVersion": "v1.0"}
        case "factify":
            details = [{"reason": "service_unavailable", "request_id": f"req_{ID}"}]
            return {"code": "unavailable", "message": message, "details": details}
        case "verifik":
            return {"error": message, "message": "UNAVAILABLE"}
        case "factorial":
            return {"error": message}
        case _:
            raise AssertionError(contract)


@pytest.fixture(scope="module")
def _server() -> Iterator[PostgreSQL]:
    with postgresql_server(["fsync=off"]) as server:  # keeps what it committed when it is killed, and is fast
        yield server


@pytest.fixture
async def own_postgresql(_server: PostgreSQL) -> AsyncIterator[PostgreSQL]:
    """A PostgreSQL that may be stopped; it runs again when the test has ended."""
    yield _server
    _server.stop()
    _server.start()


@dataclass
class Served:
    """The app on a PostgreSQL of its own, and the headers of a key of each contract."""

    client: httpx.AsyncClient
    house: House
    database_url: str
    keys: dict[str, dict[str, str]]
    app: Any

    async def list_as(self, contract: str) -> httpx.Response:
        return await self.client.get(PATHS[contract], headers=self.keys[contract])

    async def graphql(self, document: str = "{ viewer { id } }", **more: Any) -> httpx.Response:
        variables = more.pop("variables", {})
        headers = self.keys["native"] | more.pop("headers", {})
        return await self.client.post("/graphql", json={"query": document, "variables": variables}, headers=headers)

    async def publish(self, idempotency_key: str) -> httpx.Response:
        return await self.client.post(
            "/v1/events", json=EVENT, headers=self.keys["native"] | {"idempotency-key": idempotency_key}
        )


@asynccontextmanager
async def serving(server: PostgreSQL, most_waiting: int = 500) -> AsyncIterator[Served]:
    url = await server.create_migrated_database()
    app = application(lambda: open_house(url), 1_000_000, most_waiting=most_waiting)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://hookline.test") as client,
    ):
        owner = await organizations.create_named("Acme")
        made = {}
        for contract in dialects():
            _, token = await keys.create_for(owner.id, contract, ["*"], contract)
            made[contract] = {"authorization": f"Bearer {token}", "x-request-id": ID}
        yield Served(client, app.state.house, url, made, app)


@asynccontextmanager
async def locked(url: str, table: str = "event") -> AsyncIterator[None]:
    """Whoever reads or writes the table waits meanwhile."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("BEGIN")
        await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
    finally:
        connection.terminate()  # the server may be gone


async def _lock_is_waited_for(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await until(lambda: connection.fetchval("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)"))
    finally:
        await connection.close()


async def _at_last(ask: Callable[[], Coroutine[Any, Any, httpx.Response]]) -> httpx.Response:
    """Asks again, as the answer says, until it is another than 503: a connection may be found to be dead only now."""
    answers: list[httpx.Response] = []

    async def is_answered() -> bool:
        answers.append(await ask())
        return answers[-1].status_code != 503

    await until(is_answered, 20)
    return answers[-1]


async def _interrupted(
    server: PostgreSQL, served: Served, ask: Callable[[], Coroutine[Any, Any, httpx.Response]], table: str
) -> httpx.Response:
    """What is answered to a request that waits for a table when PostgreSQL is stopped. Then it runs again.

    It is stopped in the rude way: in the polite one, who has the lock may go first and let the request through.
    """
    async with locked(served.database_url, table):
        asking = asyncio.create_task(ask())
        await _lock_is_waited_for(served.database_url)
        await asyncio.to_thread(server.stop, signal.SIGQUIT)
        answer = await asking
    await asyncio.to_thread(server.start)
    return answer


async def test_rest_answers_503_in_the_words_of_each_contract_while_postgresql_is_stopped(
    own_postgresql: PostgreSQL,
) -> None:
    async with serving(own_postgresql) as served:
        assert [(await served.list_as(contract)).status_code for contract in PATHS] == [200] * 6
        own_postgresql.stop()
        for contract in PATHS:
            answer = await served.list_as(contract)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), contract
            assert answer.json() == form_of(contract, AWAY)
        own_postgresql.start()
        assert [(await _at_last(partial(served.list_as, contract))).status_code for contract in PATHS] == [200] * 6


@pytest.mark.parametrize("media", ["application/json", "application/graphql-response+json"])
async def test_graphql_answers_503_while_postgresql_is_stopped(own_postgresql: PostgreSQL, media: str) -> None:
    async with serving(own_postgresql) as served:
        own_postgresql.stop()
        answer = await served.graphql(headers={"accept": media})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["content-type"] == f"{media}; charset=utf-8"
    assert answer.json() == {"errors": [{"message": AWAY, "extensions": {"code": "UNAVAILABLE"}}]}


async def test_sessions_and_probes_tell_that_postgresql_is_stopped(own_postgresql: PostgreSQL) -> None:
    async with serving(own_postgresql) as served:
        own_postgresql.stop()
        begun = await served.client.post("/session", headers=served.keys["native"])
        assert (begun.status_code, begun.json()) == (503, form_of("native", AWAY))
        assert (await served.client.get("/health/live")).status_code == 200
        assert (await served.client.get("/health/ready")).status_code == 503


async def test_a_mutation_that_loses_its_database_midway_is_told_so_and_may_be_repeated(
    own_postgresql: PostgreSQL,
) -> None:
    async with serving(own_postgresql) as served:
        asked = {"variables": {"input": EVENT | {"idempotencyKey": "once"}}}
        answer = await _interrupted(own_postgresql, served, lambda: served.graphql(PUBLISH, **asked), "event")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        [error] = answer.json()["errors"]
        assert (answer.json()["data"], error["message"], error["path"]) == (None, AWAY, ["publishEvent"])
        assert error["extensions"] == {"code": "UNAVAILABLE", "retryAfterSeconds": 1.0}

        answers = [await _at_last(partial(served.graphql, PUBLISH, **asked)) for _ in range(2)]
        repeated = [answer.json()["data"]["publishEvent"] for answer in answers]
        assert [each["duplicate"] for each in repeated] == [False, True]
        assert repeated[0]["event"] == repeated[1]["event"]
        assert await Event.all().count() == 1


async def test_a_publication_through_rest_that_loses_its_database_midway_may_be_repeated(
    own_postgresql: PostgreSQL,
) -> None:
    async with serving(own_postgresql) as served:
        answer = await _interrupted(own_postgresql, served, lambda: served.publish("once"), "event")
        assert (answer.status_code, answer.json()) == (503, form_of("native", AWAY))
        first, second = [await _at_last(partial(served.publish, "once")) for _ in range(2)]
    assert (first.json()["duplicate"], second.json()["duplicate"]) == (False, True)
    assert first.json()["id"] == second.json()["id"]


async def test_a_query_of_which_something_was_answered_is_no_503(own_postgresql: PostgreSQL) -> None:
    async with serving(own_postgresql) as served:
        query = "{ __typename webhooks { totalCount } }"
        answer = await _interrupted(own_postgresql, served, lambda: served.graphql(query), "webhook")
    assert (answer.status_code, answer.json()["data"]) == (200, {"__typename": "Query", "webhooks": None})
    assert [error["extensions"]["code"] for error in answer.json()["errors"]] == ["UNAVAILABLE"]


async def test_an_outage_is_a_line_a_second_in_the_log_and_no_traceback(
    own_postgresql: PostgreSQL, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="hookline")
    async with serving(own_postgresql) as served:
        own_postgresql.stop()
        caplog.clear()
        asked, until_then = 0, time.monotonic() + 1.5  # what was said in the last second keeps the next line back
        while time.monotonic() < until_then:
            assert (await served.list_as("native")).status_code == 503
            assert (await served.graphql()).status_code == 503
            asked += 2
    said = [record for record in caplog.records if record.name == "hookline"]
    assert 1 <= len(said) <= 3 < asked
    assert said[0].getMessage().startswith("the database is away: ")
    assert [record.exc_info for record in said] == [None] * len(said)


async def test_beyond_the_room_requests_are_refused_at_once_through_every_door(own_postgresql: PostgreSQL) -> None:
    async with serving(own_postgresql, most_waiting=2) as served:
        assert [(await served.list_as(contract)).status_code for contract in PATHS] == [200] * 6
        async with asyncio.TaskGroup() as group, locked(served.database_url):
            waiting = [group.create_task(served.publish(str(number))) for number in range(2)]
            await until(lambda: served.app.state.room.waiting == 2)
            for contract in PATHS:
                answer = await served.list_as(contract)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), contract
                assert answer.json() == form_of(contract, FULL)
            refused = await served.graphql()
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json() == {"errors": [{"message": FULL, "extensions": {"code": "UNAVAILABLE"}}]}
            ready = await served.client.get("/health/ready")
            assert ready.json()["checks"]["database"] == "ok"
        assert [task.result().status_code for task in waiting] == [201, 201]
        assert (await served.graphql()).status_code == 200
        assert served.app.state.room.waiting == 0


async def test_streams_take_no_room_and_need_none(own_postgresql: PostgreSQL) -> None:
    url = await own_postgresql.create_migrated_database()
    document = "subscription { webhookChanged { __typename } }"
    async with open_house(url) as house, listening(house, most_waiting=1) as address:
        _, token = await keys.create_for((await organizations.create_named("Acme")).id, "a key", ["*"])
        options: Any = {"base_url": f"http://{address}", "headers": {"authorization": f"Bearer {token}"}}
        async with (
            httpx.AsyncClient(trust_env=False, timeout=20, **options) as client,
            streamed(address, token, document),
            streamed(address, token, document),
        ):
            assert (await client.get("/v1/webhooks")).status_code == 200
            async with asyncio.TaskGroup() as group, locked(url):
                group.create_task(client.post("/v1/events", json=EVENT))
                await _lock_is_waited_for(url)
                assert (await client.get("/v1/webhooks")).status_code == 503
                async with streamed(address, token, document) as third:
                    assert third.response.status_code == 200


async def test_many_who_wait_are_one_line_in_the_log(
    own_postgresql: PostgreSQL, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        serving(own_postgresql, most_waiting=1) as served,
        asyncio.TaskGroup() as group,
        locked(served.database_url),
    ):
        group.create_task(served.publish("held"))
        await until(lambda: served.app.state.room.waiting == 1)
        caplog.clear()
        asked, until_then = 0, time.monotonic() + 1.5
        while time.monotonic() < until_then:
            assert (await served.list_as("native")).status_code == 503
            asked += 1
    said = [record.getMessage() for record in caplog.records]
    assert 1 <= len(said) <= 3 < asked
    assert said[0].startswith("1 requests wait already; ")
