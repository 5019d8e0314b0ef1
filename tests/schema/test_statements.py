"""How often the database is asked: as often for a long page as for a short one."""

from typing import Any

import pytest

from models.attempt import Attempt, AttemptOutcome
from models.delivery import Delivery
from models.ids import Prefix, encode, new_id
from models.replay import Replay
from resolvers import event_types, events, keys, replays, webhooks
from resolvers.inputs import EventDraft, EventTypeDraft, ReplayDraft, WebhookDraft
from tests.houses import id_of, statements
from tests.schema.door import Tenant
from tests.schema.everything import document, root_fields

SHORT, LONG = 2, 9


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
async def busy(acme: Tenant) -> Tenant:
    """An organization with more of everything than the longest page here holds, two attempts for each delivery."""
    caller = await acme.caller()
    for i in range(LONG + 1):
        await event_types.put(caller, EventTypeDraft(f"order.happened_{i}"))
        created = await webhooks.create(caller, WebhookDraft(f"https://1.1.1.1/{i}", ["order.*"]))
        await acme.door.tenant(f"Tenant {i}")
    drafts = [EventDraft(f"order.happened_{i}", {"n": i}) for i in range(LONG + 1)]
    published = await events.publish_many(caller, drafts)
    again = ReplayDraft(event_ids=[encode(Prefix.EVENT, one.event.id) for one in published])
    await replays.create(caller, id_of(created.webhook), again)
    attempts = [
        Attempt(
            id=new_id(),
            organization_id=delivery.organization_id,
            delivery_id=delivery.id,
            webhook_id=delivery.webhook_id,
            number=number,
            outcome=AttemptOutcome.HTTP_ERROR,
            started_at=delivery.created_at,
            duration_us=1500,
            request_url="https://1.1.1.1/",
            request_headers='[["webhook-id","x"]]',
            response_status=500,
            response_excerpt=b"no",
        )
        for delivery in await Delivery.all()
        for number in (1, 2)
    ]
    await Attempt.bulk_create(attempts)
    return acme


def most_in_a_list(answer: Any) -> int:
    """The length of the longest list in an answer."""
    parts = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, list) else []
    return max([len(answer) if isinstance(answer, list) else 0, *(most_in_a_list(part) for part in parts)])


LISTS = [name for name, field in root_fields("Query").items() if "first" in field.args]


@pytest.mark.parametrize("name", LISTS)
async def test_a_longer_page_with_everything_takes_no_more_statements(busy: Tenant, name: str) -> None:
    asked = document("Query", name, ["first"])
    platform = await busy.door.key(busy.organization, "platform", "*")
    await busy.door.ask("{ __typename }", platform)  # the key's first use is written down
    counts = []
    for size in (SHORT, LONG):
        with statements() as sent:
            answer = await busy.door.ask(asked, platform, first=size)
        assert "errors" not in answer
        assert most_in_a_list(answer["data"]) >= size
        counts.append(len(sent))
    assert counts[0] == counts[1], "\n".join(sent)


@pytest.mark.parametrize("name", ["apiKeys", "eventTypes"])
async def test_more_of_what_comes_in_one_list_takes_no_more_statements(busy: Tenant, name: str) -> None:
    asked, counts, lengths = document("Query", name, []), [], []
    await busy.data("{ __typename }")  # the key's first use is written down
    for _ in range(2):
        with statements() as sent:
            lengths.append(len(await busy.data(asked)))
        counts.append(len(sent))
        for n in range(LONG):
            await keys.create_for(busy.organization.id, f"key {n}", ["*"])
            await event_types.put(await busy.caller(), EventTypeDraft(f"another.type_{n}"))
    assert lengths[1] == lengths[0] + LONG
    assert counts[0] == counts[1], "\n".join(sent)


async def test_publishing_more_events_takes_no_more_statements(busy: Tenant) -> None:
    asked = """mutation($input: [PublishEventInput!]!) { publishEvents(input: $input) { ... on PublishEventsPayload {
      results { matchedWebhookCount duplicate event { id type data sizeBytes } } } } }"""
    counts = []
    for size in (SHORT, LONG):
        with statements() as sent:
            published = await busy.data(asked, input=[{"type": "order.happened_1", "data": n} for n in range(size)])
        assert len(published["results"]) == size
        counts.append(len(sent))
    assert counts[0] == counts[1], "\n".join(sent)


WIDEST = {
    "webhooks": """query($first: Int) { webhooks(first: $first) { totalCount nodes { id matchingEventTypes { name }
        stats { successRate buckets(count: 5) { attempts } } week: stats(window: WEEK) { attempts }
        deliveries(first: 2) { totalCount nodes { id event { type } attempts { request { curl body } }
          lastAttempt { outcome delivery { id } } } } } } }""",
    "deliveries": """query($first: Int) { deliveries(first: $first) { totalCount nodes { id event { type data }
        webhook { url stats { attempts } } attempts { number request { body } } lastAttempt { outcome }
        replayOf { id webhook { url } event { type } attempts { number } lastAttempt { outcome } } } } }""",
    "events": """query($first: Int) { events(first: $first) { nodes { id data deliveries(first: 2) { totalCount nodes {
        webhook { url } lastAttempt { outcome } } } } } }""",
}
REPLAY = """query($id: ID!, $first: Int) { replay(id: $id) { total enqueued succeeded webhook { url
  matchingEventTypes { name } stats { attempts } deliveries(first: $first) { totalCount nodes { event { type }
    replayOf { lastAttempt { outcome } } attempts { request { body } } } } } } }"""
WHAT_IT_TAKES = {"webhooks": 24, "deliveries": 16, "events": 8, "replay": 18}
"""Statements at most, the two of authentication among them."""


@pytest.mark.parametrize("name", WIDEST)
async def test_the_widest_sensible_page_takes_a_handful_of_statements(busy: Tenant, name: str) -> None:
    await busy.data("{ __typename }")  # the key's first use is written down
    with statements() as sent:
        page = await busy.data(WIDEST[name], first=LONG)
    assert len(page["nodes"]) == LONG
    assert len(sent) <= WHAT_IT_TAKES[name], "\n".join(sent)


async def test_a_replay_with_all_that_it_leads_to_takes_a_handful_of_statements(busy: Tenant) -> None:
    replay = await Replay.get()
    await busy.data("{ __typename }")  # the key's first use is written down
    for size in (SHORT, LONG):
        with statements() as sent:
            shown = await busy.data(REPLAY, id=encode(Prefix.REPLAY, replay.id), first=size)
        made = shown["webhook"]["deliveries"]["nodes"]
        assert shown["total"] == LONG + 1
        assert [one["replayOf"]["lastAttempt"] for one in made] == [{"outcome": "HTTP_ERROR"}] * size
        assert len(sent) <= WHAT_IT_TAKES["replay"], "\n".join(sent)
