"""Subscriptions as callers meet them: over WebSockets and as server-sent events, with a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import httpx
import pytest
import websockets

from app.wiring import House
from models.ids import Prefix, encode
from resolvers import events, keys, organizations, replays, webhooks
from resolvers.caller import Caller
from resolvers.inputs import EventDraft, MomentRange, ReplayDraft, WebhookChange, WebhookDraft
from resolvers.paging import PageRequest
from resolvers.sources import StreamPace
from tests.houses import ManualClock, id_of, open_house, running, until
from tests.receivers import Exchange, Receiver
from tests.schema.live import listening
from tests.watchers import Events, Socket, connected, open_socket, streamed
from workers.replaying import Replayer

ATTEMPTS = """subscription($filter: DeliveryStreamFilterInput, $after: Cursor) {
  deliveryAttempted(filter: $filter, after: $after) {
    cursor skipped attempt { number outcome response { statusCode } delivery { event { type } webhook { name } } }
  }
}"""
EVENTS = """subscription($patterns: [String!]! = ["*"], $after: Cursor) {
  eventPublished(patterns: $patterns, after: $after) { cursor skipped event { type data } }
}"""
WEBHOOKS = "subscription($ids: [ID!]) { webhookChanged(ids: $ids) { kind webhookId webhook { name } } }"
STATS = """subscription($webhook: ID!) {
  deliveryStatsChanged(webhookId: $webhook) { attempts deliveries { pending succeeded } }
}"""
REPLAY = """subscription($replay: ID!) {
  replayProgressed(id: $replay) { status total enqueued succeeded failed webhook { name } }
}"""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
PACE = StreamPace(check=0.1, patience=0.2, figures=0.01, progress=0.01)


@dataclass
class Live:
    """A server, an organization with a key for everything, and an engine."""

    address: str
    house: House
    caller: Caller
    token: str

    async def key(self, *scopes: str) -> tuple[str, str]:
        """Another key of the organization: its id and token."""
        key, token = await keys.create_for(self.caller.organization_id, "another", list(scopes or ("*",)))
        return encode(Prefix.API_KEY, key.id), token

    async def is_live(self, streams: int = 1) -> None:
        await until(lambda: self.house.desk.streams.live == streams)

    async def publish(self, event_type: str = "order.created", data: Any = 1) -> None:
        await events.publish(self.caller, EventDraft(event_type, data))
        self.house.engine.wake()


@pytest.fixture
async def live(database_url: str) -> AsyncIterator[Live]:
    async with open_house(database_url, stream_pace=PACE) as house, listening(house) as address:
        organization = await organizations.create_named("Acme", "acme")
        _, token = await keys.create_for(organization.id, "everything", ["*"])
        caller = await keys.authenticate(house.desk, token)
        assert caller is not None
        async with running(house.engine.run()):
            yield Live(address, house, caller, token)
        await until(lambda: house.desk.streams.is_at_rest)


# ── what comes ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("database_kind", ["sqlite", "postgresql"], indirect=True)
async def test_attempts_come_over_a_websocket_and_resume_by_cursor(live: Live) -> None:
    async with Receiver(500, 200) as receiver, connected(live.address, live.token) as socket:
        draft = WebhookDraft(receiver.url, ["*"], name="Ours")
        draft.delivery.retry_schedule_seconds = [0]
        await webhooks.create(live.caller, draft)
        await socket.subscribe(ATTEMPTS)
        await live.is_live()
        await live.publish()
        first, second = await socket.data(), await socket.data()
        await socket.send(id="1", type="complete")
        await until(lambda: live.house.desk.streams.is_at_rest)
        await socket.subscribe(ATTEMPTS, "2", after=first["cursor"])
        assert await socket.data("2") == second
    delivery = {"event": {"type": "order.created"}, "webhook": {"name": "Ours"}}
    assert [first["attempt"], second["attempt"]] == [
        {"number": 1, "outcome": "HTTP_ERROR", "response": {"statusCode": 500}, "delivery": delivery},
        {"number": 2, "outcome": "SUCCESS", "response": {"statusCode": 200}, "delivery": delivery},
    ]
    assert (first["skipped"], second["skipped"]) == (0, 0)


async def test_a_filter_is_heeded(live: Live) -> None:
    async with Receiver(200, 500, 410) as receiver, connected(live.address, live.token) as socket:
        draft = WebhookDraft(receiver.url, ["*"])
        draft.delivery.max_attempts = 1
        await webhooks.create(live.caller, draft)
        await socket.subscribe(ATTEMPTS, filter={"onlyFailures": True, "eventTypes": ["order.*"]})
        await live.is_live()
        for event_type in ("order.a", "invoice.b", "order.c"):
            await live.publish(event_type)
            await until(lambda: not live.house.engine.in_flight)
        seen = (await socket.data())["attempt"]
    assert (seen["delivery"]["event"]["type"], seen["response"]["statusCode"]) == ("order.c", 410)


async def test_events_come_as_server_sent_events_and_resume_by_cursor(live: Live) -> None:
    async with streamed(live.address, live.token, EVENTS, patterns=["order.*"]) as stream:
        await live.is_live()
        await live.publish("order.created", {"id": 2**70})
        await live.publish("invoice.paid")
        await live.publish("order.paid", [None, "ü"])
        first, second = await stream.data(), await stream.data()
    assert first["event"] == {"type": "order.created", "data": {"id": 2**70}}
    assert second["event"] == {"type": "order.paid", "data": [None, "ü"]}
    async with streamed(live.address, live.token, EVENTS, after=first["cursor"]) as stream:
        assert [(await stream.data())["event"]["type"] for _ in range(2)] == ["invoice.paid", "order.paid"]


async def test_changes_of_webhooks_come_with_the_webhook_as_it_stands(live: Live) -> None:
    async with connected(live.address, live.token) as socket:
        await socket.subscribe(WEBHOOKS)
        await live.is_live()
        webhook = (await webhooks.create(live.caller, WebhookDraft("http://127.0.0.1/", ["*"], name="Old"))).webhook
        seen = [await socket.data()]
        await webhooks.update(live.caller, id_of(webhook), WebhookChange(name="New"))
        seen.append(await socket.data())
        await webhooks.delete(live.caller, id_of(webhook))
        seen.append(await socket.data())
    assert {one["webhookId"] for one in seen} == {id_of(webhook)}
    assert [(one["kind"], one["webhook"]) for one in seen] == [
        ("CREATED", {"name": "Old"}),
        ("UPDATED", {"name": "New"}),
        ("DELETED", None),
    ]


async def test_figures_come_at_once_and_when_they_change_until_the_webhook_is_deleted(live: Live) -> None:
    async with Receiver() as receiver, streamed(live.address, live.token, "{ __typename }") as stream:
        webhook = (await webhooks.create(live.caller, WebhookDraft(receiver.url, ["*"]))).webhook
        assert await stream.data() == "Query"
        assert await stream.take() == ("complete", None)
        async with streamed(live.address, live.token, STATS, webhook=id_of(webhook)) as figures:
            assert await figures.data() == {"attempts": 0, "deliveries": {"pending": 0, "succeeded": 0}}
            await live.publish()
            while (now := await figures.data())["attempts"] == 0:
                pass
            assert now == {"attempts": 1, "deliveries": {"pending": 0, "succeeded": 1}}
            await webhooks.delete(live.caller, id_of(webhook))
            assert await figures.take() == ("complete", None)


@pytest.mark.parametrize("database_kind", ["sqlite", "postgresql"], indirect=True)
async def test_a_replay_is_watched_from_where_it_stands_to_its_end(live: Live) -> None:
    may_answer = asyncio.Event()

    async def behaviour(exchange: Exchange) -> None:
        await may_answer.wait()
        await exchange.write(FAILED if b'"data":1' in exchange.request.body else OK)

    for n in range(3):
        await live.publish(data=n)
    async with Receiver(behaviour) as receiver, connected(live.address, live.token) as socket:
        draft = WebhookDraft(receiver.url, ["*"], name="Ours")
        draft.delivery.max_attempts = 1
        webhook = (await webhooks.create(live.caller, draft)).webhook
        replay = await replays.create(live.caller, id_of(webhook), ReplayDraft(missing=MomentRange()))
        replay_id = encode(Prefix.REPLAY, replay.id)
        await socket.subscribe(REPLAY, replay=replay_id)
        async with streamed(live.address, live.token, REPLAY, replay=replay_id) as stream:
            over_socket, over_stream = [await socket.data()], [await stream.data()]
            desk = live.house.desk
            async with running(Replayer(desk.ledger, desk.clock, desk.wake, desk.announce).run()):
                over_socket.append(await socket.data())
                over_stream.append(await stream.data())
                may_answer.set()
                while over_socket[-1]["status"] != "COMPLETED":
                    over_socket.append(await socket.data())
                while over_stream[-1]["status"] != "COMPLETED":
                    over_stream.append(await stream.data())
            assert await socket.take() == {"type": "complete", "id": "1"}
            assert await stream.take() == ("complete", None)
    asked = {"status": "QUEUED", "total": 0, "enqueued": 0, "succeeded": 0, "failed": 0, "webhook": {"name": "Ours"}}
    made = asked | {"status": "RUNNING", "total": 3, "enqueued": 3}
    for seen in (over_socket, over_stream):
        assert seen[:2] == [asked, made]
        assert seen[-1] == made | {"status": "COMPLETED", "succeeded": 2, "failed": 1}
        assert all(before != after for before, after in pairwise(seen))


async def test_a_replay_of_another_organization_is_not_found(live: Live) -> None:
    other = await organizations.create_named("Globex")
    _, token = await keys.create_for(other.id, "theirs", ["*"])
    webhook = (await webhooks.create(live.caller, WebhookDraft("http://127.0.0.1/", ["*"]))).webhook
    replay = await replays.create(live.caller, id_of(webhook), ReplayDraft(missing=MomentRange()))
    async with connected(live.address, token) as socket:
        await socket.subscribe(REPLAY, replay=encode(Prefix.REPLAY, replay.id))
        [error] = (await socket.take())["payload"]
    assert error["extensions"]["code"] == "NOT_FOUND"


async def test_each_event_is_read_afresh(live: Live) -> None:
    async with Receiver() as receiver, connected(live.address, live.token) as socket:
        webhook = (await webhooks.create(live.caller, WebhookDraft(receiver.url, ["*"], name="Old"))).webhook
        await socket.subscribe(ATTEMPTS)
        await live.is_live()
        names = []
        for name in ("Old", "New"):
            await webhooks.update(live.caller, id_of(webhook), WebhookChange(name=name))
            await live.publish()
            names.append((await socket.data())["attempt"]["delivery"]["webhook"]["name"])
    assert names == ["Old", "New"]


async def test_other_organizations_see_nothing(live: Live) -> None:
    other = await organizations.create_named("Globex")
    _, token = await keys.create_for(other.id, "theirs", ["*"])
    theirs = await keys.authenticate(live.house.desk, token)
    assert theirs is not None
    async with connected(live.address, token) as socket, streamed(live.address, live.token, EVENTS) as ours:
        await socket.subscribe(EVENTS)
        await live.is_live(2)
        await live.publish("order.ours")
        await events.publish(theirs, EventDraft("order.theirs", 1))
        assert (await ours.data())["event"]["type"] == "order.ours"
        assert (await socket.data())["event"]["type"] == "order.theirs"


async def test_a_client_that_does_not_read_is_told_what_it_lost(live: Live) -> None:
    async with connected(live.address, live.token, max_queue=1, compression=None) as socket:
        await socket.subscribe(EVENTS)
        await live.is_live()
        for n in range(200):
            await live.publish("big.one", [n, "x" * 250_000])
        async with streamed(live.address, live.token, EVENTS, patterns=["very.last"]) as quick:
            await live.is_live(2)
            await live.publish("very.last", [200])
            assert (await quick.data())["event"]["type"] == "very.last"  # so all before it has been handed out
        seen: list[int] = []
        skipped = 0
        while not seen or seen[-1] != 200:
            message = await socket.data()
            skipped += message["skipped"]
            seen.append(message["event"]["data"][0])
            if message["skipped"]:
                assert seen[-1] - (seen[-2] if len(seen) > 1 else -1) == message["skipped"] + 1
    assert skipped == 201 - len(seen)
    assert skipped > 0


# ── who may watch ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["authorization", "Authorization", "AUTHORIZATION"])
async def test_connection_init_says_who_calls_in_any_letter_case(live: Live, name: str) -> None:
    async with open_socket(live.address) as socket:
        await socket.send(type="connection_init", payload={name: f"Bearer {live.token}", "other": [1]})
        assert await socket.take() == {"type": "connection_ack"}
        await socket.subscribe("{ viewer { organization { name } } }")
        assert await socket.data() == {"organization": {"name": "Acme"}}
        assert await socket.take() == {"type": "complete", "id": "1"}


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
async def test_the_handshake_may_say_who_calls(live: Live, header: str) -> None:
    value = live.token if header == "X-API-Key" else f"Bearer {live.token}"
    async with open_socket(live.address, headers={header: value}) as socket:
        await socket.send(type="connection_init")
        assert await socket.take() == {"type": "connection_ack"}


@pytest.mark.parametrize(
    ("payload", "headers"),
    [
        ({"authorization": "Bearer wrong"}, {}),
        ({}, {}),
        ({"authorization": ["Bearer"]}, {}),
        ({"authorization": "Bearer ü"}, {}),
        ({"authorization": "Bearer wrong"}, {"X-API-Key": "{token}"}),
        ({"x-api-key": "wrong"}, {"Authorization": "Bearer {token}"}),
    ],
)
async def test_who_is_not_known_is_closed_out(live: Live, payload: Any, headers: dict[str, str]) -> None:
    headers = {name: value.format(token=live.token) for name, value in headers.items()}
    async with open_socket(live.address, headers=headers) as socket:
        await socket.send(type="connection_init", payload=payload)
        code, reason = await socket.closed()
    assert code == 4403
    assert "API key" in reason


async def test_nothing_is_told_before_connection_init(live: Live) -> None:
    async with open_socket(live.address, headers={"Authorization": f"Bearer {live.token}"}) as socket:
        await socket.subscribe("{ __typename }")
        assert await socket.closed() == (4401, "Unauthorized")


async def test_a_platform_key_watches_for_the_organization_it_names(live: Live) -> None:
    operator = await organizations.create_named("Operator")
    _, platform = await keys.create_for(operator.id, "platform", ["platform", "*"])
    for reference in ("acme", encode(Prefix.ORGANIZATION, live.caller.organization_id)):
        async with open_socket(live.address) as socket:
            said = {"Authorization": f"Bearer {platform}", "Hookline-Organization": reference}
            await socket.send(type="connection_init", payload=said)
            assert await socket.take() == {"type": "connection_ack"}
            await socket.subscribe(EVENTS)
            await live.is_live()
            await live.publish("order.seen")
            assert (await socket.data())["event"]["type"] == "order.seen"
        await until(lambda: live.house.desk.streams.is_at_rest)
    async with open_socket(live.address) as socket:
        said = {"Authorization": f"Bearer {live.token}", "Hookline-Organization": "acme"}
        await socket.send(type="connection_init", payload=said)
        assert (await socket.closed())[0] == 4403


async def test_a_scope_that_lacks_is_told_before_the_stream_begins(live: Live) -> None:
    _, token = await live.key("webhooks:read")
    async with connected(live.address, token) as socket:
        for n, document in enumerate((ATTEMPTS, EVENTS, REPLAY)):
            await socket.subscribe(document, str(n), replay="rpl_1")
            refused = await socket.take()
            assert (refused["type"], refused["id"]) == ("error", str(n))
            [error] = refused["payload"]
            assert error["extensions"]["code"] == "FORBIDDEN"
        await socket.subscribe(WEBHOOKS, "9")
        await live.is_live()
    async with streamed(live.address, token, ATTEMPTS) as stream:
        name, payload = await stream.take()
        assert (name, payload["errors"][0]["extensions"]["requiredScopes"]) == ("next", ["deliveries:read"])
        assert await stream.take() == ("complete", None)


async def test_what_cannot_be_watched_is_told_with_the_argument_at_fault(live: Live) -> None:
    async with connected(live.address, live.token) as socket:
        await socket.subscribe(ATTEMPTS, after="nonsense")
        [error] = (await socket.take())["payload"]
        assert error["extensions"]["code"] == "VALIDATION_FAILED"
        assert error["extensions"]["fields"][0]["path"] == ["after"]
        await socket.subscribe(STATS, "2", webhook="whk_00000000000000000000000000")
        [error] = (await socket.take())["payload"]
        assert error["extensions"]["code"] == "NOT_FOUND"


async def test_a_revoked_key_ends_its_streams_and_its_connection(live: Live) -> None:
    key, token = await live.key()
    async with connected(live.address, token) as socket, streamed(live.address, token, EVENTS) as stream:
        await socket.subscribe(EVENTS)
        await live.is_live(2)
        await keys.revoke_any(key)
        ended, completed = await socket.take(), await socket.take()
        assert (ended["type"], ended["payload"]["errors"][0]["extensions"]["code"]) == ("next", "FORBIDDEN")
        assert completed == {"type": "complete", "id": "1"}
        name, payload = await stream.take()
        assert (name, payload["errors"][0]["extensions"]["code"]) == ("next", "FORBIDDEN")
        assert await stream.take() == ("complete", None)
        await socket.subscribe("{ viewer { organization { name } } }", "2")
        assert (await socket.closed())[0] == 4403


async def test_ending_a_session_ends_what_is_watched_with_it_and_nothing_else(live: Live) -> None:
    own_page = {"sec-fetch-site": "same-origin", "origin": f"http://{live.address}"}
    async with httpx.AsyncClient(base_url=f"http://{live.address}", trust_env=False) as browser:
        begun = await browser.post("/session", headers={"authorization": f"Bearer {live.token}"})
        with_session = own_page | {"cookie": begun.headers["set-cookie"].partition(";")[0]}
        async with (
            open_socket(live.address, headers=with_session) as socket,
            streamed(live.address, None, EVENTS, headers=with_session) as stream,
            connected(live.address, live.token) as with_key,
        ):
            await socket.send(type="connection_init")
            assert await socket.take() == {"type": "connection_ack"}
            await socket.subscribe(EVENTS)
            await with_key.subscribe(EVENTS)
            await live.is_live(3)
            assert (await browser.delete("/session", headers=with_session)).status_code == 204
            ended, completed = await socket.take(), await socket.take()
            assert (ended["type"], ended["payload"]["errors"][0]["message"]) == ("next", "this session is over")
            assert completed == {"type": "complete", "id": "1"}
            name, payload = await stream.take()
            assert (name, payload["errors"][0]["extensions"]["code"]) == ("next", "FORBIDDEN")
            assert await stream.take() == ("complete", None)
            await socket.subscribe("{ viewer { organization { name } } }", "2")
            assert (await socket.closed())[0] == 4403
            await live.publish("order.after")
            assert (await with_key.data())["event"]["type"] == "order.after"


async def test_a_key_that_asks_too_often_is_refused_that_operation_and_keeps_its_streams(database_url: str) -> None:
    async with (
        open_house(database_url, ManualClock(), stream_pace=PACE, requests_per_second=1, request_burst=3) as house,
        listening(house) as address,
    ):
        organization = await organizations.create_named("Acme")
        _, token = await keys.create_for(organization.id, "everything", ["*"])
        async with connected(address, token) as socket:
            await socket.subscribe(EVENTS)
            await until(lambda: house.desk.streams.live == 1)
            for n in ("2", "3", "4"):
                await socket.subscribe("{ __typename }", n)
            answers = [await socket.take() for _ in range(4)]
            refused = {one["id"]: one["payload"][0]["extensions"] for one in answers if one["type"] == "error"}
            assert refused == {"3": {"code": "RATE_LIMITED"}, "4": {"code": "RATE_LIMITED"}}
            assert [one["type"] for one in answers if one["id"] == "2"] == ["next", "complete"]
            assert house.desk.streams.live == 1
        async with open_socket(address) as socket:
            await socket.send(type="connection_init", payload={"authorization": f"Bearer {token}"})
            assert (await socket.closed())[0] == 1013


async def test_a_deleted_organization_ends_its_streams(live: Live) -> None:
    operator = await organizations.create_named("Operator")
    _, platform = await keys.create_for(operator.id, "platform", ["platform"])
    caller = await keys.authenticate(live.house.desk, platform)
    assert caller is not None
    async with connected(live.address, live.token) as socket:
        await socket.subscribe(EVENTS)
        await live.is_live()
        await organizations.delete(caller, encode(Prefix.ORGANIZATION, live.caller.organization_id))
        assert "deleted" in (await socket.take())["payload"]["errors"][0]["message"]


# ── the wire ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_older_protocol_is_not_spoken(live: Live) -> None:
    async with open_socket(live.address, subprotocols=[websockets.Subprotocol("graphql-ws")]) as socket:
        assert socket.wire.subprotocol is None
        assert (await socket.closed())[0] == 4406


async def test_pages_of_other_origins_cannot_open_a_websocket_unless_they_are_allowed(live: Live) -> None:
    origin, own = "https://app.example.com", f"http://{live.address}"
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with open_socket(live.address, headers={"Origin": origin}):
            pass
    assert refused.value.response.status_code == 403
    async with open_socket(live.address, headers={"Origin": own}):
        pass
    async with listening(live.house, allowed_origins=[origin]) as address:
        async with open_socket(address, headers={"Origin": origin}) as socket:
            await socket.send(type="connection_init", payload={"authorization": f"Bearer {live.token}"})
            assert await socket.take() == {"type": "connection_ack"}
        with pytest.raises(websockets.InvalidStatus):
            async with open_socket(address, headers={"Origin": "https://evil.example.com"}):
                pass


async def test_server_sent_events_are_neither_kept_nor_compressed(live: Live) -> None:
    async with streamed(live.address, live.token, EVENTS) as stream:
        headers = stream.response.headers
    assert stream.response.status_code == 200
    assert headers["content-type"].partition(";")[0] == "text/event-stream"
    assert headers["cache-control"] == "no-cache, no-transform"
    assert "content-encoding" not in headers
    assert headers["x-request-id"]


async def _post(live: Live, document: str, accept: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {live.token}", "accept": accept}
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        return await client.post(f"http://{live.address}/graphql", json={"query": document}, headers=headers)


async def test_a_subscription_without_a_stream_is_not_acceptable(live: Live) -> None:
    answer = await _post(live, EVENTS, "application/json")
    assert answer.status_code == 406
    assert answer.json()["errors"][0]["extensions"]["code"] == "NOT_ACCEPTABLE"


async def test_a_query_of_a_client_that_accepts_everything_is_answered_in_json(live: Live) -> None:
    """As urql asks, whatever the operation."""
    accept = "application/graphql-response+json, application/json, text/event-stream, multipart/mixed"
    answer = await _post(live, "query Subscription { __typename } # subscription", accept)
    assert answer.headers["content-type"] == "application/graphql-response+json; charset=utf-8"
    assert answer.json() == {"data": {"__typename": "Query"}}
    async with streamed(live.address, live.token, EVENTS, accept=accept) as stream:
        await live.is_live()
        await live.publish()
        assert (await stream.data())["event"]["type"] == "order.created"


async def test_a_mutation_is_not_run_by_get_as_server_sent_events_either(live: Live) -> None:
    mutation = 'mutation { publishEvent(input: { type: "a.b", data: 1 }) { __typename } }'
    headers = {"authorization": f"Bearer {live.token}", "accept": "text/event-stream"}
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        url = f"http://{live.address}/graphql"
        answer = await client.get(url, params={"query": mutation}, headers=headers)
    assert '"errors"' in answer.text
    assert (await events.list_(live.caller, PageRequest())).items == []


async def test_who_is_not_known_gets_no_stream(live: Live) -> None:
    async with streamed(live.address, "wrong", EVENTS) as stream:
        assert stream.response.status_code == 401


async def test_a_thousand_disconnects_leave_nothing_behind(live: Live) -> None:
    async with streamed(live.address, live.token, "{ __typename }"):
        pass
    await until(lambda: live.house.desk.streams.is_at_rest)
    before = len(asyncio.all_tasks())

    async def watch_and_break(stack: AsyncExitStack) -> None:
        socket: Socket = await stack.enter_async_context(connected(live.address, live.token))
        for n in range(95):
            await socket.subscribe(EVENTS, str(n))

    async def stream(stack: AsyncExitStack) -> Events:
        return await stack.enter_async_context(streamed(live.address, live.token, EVENTS))

    async with AsyncExitStack() as stack:
        await asyncio.gather(*(watch_and_break(stack) for _ in range(10)), *(stream(stack) for _ in range(50)))
        await live.is_live(1000)
        with pytest.raises(AssertionError, match="LIMIT_EXCEEDED"):
            await (await stream(stack)).data()
    await until(lambda: live.house.desk.streams.is_at_rest, timeout=30)
    await until(lambda: len(asyncio.all_tasks()) <= before, timeout=30)
    assert live.house.desk.streams.live == 0
