"""Pages by keyset: both ways, in every order, whatever comes meanwhile, and whatever a cursor is made of."""

import base64
from collections.abc import Sequence
from itertools import pairwise, product
from random import Random
from uuid import UUID

import orjson
import pytest

from models.ids import new_id
from models.moment import from_ms
from models.webhook import Webhook
from resolvers import events, organizations, webhooks
from resolvers.caller import Caller
from resolvers.errors import FieldErrorCode, ValidationFailed
from resolvers.inputs import EventDraft, WebhookDraft, WebhookFilter
from resolvers.paging import Page, PageRequest
from resolvers.webhooks import WebhookOrder
from tests.houses import ManualClock, new_caller

ORDERS = [WebhookOrder(field, down) for field in ("CREATED_AT", "UPDATED_AT", "NAME") for down in (False, True)]
NAMES = ["same", "same", "same", None, None, None, "Zebra", "zebra", "Ångström", "a_b", "%", "x" * 60, "1", "10"]


@pytest.fixture
async def webhook_ids(caller: Caller, clock: ManualClock) -> list[UUID]:
    """Webhooks with equal names, without names, and with equal times of their last change."""
    random = Random(5)
    made = []
    for name in NAMES:
        clock.advance(milliseconds=random.choice([0, 0, 1, 1000]))
        made.append((await webhooks.create(caller, WebhookDraft("https://1.1.1.1", ["*"], name=name))).webhook.id)
    for webhook_id in random.sample(made, 9):
        clock.advance(milliseconds=random.choice([0, 1]))
        await Webhook.filter(id=webhook_id).update(updated_at=from_ms(clock()))
    await webhooks.create(await new_caller(caller.desk), WebhookDraft("https://1.1.1.1", ["*"], name="theirs"))
    return made


async def ask(caller: Caller, order: WebhookOrder, **arguments: int | str | None) -> Page[Webhook]:
    request = PageRequest(**arguments)  # type: ignore[arg-type]
    return await webhooks.list_(caller, WebhookFilter(), request, order)


def ids(page: Page[Webhook]) -> list[UUID]:
    return [webhook.id for webhook in page.items]


def sorts_after(one: Webhook, other: Webhook, order: WebhookOrder) -> bool:
    """Where we can say it without knowing how the database sorts letters."""
    if order.field == "CREATED_AT":
        return (one.id < other.id) is not order.descending
    if order.field == "UPDATED_AT":
        return ((one.updated_at, one.id) < (other.updated_at, other.id)) is not order.descending
    if (one.name or "") == (other.name or ""):
        return (one.id < other.id) is not order.descending
    if not one.name or not other.name:
        return (not one.name) is not order.descending
    return True


async def test_all_pages_one_after_the_other_are_the_list_both_ways(caller: Caller, webhook_ids: list[UUID]) -> None:
    for order in ORDERS:
        whole = await ask(caller, order, first=100)
        assert sorted(ids(whole)) == sorted(webhook_ids)
        assert (whole.has_next_page, whole.has_previous_page) == (False, False)
        assert all(sorts_after(one, other, order) for one, other in pairwise(whole.items)), order
        for size in (1, 5):
            assert await _forwards(caller, order, size) == ids(whole), order
            assert await _backwards(caller, order, size) == ids(whole), order


async def _forwards(caller: Caller, order: WebhookOrder, size: int) -> list[UUID]:
    found: list[UUID] = []
    after = None
    while True:
        page = await ask(caller, order, first=size, after=after)
        assert page.has_previous_page is (after is not None)
        found += ids(page)
        if not page.has_next_page:
            return found
        assert len(page.items) == size
        after = page.cursor_of(page.items[-1])


async def _backwards(caller: Caller, order: WebhookOrder, size: int) -> list[UUID]:
    found: list[UUID] = []
    before = None
    while True:
        page = await ask(caller, order, last=size, before=before)
        assert page.has_next_page is (before is not None)
        found = ids(page) + found
        if not page.has_previous_page:
            return found
        before = page.cursor_of(page.items[0])


async def test_between_two_cursors_lies_what_lies_between_them(caller: Caller, webhook_ids: list[UUID]) -> None:
    for order in ORDERS:
        whole = await ask(caller, order, first=100)
        after, before = whole.cursor_of(whole.items[2]), whole.cursor_of(whole.items[9])
        assert ids(await ask(caller, order, first=100, after=after, before=before)) == ids(whole)[3:9]
        assert ids(await ask(caller, order, first=2, after=after, before=before)) == ids(whole)[3:5]
        assert ids(await ask(caller, order, last=2, after=after, before=before)) == ids(whole)[7:9]
        assert ids(await ask(caller, order, first=5, after=before, before=after)) == []


async def test_what_is_made_or_deleted_meanwhile_shifts_nothing(caller: Caller, webhook_ids: list[UUID]) -> None:
    order = WebhookOrder()
    first = await ask(caller, order, first=5)
    expected = sorted(webhook_ids, reverse=True)
    cursor = first.cursor_of(first.items[-1])
    await webhooks.create(caller, WebhookDraft("https://1.1.1.1", ["*"]))
    await Webhook.filter(id__in=[expected[0], expected[4]]).update(deleted_at=from_ms(1))
    assert ids(await ask(caller, order, first=5, after=cursor)) == expected[5:10]


async def test_a_page_is_of_20_unless_said_and_may_be_of_none(caller: Caller, webhook_ids: list[UUID]) -> None:
    for _ in range(10):
        await webhooks.create(caller, WebhookDraft("https://1.1.1.1", ["*"]))
    page = await ask(caller, WebhookOrder())
    assert (len(page.items), page.has_next_page) == (20, True)
    assert (await ask(caller, WebhookOrder(), first=0)).items == []
    assert (await ask(caller, WebhookOrder(), last=0)).has_previous_page is True


async def test_arguments_that_make_no_sense_are_refused_by_name(caller: Caller) -> None:
    rows: list[tuple[dict[str, int | str], str, FieldErrorCode]] = [
        ({"first": -1}, "first", FieldErrorCode.OUT_OF_RANGE),
        ({"first": 101}, "first", FieldErrorCode.OUT_OF_RANGE),
        ({"last": 101}, "last", FieldErrorCode.OUT_OF_RANGE),
        ({"first": 1, "last": 1}, "last", FieldErrorCode.INVALID_FORMAT),
        ({"first": 1, "after": ""}, "after", FieldErrorCode.INVALID_FORMAT),
        ({"last": 1, "before": "x"}, "before", FieldErrorCode.INVALID_FORMAT),
    ]
    for arguments, path, code in rows:
        with pytest.raises(ValidationFailed) as refused:
            await ask(caller, WebhookOrder(), **arguments)
        assert [(p.path, p.code) for p in refused.value.fields] == [((path,), code)]


def cursor(*place: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


SOME = str(new_id())
FORGED: Sequence[str] = [
    "",
    "=",
    "ö",
    "not base64!",
    "\0",
    "\ud800",
    base64.urlsafe_b64encode(b"not json").decode(),
    base64.urlsafe_b64encode(b"[" * 5000).decode(),
    cursor(),
    cursor("id"),
    cursor("id", None),
    cursor("id", 5),
    cursor("id", "not a uuid"),
    cursor("id", SOME, SOME),
    cursor("secret", "a", SOME),
    cursor("updated_at", SOME),
    cursor("updated_at", "text", SOME),
    cursor("updated_at", None, SOME),
    cursor("updated_at", 10**18, SOME),
    cursor("updated_at", {}, SOME),
    cursor("sort_name", "a\0b", SOME),
    cursor("sort_name", SOME),
]


async def test_no_cursor_that_somebody_makes_up_does_more_than_be_refused(caller: Caller) -> None:
    for order, forged in product(ORDERS[1::2], FORGED):
        with pytest.raises(ValidationFailed) as refused:
            await ask(caller, order, first=1, after=forged)
        assert [(p.path, p.code) for p in refused.value.fields] == [(("after",), FieldErrorCode.INVALID_FORMAT)]


async def test_a_cursor_is_of_its_order_and_of_no_other(caller: Caller, webhook_ids: list[UUID]) -> None:
    for order in ORDERS[1::2]:
        page = await ask(caller, order, first=1)
        for other in ORDERS[1::2]:
            if other != order:
                with pytest.raises(ValidationFailed):
                    await ask(caller, other, first=1, after=page.cursor_of(page.items[0]))


async def test_another_organizations_cursor_shows_nothing_of_theirs(caller: Caller, webhook_ids: list[UUID]) -> None:
    theirs = await new_caller(caller.desk)
    page = await ask(caller, WebhookOrder(), first=1)
    assert (await ask(theirs, WebhookOrder(), first=100, after=page.cursor_of(page.items[0]))).items == []


async def test_lists_of_events_and_organizations_go_by_pages_too(caller: Caller) -> None:
    for n in range(5):
        await events.publish(caller, EventDraft("a", n))
    first = await events.list_(caller, PageRequest(first=3))
    rest = await events.list_(caller, PageRequest(first=3, after=first.cursor_of(first.items[-1])))
    assert [event.data for event in [*first.items, *rest.items]] == [b"4", b"3", b"2", b"1", b"0"]
    platform = await new_caller(caller.desk, "platform")
    whole = await organizations.list_(platform, PageRequest(first=100))
    one = await organizations.list_(platform, PageRequest(last=1))
    assert [row.id for row in one.items] == [whole.items[-1].id]
    assert (one.has_previous_page, len(whole.items)) == (True, 2)
