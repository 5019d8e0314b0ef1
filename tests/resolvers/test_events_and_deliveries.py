"""Finding what was published and what became of it."""

import shlex
import subprocess
from datetime import timedelta
from typing import Any

import pytest
from tortoise.transactions import in_transaction

from app.wiring import House
from models.attempt import Attempt, AttemptOutcome
from models.delivery import Delivery, DeliveryStatus, DeliveryTrigger
from models.ids import Prefix, encode, new_id
from models.ledger import AttemptRecord, Settlement
from models.moment import from_ms
from models.webhook import PayloadEnvelope
from resolvers import deliveries, event_types, events, webhooks
from resolvers.caller import Caller
from resolvers.errors import NotFound, ValidationFailed
from resolvers.inputs import DeliveryFilter, EventDraft, EventTypeDraft, MomentRange, WebhookDraft
from resolvers.paging import PageRequest
from tests.houses import ManualClock, new_caller, stored
from tests.models.bench import select

PENDING, _, RETRYING, SUCCEEDED, DEAD_LETTERED, CANCELED = DeliveryStatus


@pytest.fixture
async def history(caller: Caller, clock: ManualClock) -> Caller:
    """Four events a minute apart for one webhook: delivered, given up, waiting for another try, waiting."""
    created = await webhooks.create(caller, WebhookDraft("https://1.1.1.1/hooks", ["*"]))
    endings = [
        (SUCCEEDED, AttemptOutcome.SUCCESS, 200),
        (DEAD_LETTERED, AttemptOutcome.HTTP_ERROR, 404),
        (RETRYING, AttemptOutcome.TIMEOUT, None),
    ]
    for n, name in enumerate(["order.created", "order.paid", "order.created", "refund.made"]):
        await events.publish(caller, EventDraft(name, n))
        if n < len(endings):
            status, outcome, code = endings[n]
            [claimed] = await caller.desk.ledger.claim(clock(), {created.webhook.id: 1})
            attempt = AttemptRecord(new_id(), 1, outcome, None, clock(), 1000, response_status=code)
            due_at = clock() + 3_600_000 if status is RETRYING else None
            await caller.desk.ledger.settle([Settlement(claimed, status, due_at, attempt)], clock(), 2**60)
        clock.advance(minutes=1)
    theirs = await new_caller(caller.desk)
    await webhooks.create(theirs, WebhookDraft("https://1.1.1.1/hooks", ["*"]))
    await events.publish(theirs, EventDraft("order.created", "theirs"))
    return caller


async def found(caller: Caller, **filter: Any) -> list[DeliveryStatus]:
    page = await deliveries.list_(caller, DeliveryFilter(**filter), PageRequest(first=100))
    assert await deliveries.count(caller, DeliveryFilter(**filter)) == len(page.items)
    return [delivery.status for delivery in reversed(page.items)]


async def test_deliveries_are_found_by_what_became_of_them(history: Caller, clock: ManualClock) -> None:
    def at(minutes: int) -> Any:
        return from_ms(clock()) - timedelta(minutes=4 - minutes)

    everything = [SUCCEEDED, DEAD_LETTERED, RETRYING, PENDING]
    rows: list[tuple[dict[str, Any], list[DeliveryStatus]]] = [
        ({}, everything),
        ({"status": [PENDING, SUCCEEDED]}, [SUCCEEDED, PENDING]),
        ({"status": []}, []),
        ({"event_types": ["order.created", "unheard.of"]}, [SUCCEEDED, RETRYING]),
        ({"event_types": ["\0", "\ud800", "x" * 500]}, []),
        ({"outcome": [AttemptOutcome.TIMEOUT, AttemptOutcome.SUCCESS]}, [SUCCEEDED, RETRYING]),
        ({"status_code_gte": 400}, [DEAD_LETTERED]),
        ({"status_code_lte": 399}, [SUCCEEDED]),
        ({"status_code_gte": 200, "status_code_lte": 404}, [SUCCEEDED, DEAD_LETTERED]),
        ({"status_code_gte": 10**6}, []),
        ({"status_code_lte": -(10**12)}, []),
        ({"created": MomentRange(since=at(1))}, everything[1:]),
        ({"created": MomentRange(until=at(1))}, everything[:1]),
        ({"created": MomentRange(at(1), at(3))}, everything[1:3]),
        ({"created": MomentRange(at(3), at(1))}, []),
        ({"trigger": [DeliveryTrigger.EVENT]}, everything),
        ({"trigger": [DeliveryTrigger.TEST, DeliveryTrigger.REPLAY]}, []),
        ({"status": [SUCCEEDED], "event_types": ["order.paid"]}, []),
    ]
    for given, expected in rows:
        assert await found(history, **given) == expected, given


async def test_what_waits_is_paged_from_both_ends(history: Caller) -> None:
    waiting = DeliveryFilter(status=[PENDING, RETRYING])
    newest = await deliveries.list_(history, waiting, PageRequest(first=1))
    older = await deliveries.list_(history, waiting, PageRequest(first=1, after=newest.cursor_of(newest.items[0])))
    oldest = await deliveries.list_(history, waiting, PageRequest(last=1))
    assert [page.items[0].status for page in (newest, older, oldest)] == [PENDING, RETRYING, RETRYING]
    assert (newest.has_next_page, older.has_next_page, oldest.has_previous_page) == (True, False, True)


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_what_waits_is_found_without_reading_what_has_ended(caller: Caller, clock: ManualClock) -> None:
    created = await webhooks.create(caller, WebhookDraft("https://1.1.1.1/hooks", ["*"]))
    await events.publish_many(caller, [EventDraft("order.paid", n) for n in range(1000)])
    await select("ANALYZE delivery")  # from now on PostgreSQL believes that everything waits
    await Delivery.all().update(status=SUCCEEDED, due_at=None, completed_at=from_ms(clock()))
    await events.publish(caller, EventDraft("order.paid", "the last"))
    waiting = DeliveryFilter(status=[PENDING, RETRYING])
    async with in_transaction():
        page = await deliveries.list_(caller, waiting, PageRequest())
        pages = await deliveries.pages_of_webhooks(caller, [created.webhook.id], waiting, PageRequest())
        [read] = await select("SELECT idx_tup_fetch AS rows FROM pg_stat_xact_user_tables WHERE relname = 'delivery'")
    assert [one.status for one in page.items] == [PENDING]
    assert [one.id for one in pages[created.webhook.id].items] == [page.items[0].id]
    assert read["rows"] == 3  # each list's one, and for the second its row besides


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_an_idle_webhooks_deliveries_are_found_without_walking_those_of_others(caller: Caller) -> None:
    idle, request = new_id(), PageRequest(first=50)
    await select(  # its share of all is a fortieth, and all of it is older than the other half
        "INSERT INTO delivery (id, organization_id, webhook_id, event_id, event_type, status, trigger, attempt_count, "
        "failure_count, fence, created_at, completed_at) SELECT lpad(to_hex(n), 32, '0')::uuid, $1, "
        "CASE WHEN n < 30000 AND n % 20 = 0 THEN $2 ELSE lpad(to_hex(n % 39), 32, '0')::uuid END, $1, 'order.paid', "
        "4, 1, 1, 0, 1, n, n FROM generate_series(1, 60000) n",
        caller.organization_id,
        idle,
    )
    await select("ANALYZE delivery")
    async with in_transaction():
        pages = await deliveries.pages_of_webhooks(caller, [idle], DeliveryFilter(), request)
        page = await deliveries.list_(caller, DeliveryFilter(), request, webhook_id=idle)
        [read] = await select("SELECT idx_tup_fetch AS rows FROM pg_stat_xact_user_tables WHERE relname = 'delivery'")
    assert len(page.items) == 50
    assert pages[idle].items == page.items
    assert read["rows"] <= 3 * 51  # their ids, and then they; and both at once


@pytest.mark.parametrize("database_kind", ["postgresql"])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"status": [CANCELED]}, [1]),
        ({"status": [CANCELED, DEAD_LETTERED]}, [3, 1]),
        ({"outcome": [AttemptOutcome.TIMEOUT, AttemptOutcome.TLS_ERROR]}, [2]),
        ({"outcome": [AttemptOutcome.HTTP_ERROR], "status": [RETRYING]}, [4]),
        ({"status_code_gte": 400}, [4, 3]),
        ({"status_code_lte": 199}, []),
    ],
)
async def test_trouble_is_found_without_reading_what_went_well(
    caller: Caller, asked: dict[str, Any], expected: list[int]
) -> None:
    webhook = new_id()
    await select(
        "INSERT INTO delivery (id, organization_id, webhook_id, event_id, event_type, status, trigger, attempt_count, "
        "failure_count, fence, created_at, completed_at, last_outcome, last_status_code) "
        "SELECT lpad(to_hex(n), 32, '0')::uuid, $1::uuid, $2::uuid, $1::uuid, 'order.paid', s, 1, 1, 0, 1, n, ended, "
        "outcome, code FROM (VALUES (0, 4, 1, 1, 200), (1, 6, 1, NULL, NULL), (2, 3, NULL, 4, NULL), "
        "(3, 5, 1, 2, 500), (4, 3, NULL, 2, 503)) AS odd(n, s, ended, outcome, code) UNION ALL "
        "SELECT lpad(to_hex(n), 32, '0')::uuid, $1, $2, $1, 'order.paid', 4, 1, 1, 0, 1, n, n, 1, 200 "
        "FROM generate_series(5, 20000) n",
        caller.organization_id,
        webhook,
    )
    await select("ANALYZE delivery")
    wanted, request = DeliveryFilter(**asked), PageRequest(first=50)
    async with in_transaction():
        page = await deliveries.list_(caller, wanted, request)
        pages = await deliveries.pages_of_webhooks(caller, [webhook], wanted, request)
        [read] = await select("SELECT idx_tup_fetch AS rows FROM pg_stat_xact_user_tables WHERE relname = 'delivery'")
    assert [one.id.int for one in page.items] == expected
    assert pages[webhook].items == page.items
    assert read["rows"] <= 3 * 4


async def test_deliveries_are_found_by_webhook_and_by_event(history: Caller) -> None:
    first = await Delivery.filter(organization_id=history.organization_id).order_by("id").first()
    assert first is not None
    by_webhook = await deliveries.list_(history, DeliveryFilter(), PageRequest(), webhook_id=first.webhook_id)
    by_event = await deliveries.list_(history, DeliveryFilter(), PageRequest(), event_id=first.event_id)
    assert (len(by_webhook.items), [one.id for one in by_event.items]) == (4, [first.id])
    assert await deliveries.count(history, DeliveryFilter(), webhook_id=first.webhook_id) == 4
    nothing = await deliveries.list_(history, DeliveryFilter(), PageRequest(), webhook_id=new_id())
    assert nothing.items == []


async def test_events_are_found_by_type_and_by_when_they_came(history: Caller, clock: ManualClock) -> None:
    async def listed(**given: Any) -> list[bytes]:
        return [event.data for event in reversed((await events.list_(history, PageRequest(), **given)).items)]

    third = from_ms(clock()) - timedelta(minutes=2)
    assert await listed() == [b"0", b"1", b"2", b"3"]
    assert await listed(types=["order.created"]) == [b"0", b"2"]
    assert await listed(types=[]) == await listed(types=["\0"]) == []
    assert await listed(received=MomentRange(since=third)) == [b"2", b"3"]
    assert await listed(received=MomentRange(until=third)) == [b"0", b"1"]
    assert await listed(types=["refund.made"], received=MomentRange(until=third)) == []


async def test_nothing_of_another_organization_is_found(history: Caller) -> None:
    theirs = await Delivery.filter(organization_id__not=history.organization_id).first()
    assert theirs is not None
    attempt = await Attempt.filter(organization_id=history.organization_id).first()
    assert attempt is not None
    stranger = await new_caller(history.desk)
    unknown = new_id()
    for caller, delivery_id, event_id in ((history, theirs.id, theirs.event_id), (history, unknown, unknown)):
        for asked in (
            deliveries.get(caller, encode(Prefix.DELIVERY, delivery_id)),
            events.get(caller, encode(Prefix.EVENT, event_id)),
            deliveries.attempt(stranger, encode(Prefix.ATTEMPT, attempt.id)),
            deliveries.get(caller, encode(Prefix.EVENT, delivery_id)),
            deliveries.get(caller, ""),
        ):
            with pytest.raises(NotFound):
                await asked
        assert await deliveries.by_ids(caller, [delivery_id]) == {}
        assert await events.by_ids(caller, [event_id]) == {}
        assert await deliveries.attempts_of(caller, [delivery_id]) == {delivery_id: []}
    assert await deliveries.attempts_of(stranger, [attempt.delivery_id]) == {attempt.delivery_id: []}
    assert len((await deliveries.attempts_of(history, [attempt.delivery_id]))[attempt.delivery_id]) == 1
    assert (await deliveries.attempt(history, encode(Prefix.ATTEMPT, attempt.id))).id == attempt.id


async def test_what_is_said_to_be_sent_is_in_the_webhooks_envelope(caller: Caller) -> None:
    event = (await events.publish(caller, EventDraft("order.created", {"id": 42}))).event
    row = await events.get(caller, encode(Prefix.EVENT, event.id))
    assert deliveries.sent_body(row, PayloadEnvelope.BARE_DATA) == b'{"id":42}'
    assert deliveries.sent_body(row, PayloadEnvelope.TYPE_OBJECT) == b'{"type":"order.created","object":{"id":42}}'
    assert deliveries.sent_body(row, PayloadEnvelope.STANDARD) == bytes(row.body) == event.body


def test_the_curl_command_survives_a_shell() -> None:
    url, value, body = "https://example.com/?a=$HOME&b='c'", 'it\'s "quoted" $(x)', '{"a":"it\'s `x` $y \\\\n ü"}'
    command = deliveries.curl(url, [("Host", "x"), ("Content-Length", "3"), ("X-A", value)], body)
    shown = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    expected = ["curl", "-i", "-X", "POST", url, "-H", f"X-A: {value}", "--data-binary", body]
    assert shown.stdout.splitlines() == expected == shlex.split(command)
    assert deliveries.curl(url, [], "x" * 20_001).endswith("--data-binary @body.json")
    assert "--data-binary" not in deliveries.curl(url, [], None)


# ── the catalogue ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_entry_of_the_catalogue_is_written_whole(caller: Caller, clock: ManualClock) -> None:
    draft = EventTypeDraft("order.created", "An order", "use order.made", {"type": "object"}, {"id": 1})
    made = await event_types.put(caller, draft)
    clock.advance(seconds=1)
    changed = await event_types.put(caller, EventTypeDraft("order.created", "Another text"))
    assert (changed.id, changed.created_at, changed.updated_at) == (
        made.id, from_ms(clock() - 1000), from_ms(clock()),
    )  # fmt: skip
    [row] = await event_types.list_(caller)
    assert row.description == "Another text"
    assert row.deprecation_reason is row.json_schema is row.example is None


async def test_the_catalogue_is_listed_by_name_and_by_patterns(caller: Caller) -> None:
    for name in ("order.paid", "refund.made", "order.created"):
        await event_types.put(caller, EventTypeDraft(name))
    await event_types.put(await new_caller(caller.desk), EventTypeDraft("order.theirs"))

    async def names(*matching: str) -> list[str]:
        return [row.name for row in await event_types.list_(caller, list(matching) or None)]

    assert await names() == ["order.created", "order.paid", "refund.made"]
    assert await names("order.*") == ["order.created", "order.paid"]
    assert await names("order.paid", "refund.*") == ["order.paid", "refund.made"]
    assert await names("*") == await names()
    assert await names("nothing.*") == []


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(
    ("given", "path", "code"),
    [
        ({"name": ""}, "name", "INVALID_FORMAT"),
        ({"name": "order.*"}, "name", "INVALID_FORMAT"),
        ({"name": "x" * 201}, "name", "INVALID_FORMAT"),
        ({"description": "x" * 2001}, "description", "TOO_LONG"),
        ({"deprecation_reason": "\0"}, "deprecationReason", "INVALID_FORMAT"),
        ({"example": float("nan")}, "example", "INVALID_FORMAT"),
        ({"example": 2**64}, "example", "INVALID_FORMAT"),
        ({"example": "\0"}, "example", "INVALID_FORMAT"),
        ({"example": "x" * 65_536}, "example", "TOO_LARGE"),
        ({"json_schema": {"type": "no such type"}}, "jsonSchema", "INVALID_FORMAT"),
        ({"json_schema": "text"}, "jsonSchema", "INVALID_FORMAT"),
        ({"json_schema": {"$ref": "https://example.com/schema.json"}}, "jsonSchema", "INVALID_FORMAT"),
        ({"json_schema": {"$ref": "file:///etc/passwd"}}, "jsonSchema", "INVALID_FORMAT"),
        ({"json_schema": {"type": "string"}, "example": 1}, "example", "SCHEMA_MISMATCH"),
    ],
)
async def test_each_rule_refuses_an_event_type(caller: Caller, given: dict[str, Any], path: str, code: str) -> None:
    before = await stored()
    with pytest.raises(ValidationFailed) as refused:
        await event_types.put(caller, EventTypeDraft(**{"name": "order.created", **given}))
    assert [(".".join(p.path), str(p.code)) for p in refused.value.fields] == [(path, code)]
    assert await stored() == before


async def test_each_of_the_catalogue_is_of_one_organization(house: House, caller: Caller) -> None:
    theirs = await new_caller(house.desk)
    ours = await event_types.put(caller, EventTypeDraft("order.created", "ours"))
    other = await event_types.put(theirs, EventTypeDraft("order.created", "theirs"))
    assert ours.id != other.id
    assert [row.description for row in await event_types.list_(caller)] == ["ours"]
