"""Publishing: many publishes to a transaction, none of which suffers for another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest

from app.wiring import House
from models.delivery import Delivery
from models.event import Event
from models.ids import Prefix, encode, new_id
from models.moment import from_ms
from models.organization import Organization
from models.webhook import WebhookStatus
from resolvers import event_types, events, webhooks
from resolvers.caller import Caller
from resolvers.errors import IdempotencyConflict, NotFound, ValidationFailed
from resolvers.events import Published
from resolvers.inputs import EventDraft, EventTypeDraft, PatternsPatch, WebhookChange, WebhookDraft
from resolvers.publisher import Publisher
from tests.houses import ManualClock, id_of, new_caller, open_house, running, stored
from tests.ledgers import Gate, Unreliable, unreliable

URL = "https://1.1.1.1/hooks"
DAY_MS = 86_400_000


@dataclass
class Press:
    """A caller whose publisher stands before an unreliable ledger."""

    house: House
    caller: Caller
    ledger: Unreliable
    wakes: list[object]

    async def publish(self, type: str = "order.created", data: Any = None, **fields: Any) -> Published:
        return await events.publish(self.caller, EventDraft(type, data, **fields))

    async def webhook(self, *patterns: str) -> str:
        return id_of((await webhooks.create(self.caller, WebhookDraft(URL, list(patterns)))).webhook)

    async def held_up(self, *publishes: Any) -> list[Any]:
        """Starts publishes while a transaction is under way, so that they go together into the next."""
        gate = self.ledger.before["append"] = Gate()
        first = asyncio.create_task(self.publish("held.up"))
        await gate.reached.wait()
        tasks = [asyncio.ensure_future(one) for one in publishes]
        await asyncio.sleep(0)
        del self.ledger.before["append"]
        self.ledger.calls.clear()
        gate.opened.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def press_of(house: House, caller: Caller) -> AsyncIterator[Press]:
    told, ledger = unreliable(house.desk.ledger)
    wakes: list[object] = []
    publisher = Publisher(ledger, house.desk.clock, wakes.extend, house.desk.announce, DAY_MS)
    async with running(publisher.run()):
        yield Press(house, replace(caller, desk=replace(house.desk, publisher=publisher)), told, wakes)


@pytest.fixture
async def press(house: House, caller: Caller) -> AsyncIterator[Press]:
    async with press_of(house, caller) as press:
        yield press


def paths(refused: ValidationFailed) -> list[tuple[str, str]]:
    return [(".".join(problem.path), str(problem.code)) for problem in refused.fields]


# ── what is answered is what is stored ──────────────────────────────────────────────────────────────────────────


async def test_an_event_is_answered_as_it_is_stored(press: Press, clock: ManualClock) -> None:
    await press.webhook("order.*")
    await press.webhook("*")
    await press.webhook("refund.made")
    moment = datetime(2026, 11, 20, 9, 30, 0, 123_456, timezone(timedelta(hours=2)))

    published = await press.publish(data={"id": 42, "name": "Zoë"}, occurred_at=moment)

    assert (published.matched_webhook_count, published.duplicate) == (2, False)
    row = await Event.get()
    assert row.is_test is False
    for event in (published.event, row):
        assert event.id == row.id
        assert (event.type, event.organization_id) == ("order.created", press.caller.organization_id)
        assert event.occurred_at == datetime(2026, 11, 20, 7, 30, 0, 123_000, UTC)
        assert event.received_at == from_ms(clock())
        assert bytes(event.body) == (
            '{"type":"order.created","timestamp":"2026-11-20T07:30:00.123Z","data":{"id":42,"name":"Zoë"}}'.encode()
        )
        assert event.data == '{"id":42,"name":"Zoë"}'.encode()
    assert await Delivery.all().count() == 2
    assert await events.get(press.caller, encode(Prefix.EVENT, row.id)) == row


async def test_each_webhook_gets_an_event_once_however_many_patterns_match(press: Press) -> None:
    await press.webhook("order.created", "order.*", "*")
    assert (await press.publish()).matched_webhook_count == 1
    assert await Delivery.all().count() == 1


async def test_who_publishes_wakes_the_workers_for_those_that_match_after_the_commit(press: Press) -> None:
    await press.webhook("order.*")
    press.ledger.fail("append", 1)
    with pytest.raises(ConnectionRefusedError):
        await press.publish()
    assert press.wakes == []
    await press.publish()
    assert len(press.wakes) == 1


@pytest.mark.parametrize(
    ("draft", "path", "code"),
    [
        (EventDraft("", None), "type", "INVALID_FORMAT"),
        (EventDraft("order.*", None), "type", "INVALID_FORMAT"),
        (EventDraft("x" * 201, None), "type", "INVALID_FORMAT"),
        (EventDraft("a", float("nan")), "data", "INVALID_FORMAT"),
        (EventDraft("a", {"deep": [float("inf")]}), "data", "INVALID_FORMAT"),
        (EventDraft("a", "\ud800"), "data", "INVALID_FORMAT"),
        (EventDraft("a", {"k": object()}), "data", "INVALID_FORMAT"),
        (EventDraft("a", "x" * 262_143), "data", "TOO_LARGE"),
        (EventDraft("a", 1, datetime(1999, 12, 31, 23, 59, tzinfo=UTC)), "occurredAt", "OUT_OF_RANGE"),
        (EventDraft("a", 1, datetime(2200, 1, 1, tzinfo=UTC)), "occurredAt", "OUT_OF_RANGE"),
        (EventDraft("a", 1, datetime(2026, 1, 1)), "occurredAt", "OUT_OF_RANGE"),  # noqa: DTZ001
        (EventDraft("a", 1, idempotency_key=""), "idempotencyKey", "INVALID_FORMAT"),
        (EventDraft("a", 1, idempotency_key="k" * 256), "idempotencyKey", "INVALID_FORMAT"),
        (EventDraft("a", 1, idempotency_key="Zoë"), "idempotencyKey", "INVALID_FORMAT"),
    ],
)
@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_each_rule_refuses_an_event_and_all_that_came_with_it(
    press: Press, draft: EventDraft, path: str, code: str
) -> None:
    before = await stored()
    with pytest.raises(ValidationFailed) as refused:
        await events.publish(press.caller, draft)
    assert paths(refused.value) == [(path, code)]
    with pytest.raises(ValidationFailed) as refused:
        await events.publish_many(press.caller, [EventDraft("a", 1), draft, EventDraft("b", 2)])
    assert paths(refused.value) == [(f"1.{path}", code)]
    assert await stored() == before


async def test_events_at_the_edge_of_the_rules_are_published(press: Press) -> None:
    for draft in (
        EventDraft("x" * 200, None),
        EventDraft("ats/application/created", "x" * 262_142),
        EventDraft("a", {"big": 2**70, "deep": [[[]]], "nul": "\0", "null": None}),
        EventDraft("a", 1, datetime(2000, 1, 1, tzinfo=UTC), "k" * 255),
    ):
        event = (await events.publish(press.caller, draft)).event
        row = await Event.get(id=event.id)
        assert bytes(row.body) == bytes(event.body)
        assert row.data.startswith(orjson.dumps(draft.data)[:5] if not isinstance(draft.data, dict) else b'{"big":')
    assert b'"big":1180591620717411303424' in bytes(row.body) or row.type == "a"


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize("count", [0, 1001])
async def test_a_publish_is_of_1_to_1000_events(press: Press, count: int) -> None:
    with pytest.raises(ValidationFailed):
        await events.publish_many(press.caller, [EventDraft("a", n) for n in range(count)])
    assert await Event.all().count() == 0


async def test_a_thousand_events_are_written_in_their_order(press: Press) -> None:
    await press.webhook("*")
    published = await events.publish_many(press.caller, [EventDraft("a", n) for n in range(1000)])
    rows = await Event.all().order_by("id")
    assert [row.data for row in rows] == [str(n).encode() for n in range(1000)]
    assert [one.event.id for one in published] == [row.id for row in rows]
    assert await Delivery.all().count() == 1000
    assert press.ledger.calls["append"] == 1


# ── group commit ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_publishes_that_arrive_together_share_a_transaction(press: Press) -> None:
    await press.webhook("*")
    published = await press.held_up(*(press.publish(data=n) for n in range(100)))
    assert press.ledger.calls["append"] == 1
    assert len({one.event.id for one in published}) == 100
    assert await Event.all().count() == 101
    assert await Delivery.all().count() == 101


async def test_a_transaction_carries_at_most_a_thousand_events(press: Press) -> None:
    batch = [EventDraft("a", n) for n in range(600)]
    await press.held_up(*(events.publish_many(press.caller, batch) for _ in range(3)))
    assert press.ledger.calls["append"] == 3
    assert await Event.all().count() == 1801


async def test_organizations_share_a_transaction_and_nothing_else(press: Press) -> None:
    await press.webhook("*")
    theirs = replace(await new_caller(press.house.desk), desk=press.caller.desk)
    await webhooks.create(theirs, WebhookDraft(URL, ["refund.*"]))
    ours, other = await press.held_up(
        press.publish("refund.made"), events.publish(theirs, EventDraft("refund.made", 1))
    )
    assert press.ledger.calls["append"] == 1
    assert (ours.matched_webhook_count, other.matched_webhook_count) == (1, 1)
    rows = await Delivery.filter(organization_id=theirs.organization_id)
    assert [row.event_id for row in rows] == [other.event.id]


async def test_one_bad_publish_in_a_batch_spoils_none_of_the_others(press: Press) -> None:
    await event_types.put(press.caller, EventTypeDraft("order.created"))
    await event_types.put(press.caller, EventTypeDraft("held.up"))
    gone = replace(press.caller, organization_id=new_id())
    answers = await press.held_up(
        press.publish(),
        press.publish("order.deleted"),
        events.publish(gone, EventDraft("order.created", 1)),
        press.publish(),
    )
    assert [type(answer) for answer in answers] == [Published, ValidationFailed, NotFound, Published]
    assert await Event.all().count() == 3


async def test_when_the_database_refuses_a_batch_each_publish_is_tried_by_itself(press: Press) -> None:
    press.ledger.fail("append", 0, lambda: ValueError("one of them cannot be stored"))

    async def poison() -> list[Any]:
        gate = press.ledger.before["append"] = Gate()
        first = asyncio.create_task(press.publish("held.up"))
        await gate.reached.wait()
        tasks = [asyncio.create_task(press.publish(data=n)) for n in range(3)]
        await asyncio.sleep(0)
        del press.ledger.before["append"]
        press.ledger.fail("append", 2)
        gate.opened.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = await poison()
    assert [type(answer) for answer in answers] == [ValueError, Published, Published]
    assert await Event.all().count() == 3


async def test_a_publish_asks_the_database_once_as_long_as_nobody_changes_a_webhook(press: Press) -> None:
    await press.webhook("*")
    await press.publish()
    press.ledger.calls.clear()
    await press.publish()
    assert press.ledger.calls == {"append": 1}


async def test_with_the_database_away_all_that_wait_are_told_at_once(press: Press) -> None:
    gate = press.ledger.before["append"] = Gate()
    first = asyncio.create_task(press.publish())
    await gate.reached.wait()
    tasks = [asyncio.create_task(press.publish()) for _ in range(50)]
    await asyncio.sleep(0)
    press.ledger.fail("append", 1)
    gate.opened.set()
    await first
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(answer) for answer in answers} == {ConnectionRefusedError}
    assert press.ledger.calls["append"] == 2
    assert (await press.publish()).duplicate is False
    assert await Event.all().count() == 2


async def test_a_caller_who_leaves_while_waiting_publishes_nothing_and_holds_up_nobody(press: Press) -> None:
    gate = press.ledger.before["append"] = Gate()
    first = asyncio.create_task(press.publish("first"))
    await gate.reached.wait()
    leaves, stays = asyncio.create_task(press.publish("leaves")), asyncio.create_task(press.publish("stays"))
    await asyncio.sleep(0)
    leaves.cancel()
    gate.opened.set()
    await asyncio.gather(first, stays)
    assert {row.type for row in await Event.all()} == {"first", "stays"}


async def test_a_caller_who_leaves_during_the_commit_has_published_all_the_same(press: Press) -> None:
    gate = press.ledger.after["append"] = Gate()
    leaves, stays = asyncio.create_task(press.publish("leaves")), asyncio.create_task(press.publish("stays"))
    await gate.reached.wait()
    leaves.cancel()
    gate.opened.set()
    await stays
    assert {row.type for row in await Event.all()} == {"leaves", "stays"}


async def test_a_publisher_that_ends_leaves_nobody_waiting(house: House, caller: Caller) -> None:
    async with press_of(house, caller) as press:
        gate = press.ledger.before["append"] = Gate()
        written = asyncio.create_task(press.publish())
        await gate.reached.wait()
        waiting = asyncio.create_task(press.publish())
        await asyncio.sleep(0)
    answers = await asyncio.wait_for(asyncio.gather(written, waiting, return_exceptions=True), 10)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 2


# ── idempotency keys ────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_same_publish_under_one_key_is_one_event(press: Press, clock: ManualClock) -> None:
    await press.webhook("*")
    first = await press.publish(data={"n": 1}, idempotency_key="key")
    clock.advance(hours=23)
    await press.webhook("*")
    again = await press.publish(data={"n": 1}, idempotency_key="key")
    assert (first.duplicate, again.duplicate) == (False, True)
    assert again.event.id == first.event.id
    assert again.event.received_at == first.event.received_at
    assert bytes(again.event.body) == bytes(first.event.body)
    assert (first.matched_webhook_count, again.matched_webhook_count) == (1, 1)
    assert await Event.all().count() == 1
    assert await Delivery.all().count() == 1


@pytest.mark.parametrize("change", [{"type": "order.deleted"}, {"data": {"n": 2}}])
async def test_another_publish_under_the_same_key_is_refused_and_leaves_nothing(
    press: Press, change: dict[str, Any]
) -> None:
    await press.publish(data={"n": 1}, idempotency_key="key")
    before = await stored()
    with pytest.raises(IdempotencyConflict):
        await press.publish(**{"data": {"n": 1}, "idempotency_key": "key", **change})
    with pytest.raises(IdempotencyConflict):
        await events.publish_many(
            press.caller,
            [
                EventDraft("new", 1, idempotency_key="new key"),
                EventDraft("other", 1, idempotency_key="key"),
                EventDraft("newer", 1),
            ],
        )
    assert await stored() == before
    assert (await press.publish("new", 2, idempotency_key="new key")).duplicate is False


async def test_a_key_is_free_again_after_a_day(press: Press, clock: ManualClock) -> None:
    first = await press.publish(data=1, idempotency_key="key")
    clock.advance(hours=24)
    second = await press.publish(data=2, idempotency_key="key")
    assert (second.duplicate, second.event.id == first.event.id) == (False, False)


async def test_keys_of_organizations_do_not_meet(press: Press) -> None:
    theirs = await new_caller(press.caller.desk)
    await press.publish(data=1, idempotency_key="key")
    assert (await events.publish(theirs, EventDraft("a", 2, idempotency_key="key"))).duplicate is False


async def test_a_key_twice_in_one_publish_is_one_event(press: Press) -> None:
    await press.webhook("*")
    draft = EventDraft("a", 1, idempotency_key="key")
    first, other, again = await events.publish_many(press.caller, [draft, EventDraft("b", 2), draft])
    assert (first.duplicate, other.duplicate, again.duplicate) == (False, False, True)
    assert first.event.id == again.event.id != other.event.id
    assert again.matched_webhook_count == 1
    assert await Event.all().count() == 2


async def test_a_key_twice_in_one_batch_is_one_event_or_a_conflict(press: Press) -> None:
    answers = await press.held_up(
        press.publish(data=1, idempotency_key="key"),
        press.publish(data=1, idempotency_key="key"),
        press.publish(data=2, idempotency_key="key"),
        press.publish(data=2),
    )
    assert [getattr(answer, "duplicate", type(answer)) for answer in answers] == [
        False, True, IdempotencyConflict, False,
    ]  # fmt: skip
    assert await Event.all().count() == 3


async def test_a_conflict_within_a_publish_gives_its_keys_back_to_the_others_of_the_batch(press: Press) -> None:
    spoilt = [EventDraft("a", 1, idempotency_key="k1"), EventDraft("a", 2, idempotency_key="k1")]
    answers = await press.held_up(
        events.publish_many(press.caller, spoilt), press.publish("b", 3, idempotency_key="k1")
    )
    assert isinstance(answers[0], IdempotencyConflict)
    assert answers[1].duplicate is False
    assert {row.type for row in await Event.all()} == {"held.up", "b"}


async def test_of_one_key_published_by_two_processes_at_once_one_event_comes(house: House, caller: Caller) -> None:
    async with press_of(house, caller) as one, press_of(house, caller) as other:
        await one.webhook("*")
        for n in range(5):
            drafts = [one.publish(data=1, idempotency_key=f"k{n}"), other.publish(data=1, idempotency_key=f"k{n}")]
            answers = await asyncio.gather(*drafts)
            assert len({answer.event.id for answer in answers}) == 1
            assert sorted(answer.duplicate for answer in answers) == [False, True]
            assert [answer.matched_webhook_count for answer in answers] == [1, 1]
    assert await Event.all().count() == 5


async def test_a_key_that_another_process_takes_during_the_publish_is_noticed(press: Press) -> None:
    """Between the look and the leap: the ledger says that the key is lost, and the publish becomes a repeat."""
    async with press_of(press.house, press.caller) as other:
        looked = press.ledger.after["earlier_uses"] = Gate()
        late = asyncio.create_task(press.publish(data=1, idempotency_key="key"))
        fresh = asyncio.create_task(press.publish(data=2))
        await looked.reached.wait()
        theirs = await other.publish(data=1, idempotency_key="key")
        looked.opened.set()
        repeated = await late
        assert (repeated.duplicate, repeated.event.id) == (True, theirs.event.id)
        assert (await fresh).duplicate is False
    assert await Event.all().count() == 2


# ── the index of who wants what ─────────────────────────────────────────────────────────────────────────────────


async def test_what_another_process_changes_is_seen_by_the_next_publish(database_url: str) -> None:
    """Two processes share the database and nothing else: each has a publisher, and an index, of its own."""
    async with open_house(database_url) as house, press_of(house, await new_caller(house.desk)) as ours:
        theirs = await new_caller(house.desk, organization=await Organization.get(id=ours.caller.organization_id))

        async def matched() -> int:
            return (await ours.publish()).matched_webhook_count

        assert await matched() == 0
        webhook = id_of((await webhooks.create(theirs, WebhookDraft("https://1.1.1.1/", ["order.created"]))).webhook)
        assert await matched() == 1
        for change, count in [
            (WebhookChange(event_patterns=PatternsPatch(replace=["refund.*"])), 0),
            (WebhookChange(event_patterns=PatternsPatch(add=["order.*"])), 1),
            (WebhookChange(status=WebhookStatus.DISABLED), 0),
            (WebhookChange(status=WebhookStatus.PAUSED), 1),
            (WebhookChange(status=WebhookStatus.ENABLED), 1),
        ]:
            await webhooks.update(theirs, webhook, change)
            assert await matched() == count
        await event_types.put(theirs, EventTypeDraft("refund.made"))
        with pytest.raises(ValidationFailed):
            await matched()
        await event_types.put(theirs, EventTypeDraft("order.created"))
        assert await matched() == 1
        await webhooks.delete(theirs, webhook)
        assert await matched() == 0
        await Organization.filter(id=ours.caller.organization_id).update(deleted_at=from_ms(1))
        with pytest.raises(NotFound):
            await matched()


# ── the catalogue ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_once_there_is_a_catalogue_events_of_other_types_are_refused(press: Press) -> None:
    await press.publish("anything.goes")
    await event_types.put(press.caller, EventTypeDraft("order.created"))
    await press.publish("order.created")
    before = await stored()
    with pytest.raises(ValidationFailed) as refused:
        await press.publish("anything.goes")
    assert paths(refused.value) == [("type", "UNKNOWN_EVENT_TYPE")]
    with pytest.raises(ValidationFailed) as refused:
        await events.publish_many(
            press.caller, [EventDraft(t, 1) for t in ("order.created", "x", "order.created", "y")]
        )
    assert paths(refused.value) == [("1.type", "UNKNOWN_EVENT_TYPE"), ("3.type", "UNKNOWN_EVENT_TYPE")]
    assert await stored() == before
    theirs = await new_caller(press.caller.desk)
    await events.publish(theirs, EventDraft("anything.goes", 1))


SCHEMA = {
    "type": "object",
    "required": ["id", "lines"],
    "properties": {"id": {"type": "integer"}, "lines": {"type": "array", "items": {"type": "string"}}},
}


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"id": 1}, "data"),
        ("text", "data"),
        (None, "data"),
        ({"id": "1", "lines": []}, "data.id"),
        ({"id": 1, "lines": ["a", 2]}, "data.lines.1"),
    ],
)
async def test_data_that_its_type_does_not_allow_is_refused(press: Press, data: Any, path: str) -> None:
    await event_types.put(press.caller, EventTypeDraft("order.created", json_schema=SCHEMA))
    await press.publish(data={"id": 2**70, "lines": ["a"]})
    before = await stored()
    with pytest.raises(ValidationFailed) as refused:
        await press.publish(data=data)
    assert paths(refused.value) == [(path, "SCHEMA_MISMATCH")]
    assert await stored() == before
