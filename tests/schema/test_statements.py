"""How often the database is asked: as often for a long page as for a short one."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from models.attempt import Attempt, AttemptOutcome
from models.delivery import Delivery
from models.ids import new_id
from resolvers import event_types, events, webhooks
from resolvers.inputs import EventDraft, EventTypeDraft, WebhookDraft
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
        await webhooks.create(caller, WebhookDraft(f"https://1.1.1.1/{i}", ["order.*"]))
        await acme.door.tenant(f"Tenant {i}")
    drafts = [EventDraft(f"order.happened_{i}", {"n": i}) for i in range(LONG + 1)]
    await events.publish_many(caller, drafts)
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


@contextmanager
def statements() -> Iterator[list[str]]:
    """The SQL that is sent meanwhile."""
    sent: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            sent.append(record.getMessage())

    logger, keep = logging.getLogger("tortoise.db_client"), Keep()
    level = logger.level
    logger.addHandler(keep)
    logger.setLevel(logging.DEBUG)
    try:
        yield sent
    finally:
        logger.removeHandler(keep)
        logger.setLevel(level)


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


WIDEST = {
    "webhooks": """query($first: Int) { webhooks(first: $first) { totalCount nodes { id matchingEventTypes { name }
        stats { successRate buckets(count: 5) { attempts } } week: stats(window: WEEK) { attempts }
        deliveries(first: 2) { totalCount nodes { id event { type } attempts { request { curl body } }
          lastAttempt { outcome delivery { id } } } } } } }""",
    "deliveries": """query($first: Int) { deliveries(first: $first) { totalCount nodes { id event { type data }
        webhook { url stats { attempts } } attempts { number request { body } } lastAttempt { outcome } } } }""",
    "events": """query($first: Int) { events(first: $first) { nodes { id data deliveries(first: 2) { totalCount nodes {
        webhook { url } lastAttempt { outcome } } } } } }""",
}
WHAT_IT_TAKES = {"webhooks": 24, "deliveries": 16, "events": 8}
"""Statements at most, the two of authentication among them."""


@pytest.mark.parametrize("name", WIDEST)
async def test_the_widest_sensible_page_takes_a_handful_of_statements(busy: Tenant, name: str) -> None:
    await busy.data("{ __typename }")  # the key's first use is written down
    with statements() as sent:
        page = await busy.data(WIDEST[name], first=LONG)
    assert len(page["nodes"]) == LONG
    assert len(sent) <= WHAT_IT_TAKES[name], "\n".join(sent)
